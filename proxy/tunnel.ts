/**
 * One upgraded connection (WebSocket): the handshake with the application or the primary's proxy, then bytes both ways.
 *
 * Always holds: bytes flow only after the other side has said 101; what it says instead is passed on as an ordinary response that ends the
 * connection; each side is read only as fast as the other takes it; the end of one direction is the end of that direction alone, a broken
 * connection breaks the other one; one that is silent for too long is cut.
 */
import { request as httpRequest, type IncomingMessage } from "node:http";
import { connect, type Socket } from "node:net";
import { linger } from "./answer.ts";
import { responseFields } from "./headers.ts";
import type { Limits } from "./limits.ts";
import { failureOf, type AddedFields, type Failure, type RawFields } from "./relay.ts";

export interface TunnelTask {
  readonly socket: Socket;
  /** What the client has sent behind the head of its request. */
  readonly early: Buffer;
  readonly target: string;
  /** Origin of the application or of the other node's proxy. */
  readonly origin: URL;
  readonly from: "application" | "peer";
  /** Without Connection and Upgrade. */
  readonly fields: readonly string[];
  readonly limits: Limits;
  /** Looks at a response that is not 101. "drop": it does not reach the client, and this attempt is over. */
  readonly onHead: (status: number, raw: RawFields) => "pass" | "drop";
  readonly added: (raw: RawFields) => AddedFields | Promise<AddedFields>;
  /** The connection is upgraded. */
  readonly onOpen: () => void;
  /** Takes over a failed attempt; false means that the client is to be answered by `onRefused`. */
  readonly onFailure: (failure: Failure) => boolean;
  readonly onRefused: (error: Error) => void;
}

/** Starts the handshake. */
export function openTunnel(task: TunnelTask): void {
  const { socket, origin, target, fields, limits } = task;
  const { hostname, port } = origin;
  let isOver = false;
  // Half-open, so that one direction may end before the other.
  const outgoing = httpRequest({
    method: "GET", path: target, headers: [...fields, "Connection", "Upgrade", "Upgrade", "websocket"] as unknown as string[],
    // Without an agent: one connection for one request.
    createConnection: () => connect({ host: hostname.replace(/^\[|\]$/g, ""), port: port === "" ? 80 : Number(port), allowHalfOpen: true, noDelay: true }),
  });
  const timer = setTimeout(() => outgoing.destroy(Object.assign(new Error("no answer in time"), { code: "UND_ERR_HEADERS_TIMEOUT" })), limits.responseHeadMs);
  const clientGone = (): void => void outgoing.destroy();
  const over = (): boolean => {
    if (isOver) return false;
    isOver = true;
    clearTimeout(timer);
    socket.off("close", clientGone);
    return true;
  };
  socket.once("close", clientGone);
  outgoing.on("error", (error) => {
    if (!over() || socket.destroyed) return;
    if (!task.onFailure(failureOf(error))) task.onRefused(error);
  });
  outgoing.on("response", (response) => {
    if (!over()) return;
    const raw = response.rawHeaders;
    if (task.onHead(response.statusCode ?? 502, raw) === "drop") outgoing.destroy();
    else void passRefusal(task, response, raw);
  });
  outgoing.on("upgrade", (response, upstream: Socket, head) => {
    if (over()) void join(task, response, upstream, head);
    else upstream.destroy();
  });
  outgoing.end();
}

/** The application answers with an ordinary response; the connection ends with it. */
async function passRefusal(task: TunnelTask, response: IncomingMessage, raw: RawFields): Promise<void> {
  const { socket } = task;
  const { fields } = await task.added(raw);
  socket.write(headText(response, [...responseFields(raw, task.from, fields), "Connection", "close"]), "latin1");
  response.on("error", () => socket.destroy());
  socket.once("close", () => response.destroy());
  response.once("end", () => linger(socket, task.limits.lingerMs));
  response.pipe(socket);
}

async function join(task: TunnelTask, response: IncomingMessage, upstream: Socket, head: Buffer): Promise<void> {
  const { socket, early, limits, from } = task;
  const breakBoth = (): void => {
    socket.destroy();
    upstream.destroy();
  };
  upstream.on("error", breakBoth);
  socket.on("error", breakBoth);
  // A clean end has been passed on by the pipes; whatever else closes a side closes both.
  upstream.once("close", () => socket.writableFinished || socket.destroy());
  socket.once("close", () => upstream.writableFinished || upstream.destroy());
  const raw = response.rawHeaders;
  const { fields } = await task.added(raw);
  if (socket.destroyed || upstream.destroyed) {
    breakBoth();
    return;
  }
  const { upgrade = "websocket" } = response.headers;
  socket.write(headText(response, [...responseFields(raw, from, fields), "Connection", "Upgrade", "Upgrade", upgrade]), "latin1");
  if (head.length > 0) socket.write(head);
  if (early.length > 0) upstream.write(early);
  socket.setTimeout(limits.tunnelIdleMs, breakBoth);
  socket.pipe(upstream);
  upstream.pipe(socket);
  task.onOpen();
}

function headText({ statusCode, statusMessage }: IncomingMessage, fields: readonly string[]): string {
  let text = `HTTP/1.1 ${statusCode} ${statusMessage ?? ""}\r\n`;
  for (let i = 0; i < fields.length; i += 2) text += `${fields[i]}: ${fields[i + 1]}\r\n`;
  return `${text}\r\n`;
}

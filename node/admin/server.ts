/**
 * HTTP for the operator: `/health`, `/ready`, `/status`, `/metrics`, and for the command line `/import`, `/export`, `/verify`, `/repair` and `/diverged/…`.
 *
 * Always holds: it listens on the `admin` address and on a unix socket in the data folder. Commands that read or write files by path are
 * taken from the socket only, which nobody but the node's own user can open: the TCP port has no password. Answers are JSON, except metrics.
 */
import { rmSync } from "node:fs";
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from "node:http";
import { isAppError } from "../../proto/errors.ts";
import { splitAddress } from "../core/config.ts";
import { renderMetrics } from "./metrics-text.ts";
import type { AdminSource } from "./status.ts";

export interface AdminOptions {
  /** `host:port`. */
  readonly address: string;
  /** Path of the unix socket; what is left of an earlier one is removed. */
  readonly socket: string;
  readonly source: AdminSource;
  /** An error that is not of the error table: the client gets only "internal error". */
  readonly onError: (error: unknown, route: string) => void;
}

export interface AdminServer {
  /** The port it listens on. */
  readonly port: number;
  /** Stops listening; running commands are cut off. */
  close(): Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly body: object | string;
  readonly contentType?: string;
}

type Handler = (source: AdminSource, query: URLSearchParams) => Answer | Promise<Answer>;

/** Every route there is. `socketOnly`: not by TCP. */
const ROUTES: readonly { readonly method: "GET" | "POST"; readonly path: string; readonly socketOnly: boolean; readonly handler: Handler }[] = [
  { method: "GET", path: "/health", socketOnly: false, handler: (source) => (source.health() ? { status: 200, body: { ok: true } } : { status: 503, body: { ok: false } }) },
  {
    method: "GET", path: "/ready", socketOnly: false,
    handler(source) {
      const { ready, reason } = source.ready();
      return { status: ready ? 200 : 503, body: { ready, reason } };
    },
  },
  { method: "GET", path: "/status", socketOnly: false, handler: async (source) => ({ status: 200, body: await source.status() }) },
  {
    method: "GET", path: "/metrics", socketOnly: false,
    async handler(source) {
      const { text, contentType } = await renderMetrics(await source.metrics());
      return { status: 200, body: text, contentType };
    },
  },
  {
    method: "POST", path: "/handoff", socketOnly: true,
    handler: async (source, query) => ({ status: 200, body: { ok: true, ...(await source.handOff(query.get("to") ?? undefined)) } }),
  },
  { method: "POST", path: "/promote", socketOnly: true, handler: async (source, query) => ({ status: 200, body: { ok: true, ...(await source.promote(query.get("force") === "true")) } }) },
  {
    method: "POST", path: "/upgrade", socketOnly: true,
    handler(source) {
      source.upgrade();
      return { status: 202, body: { ok: true } };
    },
  },
  {
    method: "POST", path: "/import", socketOnly: true,
    handler: async (source, query) => ({ status: 200, body: { ok: true, ...(await source.import(query.get("name") ?? "", query.get("source") ?? "")) } }),
  },
  {
    method: "POST", path: "/export", socketOnly: true,
    handler: async (source, query) => ({ status: 200, body: { ok: true, ...(await source.export(query.get("name") ?? "", query.get("target") ?? "")) } }),
  },
  { method: "POST", path: "/verify", socketOnly: true, handler: async (source, query) => ({ status: 200, body: await source.verify(query.get("name") ?? undefined) }) },
  { method: "POST", path: "/repair", socketOnly: true, handler: async (source, query) => ({ status: 200, body: { ok: true, ...(await source.repair(query.get("name") ?? undefined)) } }) },
  { method: "POST", path: "/diverged/list", socketOnly: true, handler: async (source, query) => ({ status: 200, body: await source.diverged({ command: "list", seen: query.get("seen") === "true" }) }) },
  { method: "POST", path: "/diverged/show", socketOnly: true, handler: async (source, query) => ({ status: 200, body: await source.diverged({ command: "show", id: query.get("id") ?? "" }) }) },
  {
    method: "POST", path: "/diverged/export", socketOnly: true,
    handler: async (source, query) => ({ status: 200, body: await source.diverged({ command: "export", id: query.get("id") ?? "", target: query.get("target") ?? "" }) }),
  },
  { method: "POST", path: "/diverged/drop", socketOnly: true, handler: async (source, query) => ({ status: 200, body: await source.diverged({ command: "drop", id: query.get("id") ?? "" }) }) },
];

/** Starts both listeners. Rejects with the system error of the one that fails; the other is closed then. */
export async function startAdminServer(options: AdminOptions): Promise<AdminServer> {
  const { host, port } = splitAddress(options.address);
  const tcp = createServer(listener(options, false));
  const unix = createServer(listener(options, true));
  for (const server of [tcp, unix]) server.keepAliveTimeout = 5_000;
  const close = async (): Promise<void> => {
    await Promise.all([tcp, unix].map((server) => new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    })));
  };
  try {
    await listen(tcp, { host, port });
    rmSync(options.socket, { force: true });
    await listen(unix, { path: options.socket });
  } catch (error) {
    await close();
    throw error;
  }
  const address = tcp.address();
  return { port: typeof address === "object" && address !== null ? address.port : port, close };
}

function listen(server: Server, where: { readonly host: string; readonly port: number } | { readonly path: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(where, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function listener(options: AdminOptions, isSocket: boolean): RequestListener {
  return (request, response) => {
    // A body has no meaning here; it is read away so that the connection can be used again.
    request.resume();
    answer(options, isSocket, request).then(
      (result) => send(request, response, result),
      (error: unknown) => {
        if (!isAppError(error)) options.onError(error, request.url ?? "");
        send(request, response, errorAnswer(error));
      },
    );
  };
}

async function answer(options: AdminOptions, isSocket: boolean, request: IncomingMessage): Promise<Answer> {
  const url = URL.parse(request.url ?? "/", "http://admin");
  const onPath = ROUTES.filter((route) => route.path === url?.pathname);
  if (url === null || onPath.length === 0) return failure(404, "NOT_FOUND", `There is no ${url?.pathname ?? "such path"}`, `Known are ${ROUTES.map((route) => route.path).join(", ")}.`);
  const method = request.method === "HEAD" ? "GET" : request.method;
  const route = onPath.find((candidate) => candidate.method === method);
  if (route === undefined) return failure(405, "METHOD_NOT_ALLOWED", `${url.pathname} is not answered to ${request.method ?? "?"}`, `Use ${onPath[0]!.method}.`);
  if (route.socketOnly && !isSocket) return failure(403, "SOCKET_ONLY", `${url.pathname} is taken from the unix socket only`, "Use the command line on the node itself.");
  return await route.handler(options.source, url.searchParams);
}

function failure(status: number, code: string, message: string, hint: string): Answer {
  return { status, body: { error: { code, message, hint } } };
}

function errorAnswer(error: unknown): Answer {
  if (isAppError(error)) return failure(error.row.http, error.code, error.message, error.hint);
  return failure(500, "INTERNAL", "Internal error", "The log of the node has the details.");
}

function send(request: IncomingMessage, response: ServerResponse, { status, body, contentType }: Answer): void {
  const text = typeof body === "string" ? body : `${JSON.stringify(body)}\n`;
  response.writeHead(status, { "content-type": contentType ?? "application/json", "content-length": Buffer.byteLength(text), "cache-control": "no-store" });
  response.end(request.method === "HEAD" ? undefined : text);
}

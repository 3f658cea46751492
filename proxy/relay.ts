/**
 * One request on its way to the application or to the primary's proxy, and the response on its way back.
 *
 * Always holds: bodies are streamed both ways, each as fast as the slower side takes it; when one side breaks off, so does the other, and a response
 * that is cut short never looks complete; a request is sent a second time only when its method is idempotent, it has no body, and no byte of a
 * response has come (RFC 9110, section 9.2.2).
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Dispatcher } from "undici";
import { answer, type AnswerCode } from "./answer.ts";
import { BodyError, discardRest, RequestBody } from "./body.ts";
import type { CheckedRequest } from "./check.ts";
import { responseFields, trailerFields } from "./headers.ts";
import type { Limits } from "./limits.ts";

export interface RelayTask {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly id: string;
  readonly checked: CheckedRequest;
  readonly dispatcher: Dispatcher;
  readonly from: "application" | "peer";
  /** Fields of the request, as they go out. */
  readonly fields: string[];
  /** The client waits for "100 Continue" before it sends the body. */
  readonly expectsContinue: boolean;
  readonly limits: Limits;
  /** Fields for the response; asked once, when its head is there. A promise holds the head back. Must not reject. */
  readonly added: () => readonly string[] | Promise<readonly string[]>;
  /** Whether client connections are to end with this response. */
  readonly closing: () => boolean;
  readonly onRetry: () => void;
  /** What went wrong upstream; `code` is one of undici's or Node's. */
  readonly onUpstreamError: (code: string, error: Error) => void;
}

type RawFields = (Buffer | string)[];
type Phase = "waiting" | "head" | "body" | "over";

/** Starts the relay; from here on it ends by itself, with a response or with a cut connection. */
export function relay(task: RelayTask): void {
  new Relay(task).send();
}

class Relay implements Dispatcher.DispatchHandler {
  readonly #task: RelayTask;
  readonly #body: RequestBody | null;
  #phase: Phase = "waiting";
  #retried = false;
  #clientGone = false;
  #lengthGiven = false;
  #bodyBegun = false;
  #controller: Dispatcher.DispatchController | undefined;
  /** Trailers of a response that ended before its head went out. */
  #endedWith: RawFields | undefined;
  #stall: NodeJS.Timeout | undefined;

  constructor(task: RelayTask) {
    this.#task = task;
    const { checked, request, response, limits, expectsContinue } = task;
    const hasBody = checked.body.kind === "chunked" || (checked.body.kind === "length" && checked.body.bytes > 0);
    this.#body = hasBody ? new RequestBody(request, { limits, onWanted: () => expectsContinue && response.writeContinue() }) : null;
    response.once("close", () => this.#onClientClosed());
    response.on("error", ignore);
  }

  send(): void {
    const { checked, request, dispatcher, fields } = this.#task;
    dispatcher.dispatch({ path: checked.target, method: request.method as Dispatcher.HttpMethod, headers: fields, body: this.#body }, this);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#clientGone) controller.abort(new BodyError("client-gone"));
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: Readonly<Record<string, unknown>>, statusText?: string): void {
    const { response, request } = this.#task;
    if (status < 200) {
      // Early Hints are for the client; the other interim responses concern one connection.
      if (status === 103 && request.httpVersion === "1.1" && headers["link"] !== undefined) response.writeEarlyHints({ link: headers["link"] as string });
      return;
    }
    this.#phase = "head";
    const raw = controller.rawHeaders as RawFields;
    const added = this.#task.added();
    if (!(added instanceof Promise)) {
      this.#writeHead(status, statusText, raw, added);
      return;
    }
    controller.pause();
    void added.then((fields) => {
      if (this.#phase === "over" || this.#clientGone) return;
      this.#writeHead(status, statusText, raw, fields);
      if (this.#endedWith !== undefined) this.#end(this.#endedWith);
      else controller.resume();
    });
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    const { response, limits } = this.#task;
    this.#bodyBegun = true;
    if (response.write(chunk)) return;
    controller.pause();
    this.#stall = setTimeout(() => response.destroy(), limits.stalledClientMs);
    response.once("drain", () => {
      clearTimeout(this.#stall);
      controller.resume();
    });
  }

  onResponseEnd(controller: Dispatcher.DispatchController): void {
    const trailers = (controller.rawTrailers ?? []) as RawFields;
    if (this.#phase === "head") this.#endedWith = trailers;
    else this.#end(trailers);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    const { response, request } = this.#task;
    if (this.#phase === "over") return;
    const started = this.#phase !== "waiting";
    if (!started && !this.#retried && this.#body === null && !this.#clientGone && isStale(error) && IDEMPOTENT.has(request.method ?? "")) {
      this.#retried = true;
      this.#controller = undefined;
      this.#task.onRetry();
      this.send();
      return;
    }
    this.#phase = "over";
    this.#body?.destroy();
    if (this.#clientGone || (error instanceof BodyError && error.fault === "client-gone")) {
      request.socket.destroy();
      return;
    }
    if (!(error instanceof BodyError)) this.#task.onUpstreamError(codeOf(error), error);
    if (response.headersSent) {
      // A response without a length ends with the connection: only a reset tells the client that this was not the end.
      if (response.chunkedEncoding || this.#lengthGiven) response.destroy();
      else request.socket.resetAndDestroy();
      return;
    }
    this.#answer(answerFor(error, this.#task.from));
  }

  #writeHead(status: number, statusText: string | undefined, raw: RawFields, added: readonly string[]): void {
    const { response, from, closing } = this.#task;
    let fields = responseFields(raw, from, added);
    // RFC 9110, section 8.6 forbids the field here, and a client that believed it would wait for a body.
    if (status === 204) fields = withoutField(fields, "content-length");
    if (closing()) response.shouldKeepAlive = false;
    try {
      response.writeHead(status, PHRASE.test(statusText ?? "") ? statusText : undefined, fields);
      this.#phase = "body";
      this.#lengthGiven = fields.some((item, index) => index % 2 === 0 && item.toLowerCase() === "content-length");
      // Event streams send a head long before the first event; where the body is there already, both go out together.
      process.nextTick(() => this.#phase === "body" && !this.#bodyBegun && response.flushHeaders());
    } catch (error) {
      // The other side sent a head that must not be sent on.
      this.#controller?.abort(error as Error);
    }
  }

  #end(trailers: RawFields): void {
    const { response, request, limits } = this.#task;
    if (this.#phase === "over") return;
    this.#phase = "over";
    if (response.chunkedEncoding && trailers.length > 0) response.addTrailers(trailerFields(trailers));
    response.end();
    if (this.#body !== null && !this.#body.readableEnded) {
      // Answered before the request was read: the other side has closed, the rest is of no use to anybody.
      this.#body.destroy();
      discardRest(request, limits);
    } else request.resume();
  }

  #answer(code: AnswerCode): void {
    const { request, response, limits, id, expectsContinue } = this.#task;
    answer(request, response, limits, code, { id, close: expectsContinue });
  }

  #onClientClosed(): void {
    clearTimeout(this.#stall);
    if (this.#phase === "over") return;
    this.#clientGone = true;
    this.#body?.destroy();
    this.#controller?.abort(new BodyError("client-gone"));
  }
}

const IDEMPOTENT: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);
const PHRASE = /^[\t\x20-\x7e\x80-\xff]+$/;

function ignore(): void {}

function codeOf(error: Error): string {
  const { code } = error as { code?: unknown };
  return typeof code === "string" ? code : error.name;
}

/** What a kept-alive connection that the other side had closed looks like. */
function isStale(error: Error): boolean {
  return ["UND_ERR_SOCKET", "ECONNRESET", "EPIPE"].includes(codeOf(error));
}

function answerFor(error: Error, from: RelayTask["from"]): AnswerCode {
  if (error instanceof BodyError) return error.fault === "too-large" ? "BODY_LARGE" : "BODY_SLOW";
  const peer = from === "peer";
  switch (codeOf(error)) {
    case "ECONNREFUSED": case "ENOENT": case "EHOSTUNREACH": case "ENETUNREACH": case "ENOTFOUND": case "EAI_AGAIN": case "ETIMEDOUT":
      return peer ? "PRIMARY_DOWN" : "TARGET_DOWN";
    case "UND_ERR_CONNECT_TIMEOUT": case "UND_ERR_HEADERS_TIMEOUT":
      return peer ? "PRIMARY_SLOW" : "TARGET_SLOW";
    case "UND_ERR_INVALID_ARG": case "UND_ERR_NOT_SUPPORTED":
      return "INVALID";
    default:
      return peer ? "PRIMARY_BROKE" : "TARGET_BROKE";
  }
}

function withoutField(fields: readonly string[], name: string): string[] {
  return fields.filter((_item, index) => fields[index - (index % 2)]!.toLowerCase() !== name);
}

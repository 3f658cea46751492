/**
 * One attempt to send a request to the application or to the primary's proxy, and the response on its way back.
 *
 * Always holds: bodies are streamed both ways, each as fast as the slower side takes it; when one side breaks off, so does the other, and a response
 * that is cut short never looks complete. Whether a request is sent once more is not decided here: an attempt that failed before anything of
 * a response reached the client is offered to `onFailure` first.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Dispatcher } from "undici";
import { answer, type AnswerCode } from "./answer.ts";
import { BodyError, discardRest, type BodySource } from "./body.ts";
import type { Timed, Wheel } from "./fast-wheel.ts";
import { madePrivate, responseFields, trailerFields } from "./headers.ts";
import type { Limits } from "./limits.ts";
import { BodyTimeoutError, HeadersTimeoutError, type Receiver, type Sender } from "./trailing.ts";

/** Flat: name, value, name, value. */
export type RawFields = readonly string[];

/** Why an attempt failed. */
export interface Failure {
  /** "unsent": there was no connection, so nobody has seen the request. "broke": the connection ended before a response began. */
  readonly kind: "unsent" | "broke" | "other";
  /** undici's or Node's. */
  readonly code: string;
  /** For "broke": the connection had served nothing before, so it was not merely an idle one that had gone. */
  readonly wasNew: boolean;
}

export interface RelayTask {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly id: string;
  /** Origin form. */
  readonly target: string;
  readonly sender: Sender;
  readonly from: "application" | "peer";
  /** Fields of the request, as they go out. */
  readonly fields: string[];
  /** Undefined for a request without a body. */
  readonly body: BodySource | undefined;
  /** The client waits for "100 Continue" before it sends the body. */
  readonly expectsContinue: boolean;
  readonly limits: Limits;
  readonly wheel: Wheel;
  /** Looks at the head of a response. "drop": it does not reach the client, and this attempt is over. */
  readonly onHead: (status: number, raw: RawFields) => "pass" | "drop";
  /** Fields for the response; asked once, when its head is there. A promise holds the head back. Must not reject. */
  readonly added: (raw: RawFields) => AddedFields | Promise<AddedFields>;
  /** Whether client connections are to end with this response. */
  readonly closing: () => boolean;
  /** Takes over a failed attempt; false leaves it to the relay to answer. */
  readonly onFailure: (failure: Failure) => boolean;
  readonly onUpstreamError: (code: string, error: Error) => void;
}

export interface AddedFields {
  readonly fields: readonly string[];
  /** The response carries a position and must not be kept by a cache that serves others. */
  readonly isPrivate: boolean;
  /** Nothing of the response is for the client, who gets another one. */
  readonly isDropped?: boolean;
}

type Phase = "waiting" | "head" | "body" | "dropped" | "over";

/** How much of a response that nobody gets is read to keep its connection. */
const DROPPED_BYTES_MAX = 64 << 10;
/** A body that comes in one piece of at most so many bytes is written together with its head, as text: one write for both. */
const TEXT_BYTES_MAX = 16 << 10;

export interface Attempt {
  /** The response is out, or the client has gone. */
  clientClosed(): void;
}

/** Starts the attempt; from here on it ends by itself: with a response, with a cut connection, or with a call of `onFailure` or `onHead`. */
export function relay(task: RelayTask): Attempt {
  const attempt = new Relay(task);
  attempt.send();
  return attempt;
}

class Relay implements Receiver, Attempt, Timed {
  due = 0;
  slot = 0;
  previous: Timed | undefined = undefined;
  next: Timed | undefined = undefined;

  readonly #task: RelayTask;
  /** The time for the response is measured here: undici takes new timers for each request, and lets go of them half a second later. */
  #isTimed = false;
  #phase: Phase = "waiting";
  #clientGone = false;
  /** The length that the head of the response names. */
  #length: number | undefined;
  #bodyBegun = false;
  /** All of the body; its end comes in the same turn. */
  #whole: Buffer | undefined;
  #droppedBytes = 0;
  #abort: ((reason: Error) => void) | undefined;
  #resume: (() => void) | undefined;
  /** Trailers of a response that ended before its head went out. */
  #endedWith: RawFields | undefined;
  #stall: NodeJS.Timeout | undefined;

  constructor(task: RelayTask) {
    this.#task = task;
  }

  send(): void {
    const { target, request, sender, fields, limits } = this.#task;
    const body = this.#task.body?.open() ?? null;
    // How much of a stream has gone out, and whether the other side takes it, undici knows best.
    this.#isTimed = body === null || Buffer.isBuffer(body);
    const [headersTimeout, bodyTimeout] = this.#isTimed ? [0, 0] : [limits.responseHeadMs, limits.responseIdleMs];
    sender.dispatch({ path: target, method: request.method as Dispatcher.HttpMethod, headers: fields, body, headersTimeout, bodyTimeout, blocking: false }, this);
  }

  /** The other side did nothing for too long. */
  expired(): void {
    this.#abort?.(this.#phase === "waiting" ? new HeadersTimeoutError() : new BodyTimeoutError());
  }

  #within(ms: number): void {
    if (this.#isTimed) this.#task.wheel.set(this, ms);
  }

  /** The other side has nothing to do. */
  #untimed(): void {
    this.#task.wheel.remove(this);
  }

  #goOn(): void {
    if (this.#resume === undefined) return;
    this.#within(this.#task.limits.responseIdleMs);
    this.#resume();
  }

  onConnect(abort: (reason: Error) => void): void {
    this.#abort = abort;
    this.#within(this.#task.limits.responseHeadMs);
    if (this.#clientGone) abort(new BodyError("client-gone"));
  }

  onHeaders(status: number, received: readonly (Buffer | string)[], resume: () => void, statusText: string): boolean {
    const { response, request, onHead, body, limits } = this.#task;
    const raw = textsOf(received);
    if (status < 200) {
      // Early Hints are for the client; the other interim responses concern one connection.
      const link = status === 103 && request.httpVersion === "1.1" ? allFields(raw, "link") : [];
      if (link.length > 0) response.writeEarlyHints({ link });
      this.#within(limits.responseHeadMs);
      return true;
    }
    this.#phase = "head";
    this.#resume = resume;
    this.#within(limits.responseIdleMs);
    if (onHead(status, raw) === "drop") {
      this.#leave("dropped");
      return true;
    }
    const added = this.#task.added(raw);
    if (!(added instanceof Promise)) {
      body?.release();
      this.#writeHead(status, statusText, raw, added);
      return true;
    }
    this.#untimed();
    void added.then((fields) => {
      if (this.#phase === "over" || this.#clientGone) return;
      if (fields.isDropped === true) {
        this.#leave("dropped");
        this.#goOn();
        return;
      }
      body?.release();
      this.#writeHead(status, statusText, raw, fields);
      if (this.#endedWith !== undefined) this.#end(this.#endedWith);
      else this.#goOn();
    });
    return false;
  }

  onData(chunk: Buffer): boolean {
    const { response, limits } = this.#task;
    this.#within(limits.responseIdleMs);
    if (this.#phase === "dropped") {
      this.#droppedBytes += chunk.length;
      if (this.#droppedBytes > DROPPED_BYTES_MAX) this.#abort?.(new Error("nobody wants this response"));
      return true;
    }
    if (!this.#bodyBegun && chunk.length === this.#length && chunk.length <= TEXT_BYTES_MAX) {
      this.#whole = chunk;
      return true;
    }
    this.#bodyBegun = true;
    if (response.write(chunk)) return true;
    this.#awaitClient();
    return false;
  }

  onComplete(received: readonly (Buffer | string)[] | null): void {
    const trailers = received === null || received.length === 0 ? NO_FIELDS : textsOf(received);
    // Nothing that comes on the connection from here on is this request's.
    this.#resume = undefined;
    this.#untimed();
    if (this.#phase === "head") this.#endedWith = trailers;
    else this.#end(trailers);
  }

  onError(error: Error): void {
    const { response, request, body, onFailure, onUpstreamError } = this.#task;
    this.#untimed();
    if (this.#phase === "over" || this.#phase === "dropped") return;
    const isStarted = this.#phase !== "waiting";
    const isClients = this.#clientGone || error instanceof BodyError;
    if (!isStarted && !isClients && onFailure(failureOf(error))) {
      this.#leave("over");
      return;
    }
    this.#leave("over");
    body?.close();
    if (this.#clientGone || (error instanceof BodyError && error.fault === "client-gone")) {
      request.socket.destroy();
      return;
    }
    if (!(error instanceof BodyError)) onUpstreamError(codeOf(error), error);
    if (response.headersSent) {
      // A response without a length ends with the connection: only a reset tells the client that this was not the end.
      if (response.chunkedEncoding || this.#length !== undefined) response.destroy();
      else request.socket.resetAndDestroy();
      return;
    }
    this.#answer(answerFor(error, this.#task.from));
  }

  #writeHead(status: number, statusText: string | undefined, raw: RawFields, added: AddedFields): void {
    const { response, from, closing } = this.#task;
    let fields = responseFields(raw, from, added.fields);
    if (added.isPrivate) fields = madePrivate(fields);
    // RFC 9110, section 8.6 forbids the field here, and a client that believed it would wait for a body.
    if (status === 204) fields = withoutField(fields, "content-length");
    this.#length = lengthOf(fields);
    if (closing()) response.shouldKeepAlive = false;
    try {
      response.writeHead(status, PHRASE.test(statusText ?? "") ? statusText : undefined, fields);
      this.#phase = "body";
      // Event streams send a head long before the first event; where the body is there already, both go out together.
      process.nextTick(flushHead, this);
    } catch (error) {
      // The other side sent a head that must not be sent on.
      this.#abort?.(error as Error);
    }
  }

  /** The head goes out alone, unless the body has begun with it. */
  flushHead(): void {
    if (this.#phase === "body" && !this.#bodyBegun) this.#task.response.flushHeaders();
  }

  #awaitClient(): void {
    const { response, limits } = this.#task;
    this.#untimed();
    this.#stall = setTimeout(() => response.destroy(), limits.stalledClientMs);
    response.once("drain", () => {
      clearTimeout(this.#stall);
      this.#goOn();
    });
  }

  #end(trailers: RawFields): void {
    const { response, request, limits, body } = this.#task;
    if (this.#phase === "over" || this.#phase === "dropped") return;
    this.#leave("over");
    if (response.chunkedEncoding && trailers.length > 0) response.addTrailers(trailerFields(trailers));
    if (this.#whole === undefined) response.end();
    else response.end(this.#whole.toString("latin1"), "latin1");
    const isRead = body === undefined || body.ended;
    body?.close();
    // Answered before the request was read: the other side has closed, the rest is of no use to anybody.
    if (isRead) request.resume();
    else discardRest(request, limits);
  }

  #answer(code: AnswerCode): void {
    const { request, response, limits, id, expectsContinue } = this.#task;
    answer(request, response, limits, code, { id, close: expectsContinue });
  }

  /** This attempt has no part in the response any more. */
  #leave(phase: "dropped" | "over"): void {
    this.#phase = phase;
    clearTimeout(this.#stall);
  }

  clientClosed(): void {
    clearTimeout(this.#stall);
    if (this.#phase === "over" || this.#phase === "dropped") return;
    this.#clientGone = true;
    this.#task.body?.close();
    this.#abort?.(new BodyError("client-gone"));
  }
}

function flushHead(relay: Relay): void {
  relay.flushHead();
}

const NO_FIELDS: RawFields = [];

function textsOf(received: readonly (Buffer | string)[]): string[] {
  const raw: string[] = [];
  for (const item of received) raw.push(typeof item === "string" ? item : item.toString("latin1"));
  return raw;
}

function allFields(raw: RawFields, name: string): string[] {
  return raw.filter((_item, index) => index % 2 === 1 && raw[index - 1]!.toLowerCase() === name);
}

/** What Content-Length says; undefined without one. */
function lengthOf(fields: readonly string[]): number | undefined {
  for (let i = 0; i < fields.length; i += 2) if (fields[i]!.length === 14 && fields[i]!.toLowerCase() === "content-length") return Number(fields[i + 1]);
  return undefined;
}

const PHRASE = /^[\t\x20-\x7e\x80-\xff]+$/;

function codeOf(error: Error): string {
  const { code } = error as { code?: unknown };
  return typeof code === "string" ? code : error.name;
}

/** What an error of a connection says about the request that was sent on it. */
export function failureOf(error: Error): Failure {
  const code = codeOf(error);
  const { syscall, socket } = error as { syscall?: unknown; socket?: { bytesRead?: unknown } | null };
  const isUnsent = code === "ECONNREFUSED" || code === "UND_ERR_CONNECT_TIMEOUT" || syscall === "connect" || syscall === "getaddrinfo" || error instanceof AggregateError;
  if (isUnsent) return { kind: "unsent", code, wasNew: true };
  return { kind: BROKEN.has(code) ? "broke" : "other", code, wasNew: socket?.bytesRead === 0 };
}

/** What a connection looks like that the other side has closed or reset. */
const BROKEN: ReadonlySet<string> = new Set(["UND_ERR_SOCKET", "ECONNRESET", "EPIPE", "ETIMEDOUT"]);

/** The answer to a client whose request met this error. */
export function answerFor(error: Error, from: RelayTask["from"]): AnswerCode {
  if (error instanceof BodyError) return error.fault === "too-large" ? "BODY_LARGE" : "BODY_SLOW";
  const isPeer = from === "peer";
  const code = codeOf(error);
  if (code === "UND_ERR_CONNECT_TIMEOUT" || code === "UND_ERR_HEADERS_TIMEOUT") return isPeer ? "PRIMARY_SLOW" : "TARGET_SLOW";
  if (code === "UND_ERR_INVALID_ARG" || code === "UND_ERR_NOT_SUPPORTED") return "INVALID";
  if (failureOf(error).kind === "unsent") return isPeer ? "PRIMARY_DOWN" : "TARGET_DOWN";
  return isPeer ? "PRIMARY_BROKE" : "TARGET_BROKE";
}

function withoutField(fields: readonly string[], name: string): string[] {
  return fields.filter((_item, index) => fields[index - (index % 2)]!.toLowerCase() !== name);
}

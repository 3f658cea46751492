/**
 * Sends requests that end with trailer fields, which undici cannot send: by Node's own client, behind the part of undici's interface that relay.ts uses.
 *
 * Always holds: each such request has a connection of its own that ends with it, so nothing can be read as a second request; the body is asked for
 * once there is a connection, and taken as fast as that takes it; the last chunk is written only when the client's message ended. After an error
 * or an end the handler hears nothing more. The errors of time are undici's, so that all requests are judged by the same table.
 */
import { request as httpRequest, type Agent, type ClientRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { createRequire } from "node:module";
import type { Readable } from "node:stream";
import type { Dispatcher, errors as Errors } from "undici";
import type { Limits } from "./limits.ts";

// From its place, as the pool in upstreams.ts: the package's entry loads far more.
const { BodyTimeoutError, ConnectTimeoutError, HeadersTimeoutError, InvalidArgumentError, SocketError } = createRequire(import.meta.url)("undici/lib/core/errors.js") as typeof Errors;

/** A request as relay.ts sends it. */
export interface Sending {
  readonly path: string;
  readonly method: Dispatcher.HttpMethod;
  /** Flat: name, value, name, value. */
  readonly headers: string[];
  readonly body: Readable | null;
}

/** What relay.ts needs of an upstream; undici's pools are such. */
export interface Sender {
  dispatch(sending: Sending, handler: Dispatcher.DispatchHandler): unknown;
}

export type SendLimits = Pick<Limits, "connectMs" | "responseHeadMs" | "responseIdleMs" | "responseHeadBytes">;

export interface TrailingOptions {
  readonly origin: URL;
  /** Bounds the connections; keeps none. */
  readonly agent: Agent;
  readonly limits: SendLimits;
  /** Asked once the body has been read to its end. */
  readonly trailers: () => [string, string][];
}

/** A sender whose requests end with trailers. */
export function trailingSender(options: TrailingOptions): Sender {
  return { dispatch: (sending, handler) => new TrailingRequest(options, handler).start(sending) };
}

/** One request; also the controller that its handler gets. */
class TrailingRequest implements Dispatcher.DispatchController {
  readonly #options: TrailingOptions;
  readonly #handler: Dispatcher.DispatchHandler;
  #request: ClientRequest | undefined;
  #response: IncomingMessage | undefined;
  #timer: NodeJS.Timeout | undefined;
  #over = false;
  aborted = false;
  reason: Error | null = null;
  paused = false;

  constructor(options: TrailingOptions, handler: Dispatcher.DispatchHandler) {
    this.#options = options;
    this.#handler = handler;
  }

  get rawHeaders(): string[] {
    return this.#response?.rawHeaders ?? [];
  }

  get rawTrailers(): string[] {
    return this.#response?.rawTrailers ?? [];
  }

  start({ path, method, headers, body }: Sending): void {
    const { origin, agent, limits } = this.#options;
    // Before there is a connection a body can fail as well: its client may go while the request waits for one.
    body?.on("error", (error) => this.#fail(error));
    body?.on("close", () => body.readableEnded || this.#fail(new SocketError("the body was taken away")));
    this.#handler.onRequestStart?.(this, {});
    if (this.#over) return;
    const isTls = origin.protocol === "https:";
    let request: ClientRequest;
    try {
      request = (isTls ? httpsRequest : httpRequest)({
        protocol: origin.protocol, hostname: origin.hostname.replace(/^\[|\]$/g, ""), port: origin.port, agent, method, path, insecureHTTPParser: false, maxHeaderSize: limits.responseHeadBytes,
        // Said outright, because Node would send the body of some methods without a frame.
        headers: [...headers, "Transfer-Encoding", "chunked"],
      });
    } catch (error) {
      this.#fail(new InvalidArgumentError((error as Error).message));
      return;
    }
    this.#request = request;
    // Node would silently drop the fields beyond its count; their size is bounded.
    request.maxHeadersCount = 0;
    request.on("error", (error) => this.#fail(error));
    request.on("close", () => this.#response === undefined && this.#fail(new SocketError("other side closed")));
    request.on("upgrade", () => this.#fail(new SocketError("bad upgrade")));
    request.on("information", ({ statusCode, headers: early }) => !this.#over && this.#handler.onResponseStart?.(this, statusCode, early));
    request.on("response", (response) => this.#onResponse(response));
    request.once("socket", (socket) => {
      if (this.#over) return;
      this.#within(limits.connectMs, () => new ConnectTimeoutError());
      socket.once(isTls ? "secureConnect" : "connect", () => this.#send(request, body));
    });
  }

  abort(reason: Error): void {
    this.aborted = true;
    this.reason = reason;
    this.#fail(reason);
  }

  pause(): void {
    this.paused = true;
    this.#response?.pause();
  }

  resume(): void {
    this.paused = false;
    this.#timer?.refresh();
    this.#response?.resume();
  }

  #send(request: ClientRequest, body: Readable | null): void {
    if (this.#over) return;
    const { limits, trailers } = this.#options;
    request.flushHeaders();
    let isSent = false;
    // While the client has yet to send, the other side is not the slow one.
    this.#within(limits.responseHeadMs, () => (isSent || request.writableNeedDrain ? new HeadersTimeoutError() : undefined));
    const end = (): void => {
      if (this.#over) return;
      isSent = true;
      if (this.#response === undefined) this.#timer?.refresh();
      try {
        request.addTrailers(trailers());
        request.end();
      } catch (error) {
        this.#fail(error as Error);
      }
    };
    if (body === null) {
      end();
      return;
    }
    body.on("data", () => this.#response === undefined && this.#timer?.refresh());
    body.on("end", end);
    body.pipe(request, { end: false });
  }

  #onResponse(response: IncomingMessage): void {
    const { limits } = this.#options;
    this.#response = response;
    if (this.#over) return;
    this.#within(limits.responseIdleMs, () => (this.paused ? undefined : new BodyTimeoutError()));
    response.on("data", (chunk: Buffer) => {
      if (this.#over) return;
      this.#timer?.refresh();
      this.#handler.onResponseData?.(this, chunk);
    });
    response.on("end", () => {
      if (this.#over) return;
      this.#over = true;
      clearTimeout(this.#timer);
      this.#handler.onResponseEnd?.(this, {});
      // What is left of the request is of no use to anybody.
      if (!this.#request!.writableFinished) this.#request!.destroy();
    });
    response.on("error", (error) => this.#fail(error));
    response.on("close", () => response.complete || this.#fail(new SocketError("other side closed")));
    this.#handler.onResponseStart?.(this, response.statusCode!, response.headers, response.statusMessage);
  }

  /** Fails after a time without a refresh, unless `late` says that nobody is late; then the time runs again. */
  #within(ms: number, late: () => Error | undefined): void {
    clearTimeout(this.#timer);
    const timer = setTimeout(() => {
      const error = late();
      if (error === undefined) timer.refresh();
      else this.#fail(error);
    }, ms);
    this.#timer = timer;
  }

  #fail(error: Error): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    // As undici's errors say it, for who asks whether the connection had served anything before.
    if (!("socket" in error) || error.socket === null) Object.assign(error, { socket: { bytesRead: this.#request?.socket?.bytesRead ?? 0 } });
    this.#request?.destroy();
    this.#handler.onResponseError?.(this, error);
  }
}

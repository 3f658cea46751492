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
export const { BodyTimeoutError, ConnectTimeoutError, HeadersTimeoutError, InvalidArgumentError, SocketError } = createRequire(import.meta.url)("undici/lib/core/errors.js") as typeof Errors;

/** A request as relay.ts sends it. */
export interface Sending {
  readonly path: string;
  readonly method: Dispatcher.HttpMethod;
  /** Flat: name, value, name, value. */
  readonly headers: string[];
  readonly body: Readable | Buffer | null;
  /** 0: who sends it measures the time itself, and aborts. */
  readonly headersTimeout: number;
  readonly bodyTimeout: number;
  /** A connection has one request at a time anyway; to hold others back from it would only be work. */
  readonly blocking: false;
}

/**
 * What becomes of a request: undici's own calls for it, which come with the fields as they were received. (Its other set of calls, with a controller,
 * has them parsed into objects first, twice for each response.) False from `onHeaders` or `onData`: no more until `resume` is called.
 */
export interface Receiver {
  /** It goes out now; `abort` ends it, and then `onError` comes. */
  onConnect(abort: (reason: Error) => void): void;
  /** Also for interim responses, whose answer counts for nothing. */
  onHeaders(status: number, raw: readonly (Buffer | string)[], resume: () => void, statusText: string): boolean;
  onData(chunk: Buffer): boolean;
  onComplete(trailers: readonly (Buffer | string)[] | null): void;
  onError(error: Error): void;
}

/** What relay.ts needs of an upstream; undici's pools are such. */
export interface Sender {
  dispatch(sending: Sending, receiver: Receiver): unknown;
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
  return { dispatch: (sending, receiver) => new TrailingRequest(options, receiver).start(sending) };
}

class TrailingRequest {
  readonly #options: TrailingOptions;
  readonly #receiver: Receiver;
  #request: ClientRequest | undefined;
  #response: IncomingMessage | undefined;
  #timer: NodeJS.Timeout | undefined;
  #over = false;
  #paused = false;

  constructor(options: TrailingOptions, receiver: Receiver) {
    this.#options = options;
    this.#receiver = receiver;
  }

  start({ path, method, headers, body }: Sending): void {
    const { origin, agent, limits } = this.#options;
    // Before there is a connection a body can fail as well: its client may go while the request waits for one.
    if (body !== null && !Buffer.isBuffer(body)) {
      body.on("error", (error) => this.#fail(error));
      body.on("close", () => body.readableEnded || this.#fail(new SocketError("the body was taken away")));
    }
    this.#receiver.onConnect((reason) => this.#fail(reason));
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
    request.on("information", ({ statusCode, rawHeaders, statusMessage }) => !this.#over && this.#receiver.onHeaders(statusCode, rawHeaders, this.#resume, statusMessage));
    request.on("response", (response) => this.#onResponse(response));
    request.once("socket", (socket) => {
      if (this.#over) return;
      this.#within(limits.connectMs, () => new ConnectTimeoutError());
      socket.once(isTls ? "secureConnect" : "connect", () => this.#send(request, body));
    });
  }

  #pause(): void {
    this.#paused = true;
    this.#response?.pause();
  }

  readonly #resume = (): void => {
    this.#paused = false;
    this.#timer?.refresh();
    this.#response?.resume();
  };

  #send(request: ClientRequest, body: Readable | Buffer | null): void {
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
    if (body === null || Buffer.isBuffer(body)) {
      if (body !== null) request.write(body);
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
    this.#within(limits.responseIdleMs, () => (this.#paused ? undefined : new BodyTimeoutError()));
    response.on("data", (chunk: Buffer) => {
      if (this.#over) return;
      this.#timer?.refresh();
      if (!this.#receiver.onData(chunk)) this.#pause();
    });
    response.on("end", () => {
      if (this.#over) return;
      this.#over = true;
      clearTimeout(this.#timer);
      this.#receiver.onComplete(response.rawTrailers);
      // What is left of the request is of no use to anybody.
      if (!this.#request!.writableFinished) this.#request!.destroy();
    });
    response.on("error", (error) => this.#fail(error));
    response.on("close", () => response.complete || this.#fail(new SocketError("other side closed")));
    if (!this.#receiver.onHeaders(response.statusCode!, response.rawHeaders, this.#resume, response.statusMessage ?? "")) this.#pause();
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
    this.#receiver.onError(error);
  }
}

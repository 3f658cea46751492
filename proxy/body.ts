/**
 * The body of a request on its way to the application: counted, timed, and read only as fast as the other side takes it.
 *
 * Always holds: it ends without an error only when the client's message ended; a body that is too long, too slow or broken off destroys the stream,
 * so that the connection to the application is cut and never sees a body that looks complete. What the other side did not want is read and
 * thrown away within bounds, so that the client gets to see the answer.
 */
import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import type { Limits } from "./limits.ts";

export type BodyFault = "too-large" | "too-slow" | "client-gone";

/** Why a request body ended early. Never leaves the proxy: it becomes a status or a cut connection. */
export class BodyError extends Error {
  readonly fault: BodyFault;

  constructor(fault: BodyFault) {
    super(`request body: ${fault}`);
    this.name = "BodyError";
    this.fault = fault;
  }
}

export interface BodyOptions {
  readonly limits: Pick<Limits, "bodyBytes" | "bodyIdleMs">;
  /** Called once, when the first byte is wanted: the moment for "100 Continue". */
  readonly onWanted: () => void;
}

export class RequestBody extends Readable {
  readonly #request: IncomingMessage;
  readonly #options: BodyOptions;
  #bytes = 0;
  #wanted = false;
  #idle: NodeJS.Timeout | undefined;

  constructor(request: IncomingMessage, options: BodyOptions) {
    super({ highWaterMark: 64 << 10 });
    this.#request = request;
    this.#options = options;
  }

  override _read(): void {
    if (this.#wanted) {
      this.#idle?.refresh();
      this.#request.resume();
      return;
    }
    this.#wanted = true;
    this.#options.onWanted();
    this.#idle = setTimeout(() => this.#isIdle(), this.#options.limits.bodyIdleMs);
    this.#request.on("data", this.#onData).on("end", this.#onEnd).on("close", this.#onClose).on("error", this.#onClose);
    if (this.#request.destroyed && !this.#request.readableEnded) this.#onClose();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#idle);
    this.#request.off("data", this.#onData).off("end", this.#onEnd).off("close", this.#onClose);
    this.#request.pause();
    done(error);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#options.limits.bodyBytes) {
      this.destroy(new BodyError("too-large"));
      return;
    }
    this.#idle?.refresh();
    if (!this.push(chunk)) this.#request.pause();
  };

  readonly #onEnd = (): void => {
    clearTimeout(this.#idle);
    this.push(null);
  };

  readonly #onClose = (): void => {
    if (!this.#request.readableEnded) this.destroy(new BodyError("client-gone"));
  };

  #isIdle(): void {
    // While the other side does not take what is there, the client is not the slow one.
    if (this.#request.isPaused()) this.#idle?.refresh();
    else this.destroy(new BodyError("too-slow"));
  }
}

/**
 * Reads and drops what is left of a request after its answer. A client that goes on past the bounds is cut off: it has had time to see the
 * answer, which a connection closed at once would have destroyed on its way (RFC 9112, section 9.6).
 */
export function discardRest(request: IncomingMessage, limits: Pick<Limits, "lingerBytes" | "lingerMs">): void {
  if (request.complete && request.readableLength === 0) {
    request.resume();
    return;
  }
  let bytes = 0;
  const cut = (): void => {
    clearTimeout(timer);
    if (!request.complete) request.socket.destroy();
  };
  const timer = setTimeout(cut, limits.lingerMs);
  const stop = (): void => clearTimeout(timer);
  request.on("error", stop).on("end", stop).on("close", stop);
  request.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > limits.lingerBytes) cut();
  });
  request.resume();
}

/**
 * The body of a request on its way to the application: counted, timed, read only as fast as the other side takes it, and kept within bounds
 * so that it can be sent again.
 *
 * Always holds: a reader ends without an error only when the client's message ended; a body that is too long, too slow or broken off destroys its
 * reader, so that the connection to the application is cut and never sees a body that looks complete. What is kept of all requests together
 * stays below one bound. What the other side did not want is read and thrown away within bounds, so that the client gets to see the answer. A short
 * body that has come with its head needs none of this: it is taken, and sent, in one piece.
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

/** Room for kept bodies, shared by all requests of the process. */
export class Room {
  #free: number;

  constructor(bytes: number) {
    this.#free = bytes;
  }

  take(bytes: number): boolean {
    if (bytes > this.#free) return false;
    this.#free -= bytes;
    return true;
  }

  give(bytes: number): void {
    this.#free += bytes;
  }

  get free(): number {
    return this.#free;
  }
}

export interface BodyOptions {
  readonly limits: Pick<Limits, "bodyBytes" | "bodyIdleMs" | "bodyPeriodBytes" | "keptBodyBytes">;
  readonly room: Room;
  /** Called once, when the first byte is wanted: the moment for "100 Continue". */
  readonly onWanted: () => void;
}

/** The body as the client sends it, once, and as often as it is sent on. */
export class BodySource {
  readonly #request: IncomingMessage;
  readonly #options: BodyOptions;
  #reader: BodyReader | undefined;
  #kept: Buffer[] | undefined = [];
  #keptBytes = 0;
  #bytes = 0;
  #begun = false;
  #ended = false;
  #fault: BodyFault | undefined;
  #period: NodeJS.Timeout | undefined;
  #periodBytes = 0;
  #wasPaused = false;
  #whole: Buffer | undefined;

  constructor(request: IncomingMessage, options: BodyOptions) {
    this.#request = request;
    this.#options = options;
  }

  /** Whether everything that was read is still here, so that it can be sent from the beginning. */
  get atHand(): boolean {
    return this.#kept !== undefined && this.#fault === undefined;
  }

  /** Whether the client's message has been read to its end. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Takes a body of `bytes` bytes in one piece if all of it has come and may be kept. Before the first `open`. */
  takeWhole(bytes: number): void {
    const { limits, room } = this.#options;
    if (this.#request.destroyed || this.#request.readableLength !== bytes || bytes > limits.keptBodyBytes || !room.take(bytes)) return;
    this.#whole = this.#request.read() as Buffer;
    this.#keptBytes = bytes;
    this.#ended = true;
  }

  /** The body from its beginning; the reader before this one gets nothing more. */
  open(): Readable | Buffer {
    if (this.#whole !== undefined) return this.#whole;
    this.#reader?.destroy();
    this.#reader = new BodyReader(this);
    return this.#reader;
  }

  /** Nothing will be sent again. */
  release(): void {
    this.#options.room.give(this.#keptBytes);
    this.#keptBytes = 0;
    this.#kept = undefined;
    this.#whole = undefined;
  }

  /** Nothing will be sent at all any more. */
  close(): void {
    this.release();
    this.#reader?.destroy();
    if (!this.#begun) return;
    clearInterval(this.#period);
    this.#request.off("data", this.#onData).off("end", this.#onEnd).off("close", this.#onClose);
  }

  /** The kept piece at `index`, for a reader that begins anew. */
  pieceAt(index: number): Buffer | undefined {
    return this.#kept?.[index];
  }

  /** A reader has everything that is kept and wants more. */
  want(reader: BodyReader): void {
    if (reader !== this.#reader) return;
    if (this.#fault !== undefined) reader.destroy(new BodyError(this.#fault));
    else if (this.#ended) reader.push(null);
    else {
      if (!this.#begun) this.#begin();
      this.#request.resume();
    }
  }

  /** A reader is gone: what comes stays in the parser until there is another. */
  left(reader: BodyReader): void {
    if (reader !== this.#reader) return;
    this.#reader = undefined;
    this.#pause();
  }

  #begin(): void {
    this.#begun = true;
    this.#options.onWanted();
    this.#period = setInterval(() => this.#judgePeriod(), this.#options.limits.bodyIdleMs);
    this.#request.on("data", this.#onData).on("end", this.#onEnd).on("close", this.#onClose).on("error", this.#onClose);
    if (this.#request.destroyed && !this.#request.readableEnded) this.#onClose();
  }

  readonly #onData = (chunk: Buffer): void => {
    const { limits } = this.#options;
    this.#bytes += chunk.length;
    this.#periodBytes += chunk.length;
    if (this.#bytes > limits.bodyBytes) {
      this.#fail("too-large");
      return;
    }
    this.#keep(chunk);
    if (this.#reader === undefined || !this.#reader.accept(chunk)) this.#pause();
  };

  #keep(chunk: Buffer): void {
    if (this.#kept === undefined) return;
    if (this.#keptBytes + chunk.length > this.#options.limits.keptBodyBytes || !this.#options.room.take(chunk.length)) {
      this.release();
      return;
    }
    this.#keptBytes += chunk.length;
    this.#kept.push(chunk);
  }

  readonly #onEnd = (): void => {
    this.#ended = true;
    clearInterval(this.#period);
    this.#reader?.push(null);
  };

  readonly #onClose = (): void => {
    if (!this.#request.readableEnded) this.#fail("client-gone");
  };

  #fail(fault: BodyFault): void {
    this.#fault = fault;
    clearInterval(this.#period);
    this.release();
    this.#reader?.destroy(new BodyError(fault));
  }

  #pause(): void {
    this.#wasPaused = true;
    this.#request.pause();
  }

  /** A body may be slow; one that brings next to nothing in a whole period is there to hold a connection open. */
  #judgePeriod(): void {
    // While the other side does not take what is there, the client is not the slow one.
    if (!this.#wasPaused && !this.#request.isPaused() && this.#periodBytes < this.#options.limits.bodyPeriodBytes) this.#fail("too-slow");
    this.#periodBytes = 0;
    this.#wasPaused = this.#request.isPaused();
  }
}

class BodyReader extends Readable {
  readonly #source: BodySource;
  #next = 0;

  constructor(source: BodySource) {
    super({ highWaterMark: 64 << 10 });
    this.#source = source;
  }

  /** A piece that has just come, and has been kept if anything is. False: no more for now. */
  accept(chunk: Buffer): boolean {
    this.#next++;
    return this.push(chunk);
  }

  override _read(): void {
    for (let piece = this.#source.pieceAt(this.#next); piece !== undefined; piece = this.#source.pieceAt(this.#next)) {
      this.#next++;
      if (!this.push(piece)) return;
    }
    this.#source.want(this);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#source.left(this);
    done(error);
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

/**
 * A follower's stream over a plain connection, for both sides: what stands in for the gRPC call once both have said that they go on here.
 *
 * Always holds: nothing that has arrived is handed out before `open`, which its owner calls when the other side's last message on the call has come, so
 * that the order of messages is kept across the change. It ends once, with the call: either end of either is the end of both.
 */
import { connect, type Socket } from "node:net";
import { AppError } from "../../proto/errors.ts";
import { FrameReader, type LinkCodec } from "../../proto/link-frames.ts";

/** Read at once by the side that dials. Into one buffer for all reads: Node makes one of 64 KiB for each, which costs more than what a commit needs of it. */
const READ_BYTES = 64 << 10;

export interface LinkEvents<In> {
  onMessage(message: In): void;
  /** It is over, whichever side ended it; not after `close`. */
  onLost(error: Error): void;
}

export class Link<Out, In> {
  readonly #socket: Socket;
  readonly #codec: LinkCodec<Out, In>;
  readonly #reader = new FrameReader();
  readonly #events: LinkEvents<In>;
  readonly #dialled: boolean;
  #closed = false;

  /** Connects, and says the greeting. */
  static dial<Out, In>(where: { readonly host: string; readonly port: number }, greeting: Buffer, codec: LinkCodec<Out, In>, events: LinkEvents<In>): Link<Out, In> {
    const buffer = Buffer.alloc(READ_BYTES);
    const socket = connect({
      ...where, onread: {
        buffer, callback: (n) => {
          link.#arrived(Buffer.from(buffer.subarray(0, n)));
          return true;
        },
      },
    });
    const link = new Link(socket, codec, events, true);
    // What arrives before `open` waits in the kernel.
    socket.pause();
    socket.write(greeting);
    return link;
  }

  constructor(socket: Socket, codec: LinkCodec<Out, In>, events: LinkEvents<In>, dialled = false) {
    this.#dialled = dialled;
    this.#socket = socket;
    this.#codec = codec;
    this.#events = events;
    socket.setNoDelay(true);
    socket.on("error", (error) => this.#lost(error));
    for (const event of ["end", "close"]) socket.on(event, () => this.#lost(new Error("the connection ended")));
  }

  /** Hands out what arrives from now on, and what has arrived. */
  open(): void {
    if (this.#dialled) this.#socket.resume();
    else this.#socket.on("data", (chunk: Buffer) => this.#arrived(chunk));
  }

  #arrived(chunk: Buffer): void {
    try {
      for (const frame of this.#reader.add(chunk)) if (!this.#closed) this.#events.onMessage(this.#codec.decode(frame));
    } catch (error) {
      this.#lost(error instanceof RangeError ? new AppError("INVALID_MESSAGE", ["link", error.message], { cause: error }) : (error as Error));
    }
  }

  #lost(error: Error): void {
    if (this.#closed) return;
    this.close();
    this.#events.onLost(error);
  }

  /** False when the other side does not take more for now. Several messages at once cost what one does. */
  write(...messages: readonly Out[]): boolean {
    if (this.#closed) return false;
    const frames = messages.map((message) => this.#codec.encode(message));
    return this.#socket.write(frames.length === 1 ? frames[0]! : Buffer.concat(frames));
  }

  get writableNeedDrain(): boolean {
    return this.#socket.writableNeedDrain;
  }

  /** Resolves when more can be written, or nothing any more. */
  async drained(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#socket.once("drain", resolve).once("close", resolve);
    if (this.#closed || !this.#socket.writableNeedDrain) resolve();
    await promise;
    this.#socket.off("drain", resolve).off("close", resolve);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  close(): void {
    this.#closed = true;
    this.#socket.destroy();
  }
}

/**
 * A follower's stream over a plain connection, for both sides: what stands in for the gRPC call once both have said that they go on here.
 *
 * Always holds: nothing that has arrived is handed out before `open`, which its owner calls when the other side's last message on the call has come, so
 * that the order of messages is kept across the change. It ends once, with the call: either end of either is the end of both.
 */
import type { Socket } from "node:net";
import { AppError } from "../../proto/errors.ts";
import { FrameReader, type LinkCodec } from "../../proto/link-frames.ts";

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
  #closed = false;

  constructor(socket: Socket, codec: LinkCodec<Out, In>, events: LinkEvents<In>) {
    this.#socket = socket;
    this.#codec = codec;
    this.#events = events;
    socket.setNoDelay(true);
    socket.on("error", (error) => this.#lost(error));
    socket.on("close", () => this.#lost(new Error("the connection ended")));
  }

  /** Hands out what arrives from now on, and what has arrived. */
  open(): void {
    this.#socket.on("data", (chunk: Buffer) => {
      try {
        for (const frame of this.#reader.add(chunk)) if (!this.#closed) this.#events.onMessage(this.#codec.decode(frame));
      } catch (error) {
        this.#lost(error instanceof RangeError ? new AppError("INVALID_MESSAGE", ["link", error.message], { cause: error }) : (error as Error));
      }
    });
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

/**
 * The follower's end of a bulk connection: bytes go from the socket to where their pages are checked, and from there to the disk, without a copy.
 *
 * Always holds: at most SLOTS runs are in memory, then the socket is not read; a page counts once its checksum was compared and it is in the file;
 * writes that are still under way when this rejects are waited for where the target is closed. Runs that a primary would not send are refused.
 */
import { connect, type Socket } from "node:net";
import { BulkArena, SLOT_BYTES, SLOTS } from "../core/bulk-arena.ts";
import type { SnapshotTarget } from "../store/snapshot-target.ts";
import { MAGIC, RUN_BYTES, RUN_HEAD_BYTES, decodeRunHead, encodeMissing } from "../../proto/bulk-frames.ts";
import { AppError } from "../../proto/errors.ts";

export interface BulkSource {
  readonly host: string;
  readonly port: number;
  readonly token: Buffer;
  readonly pageCount: number;
  /** The call that gave the token has ended. */
  readonly signal: AbortSignal;
}

type Stage = "head" | "sums" | "pages";

/** Receives all pages into `target`, and tells the primary which were not what they should be. NODE_UNAVAILABLE when the connection ends early. */
export async function receivePages(from: BulkSource, target: SnapshotTarget): Promise<void> {
  const receiver = new Receiver(from, target);
  try {
    await receiver.done;
  } finally {
    await receiver.close();
  }
}

class Receiver {
  readonly done: Promise<void>;
  readonly #from: BulkSource;
  readonly #target: SnapshotTarget;
  readonly #socket: Socket;
  readonly #arena = new BulkArena();
  readonly #free = Array.from({ length: SLOTS }, (_, slot) => slot);
  readonly #head = Buffer.alloc(RUN_HEAD_BYTES);
  readonly #sums: Buffer;
  readonly #missing: number[] = [];
  #stage: Stage = "head";
  /** Bytes of the stage that have arrived. */
  #have = 0;
  #run = { first: 0, count: 0 };
  #slot = 0;
  /** Ends when everything handed over so far is in the file and counted: one run after the other. */
  #written: Promise<void> = Promise.resolve();
  #finish!: () => void;
  #fail!: (error: unknown) => void;
  #over = false;

  constructor(from: BulkSource, target: SnapshotTarget) {
    this.#from = from;
    this.#target = target;
    this.#sums = Buffer.alloc((RUN_BYTES / target.pageSize) * 8);
    this.done = new Promise((resolve, reject) => {
      this.#finish = resolve;
      this.#fail = reject;
    });
    this.done.then(() => (this.#over = true), () => (this.#over = true));
    this.#socket = connect({
      host: from.host, port: from.port,
      onread: { buffer: () => this.#room(), callback: (n) => this.#arrived(n) },
    });
    this.#socket.setNoDelay(true);
    this.#socket.on("error", (error) => this.#lost(error.message));
    this.#socket.on("end", () => this.#lost("it ended early"));
    this.#socket.on("close", () => this.#lost("it ended early"));
    from.signal.addEventListener("abort", () => this.#lost("the call ended"), { once: true });
    this.#socket.write(Buffer.concat([MAGIC, from.token]));
  }

  #lost(how: string): void {
    this.#fail(new AppError("NODE_UNAVAILABLE", [`${this.#from.host}:${this.#from.port}`, `bulk connection: ${how}`]));
  }

  /** Where the next bytes belong. */
  #room(): Buffer {
    if (this.#stage === "head") return this.#head.subarray(this.#have);
    if (this.#stage === "sums") return this.#sums.subarray(this.#have, this.#run.count * 8);
    const at = this.#slot * SLOT_BYTES;
    return this.#arena.memory.subarray(at + this.#have, at + this.#run.count * this.#target.pageSize);
  }

  /** False to be asked again later: no slot is free. */
  #arrived(n: number): boolean {
    if (this.#over) return false;
    this.#have += n;
    if (this.#room().length > 0) return true;
    this.#have = 0;
    try {
      if (this.#stage === "head") return this.#begin();
      if (this.#stage === "sums") {
        this.#stage = "pages";
        return true;
      }
      this.#check();
      this.#stage = "head";
      return this.#free.length > 0;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  #begin(): boolean {
    const { first, count } = decodeRunHead(this.#head);
    if (count === 0) {
      this.#written.then(() => {
        this.#socket.write(encodeMissing(this.#missing), () => this.#finish());
      }, (error: unknown) => this.#fail(error));
      return false;
    }
    if (first < 1 || first + count - 1 > this.#from.pageCount || count * this.#target.pageSize > RUN_BYTES) throw new AppError("INVALID_MESSAGE", ["bulk connection", `pages ${first} to ${first + count - 1} of ${this.#from.pageCount}`]);
    this.#run = { first, count };
    this.#slot = this.#free.pop()!;
    this.#stage = "sums";
    return true;
  }

  /** A whole run has arrived. */
  #check(): void {
    const { first, count } = this.#run;
    const slot = this.#slot;
    const { pageSize } = this.#target;
    const at = slot * SLOT_BYTES;
    const writing = this.#target.writeRun(first, count, this.#arena.memory, at);
    writing.catch(() => undefined);
    // Missing pages get 0, which no checksum is.
    const sums = this.#arena.checksumsAt(first, count, at, pageSize).slice();
    if (!this.#sums.subarray(0, count * 8).equals(new Uint8Array(sums.buffer))) {
      for (let i = 0; i < count; i++) {
        if (sums[i] === this.#sums.readBigUInt64LE(i * 8)) continue;
        sums[i] = 0n;
        this.#missing.push(first + i);
      }
    }
    const before = this.#written;
    this.#written = (async () => {
      await before;
      await writing;
      this.#target.addWritten(first, sums);
      this.#free.push(slot);
      if (!this.#over) this.#socket.resume();
    })();
    this.#written.catch((error: unknown) => this.#fail(error));
  }

  /** Resolves when nothing is under way. */
  async close(): Promise<void> {
    this.#socket.destroy();
    await this.#written.catch(() => undefined);
  }
}

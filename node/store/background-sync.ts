/**
 * Brings a large file to the disk while it is still being written.
 *
 * Always holds: at most one fdatasync runs at a time, in libuv's threads, and nobody waits for it before `finish`; after `finish` everything
 * that was written before the call is durable, or it throws. It exists because the disk would otherwise stand still during the copy, and the
 * copier during the one sync at its end.
 */
import { files, type Label } from "../io/files.ts";

/** Written bytes after which the next sync begins. */
const STEP_BYTES = 32 << 20;

export class BackgroundSync {
  readonly #label: Label;
  readonly #fd: number;
  #unsynced = 0;
  #running: Promise<void> | undefined;
  #failure: unknown;

  constructor(label: Label, fd: number) {
    this.#label = label;
    this.#fd = fd;
  }

  /** Notes that so many bytes more lie in the page cache. */
  wrote(bytes: number): void {
    this.#unsynced += bytes;
    if (this.#unsynced < STEP_BYTES || this.#running !== undefined || this.#failure !== undefined) return;
    this.#unsynced = 0;
    this.#running = files.fdatasync(this.#label, this.#fd).then(
      () => void (this.#running = undefined),
      (error: unknown) => {
        this.#running = undefined;
        // The kernel reports a failed write-back once: it must not be lost to a later sync that succeeds.
        this.#failure = error;
      },
    );
  }

  /** Waits for a sync that runs; the descriptor may be closed afterwards. */
  async settled(): Promise<void> {
    await this.#running;
  }

  /** Everything written is durable. Throws the error of any of the syncs. */
  async finish(): Promise<void> {
    await this.settled();
    if (this.#failure === undefined) await files.fdatasync(this.#label, this.#fd);
    else throw this.#failure;
  }
}

/**
 * durability sync on the primary: what turns a commit that is about to happen into a proposal, and holds it until it is decided.
 *
 * Always holds: a proposal has the TXID after the position and is the only undecided one of its database; it moves nothing here until it has been
 * stored by as many followers as the configuration asks for. A refusal is remembered on this disk before the application hears of it, so that no
 * election takes the proposal for a commit.
 */
import fs from "node:fs";
import type { WalCommit } from "../core/mount-hooks.ts";
import { files } from "../io/files.ts";
import { FRAME_HEADER_SIZE, frameOffset } from "../sqlite/wal.ts";
import { JOURNAL_MAGIC } from "../sqlite/journal.ts";
import { AppError, isAppError } from "../../proto/errors.ts";
import type { Position } from "../../proto/position.ts";
import type { Database, Draft } from "./database.ts";
import type { WalBatch } from "./wal-capture.ts";

/** A larger transaction file is refused: both sides hold it in memory until it is decided. */
export const SYNC_BYTES_MAX = 64 << 20;

export interface Proposal {
  readonly name: string;
  /** What it leads to. */
  readonly position: Position;
  readonly ltx: Buffer;
}

/** The followers, as the store sees them. */
export interface Quorum {
  /** Resolves with the proposal's serial once so many followers have stored it. Rejects with Refusal, after telling those who have it. */
  propose(proposal: Proposal, terms: { readonly replicas: number; readonly timeoutMs: number }): Promise<number>;
  /** What was stored is refused after all. */
  withdraw(name: string, serial: number): void;
  /** Refuses everything that is undecided. */
  refuseAll(reason: string): void;
}

/** Why a proposal was refused. */
export class Refusal extends Error {
  readonly serial: number;

  constructor(serial: number, reason: string) {
    super(reason);
    this.serial = serial;
  }
}

export interface SyncTerms {
  readonly replicas: number;
  readonly timeoutMs: number;
  quorum(): Quorum | undefined;
}

export class SyncCommits {
  readonly #database: Database;
  readonly #terms: SyncTerms;
  held = 0;
  refused = 0;
  /** Commits that gave no signal that could have been held. */
  unheld = 0;

  constructor(database: Database, terms: SyncTerms) {
    this.#database = database;
    this.#terms = terms;
  }

  /** Resolves once the draft is stored by enough followers, with the call that takes that back. Throws SYNC_REFUSED; the draft is abandoned then. */
  async hold(draft: Draft): Promise<() => void> {
    try {
      const quorum = this.#terms.quorum();
      if (quorum === undefined) throw this.#refuse("this node does not serve followers yet");
      if (draft.output === undefined || draft.output.bytes > SYNC_BYTES_MAX) throw this.#refuse(`its transaction is larger than ${SYNC_BYTES_MAX >> 20} MiB`);
      const { name } = this.#database;
      const serial = await quorum.propose({ name, position: draft.position, ltx: draft.output.content() }, this.#terms);
      // The lease may be gone by now: then somebody else decides.
      if (this.#terms.quorum() !== quorum) {
        quorum.withdraw(name, serial);
        throw new Refusal(serial, "this node is the primary no more");
      }
      this.held++;
      return () => {
        this.#database.tail.rewind(serial);
        quorum.withdraw(name, serial);
      };
    } catch (error) {
      draft.output?.abandon();
      this.refused++;
      if (!(error instanceof Refusal)) throw isAppError(error) ? error : this.#refuse((error as Error).message, error);
      this.#database.tail.rewind(error.serial);
      throw this.#refuse(error.message);
    }
  }

  #refuse(reason: string, cause?: unknown): AppError {
    return new AppError("SYNC_REFUSED", [this.#database.name, reason], { cause });
  }
}

/** The frames of a commit as a batch of capture, and how their pages are read before the last write of them is done. `read` reads the `-wal` as it is. */
export function openCommit(read: (target: Uint8Array, offset: number, length: number, at: number) => number, commit: WalCommit): { batch: WalBatch; readPage(frame: number, pageSize: number, target: Uint8Array, offset: number): boolean } {
  const over = (target: Uint8Array, offset: number, length: number, at: number): number => {
    const from = Math.max(at, commit.offset);
    const to = Math.min(at + length, commit.offset + commit.data.length);
    const n = from === at && to === at + length ? length : read(target, offset, length, at);
    if (to > from) target.set(commit.data.subarray(from - commit.offset, to - commit.offset), offset + from - at);
    return Math.max(n, to - at);
  };
  const { from, to, pageSize, pageCount, salt1, salt2, checksum } = commit;
  const pages = new Uint32Array(to - from + 1);
  const number = Buffer.alloc(4);
  for (let frame = from; frame <= to; frame++) {
    over(number, 0, 4, frameOffset(frame, pageSize));
    pages[frame - from] = number.readUInt32BE(0);
  }
  return {
    // Whatever SQLite's counter says, what is held is one transaction.
    batch: { from, to, pages, pageSize, pageCount, commits: 1, next: { salt1, salt2, frame: to, checksum: { ...checksum }, iChange: undefined } },
    readPage: (frame, size, target, offset) => over(target, offset, size, frameOffset(frame, size) + FRAME_HEADER_SIZE) === size,
  };
}

/** Whether this journal is one of several that end with their super-journal: then its end comes after the commit and cannot be refused. */
export function namesSuperJournal(path: string): boolean {
  const size = files.sizeOf(path) ?? 0;
  if (size < 16) return false;
  const fd = files.open("sync:journal", path, "r");
  try {
    const end = Buffer.alloc(16);
    files.read("sync:journal", fd, end, 0, 16, size - 16);
    return end.subarray(8).equals(JOURNAL_MAGIC) && end.readUInt32BE(0) > 0;
  } finally {
    fs.closeSync(fd);
  }
}

/** Makes a persistent journal hot again whose header SQLite has zeroed: whoever opens the database next rolls back. */
export function restoreJournalHeader(path: string, header: Buffer): void {
  const fd = files.open("sync:journal", path, "r+");
  try {
    files.write("sync:journal", fd, header, 0, header.length, 0);
    files.fdatasyncNow("sync:journal", fd);
  } finally {
    fs.closeSync(fd);
  }
}

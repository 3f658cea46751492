/**
 * The state of the primary on its way in, as pages over what this node has: how a node that has diverged goes over without a whole snapshot.
 *
 * The node's own pages, with those that its diverged transactions changed replaced by the primary's, are a state between the ancestor and now;
 * the primary's transactions after the ancestor, laid over it, make the state at their end. Always holds: nothing of the database is touched
 * here, and the checksum at the end proves the result; a wrong one is thrown away, and a whole snapshot does it.
 */
import fs from "node:fs";
import { join } from "node:path";
import { assert } from "../core/assert.ts";
import { ARENA, pageChecksumAt } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import { decodeLtx } from "../ltx/decoder.ts";
import { AppError } from "../../proto/errors.ts";
import { formatHex16, type Position } from "../../proto/position.ts";
import type { Database } from "./database.ts";
import type { PageSums } from "./page-sums.ts";

export class RewindTarget {
  readonly sums: PageSums;
  readonly pageSize: number;
  readonly #name: string;
  readonly #path: string;
  readonly #fd: number;
  /** Where each page lies in the file. */
  readonly #slots = new Map<number, number>();
  #transactions = 0;

  constructor(database: Database) {
    this.sums = database.sums.copy();
    this.pageSize = database.pageSize;
    this.#name = database.name;
    this.#path = join(database.paths.log, "rewind.spool");
    this.#fd = files.open("rewind:open", this.#path, "w+");
  }

  /** Pages of the primary, of the ancestor or newer. */
  addPages(numbers: readonly number[], data: Buffer): void {
    const { pageSize } = this;
    if (data.length !== numbers.length * pageSize) throw new AppError("INVALID_MESSAGE", ["SnapshotPages", `${data.length} bytes for ${numbers.length} pages`]);
    numbers.forEach((pgno, index) => {
      const page = data.subarray(index * pageSize, (index + 1) * pageSize);
      ARENA.set(page, 0);
      this.#put(pgno, page, pageChecksumAt(pgno, 0, pageSize));
    });
  }

  #put(pgno: number, page: Uint8Array, sum: bigint): void {
    let slot = this.#slots.get(pgno);
    if (slot === undefined) this.#slots.set(pgno, (slot = this.#slots.size));
    files.write("rewind:write", this.#fd, page, 0, this.pageSize, slot * this.pageSize);
    this.sums.set(pgno, sum);
  }

  addTransaction(ltx: Buffer): void {
    const { header } = decodeLtx(ltx, (pgno, page, offset) => {
      if (page.length === this.pageSize) this.#put(pgno, page, pageChecksumAt(pgno, offset, page.length));
    });
    if (header.pageSize !== this.pageSize) throw new AppError("INVALID_MESSAGE", ["Transactions", "the page size changed after the ancestor"]);
    this.sums.resize(header.commit);
    this.#transactions++;
  }

  /** Compares with the position at the end. `pageCount`: the size of the primary's database, for when there was no transaction to tell it. */
  finish(end: Position, pageCount: number): void {
    if (this.#transactions === 0) this.sums.resize(pageCount);
    if (this.sums.checksum === end.checksum) return;
    throw new AppError("CORRUPT_FILE", [this.#name, `going back to the common ancestor gives checksum ${formatHex16(this.sums.checksum)} instead of ${formatHex16(end.checksum)}`]);
  }

  /** A page that differs from what is here, into ARENA at `offset`. */
  copy(pgno: number, offset: number): void {
    const slot = this.#slots.get(pgno);
    assert(slot !== undefined, "a page differs that was not received");
    files.read("rewind:read", this.#fd, ARENA, offset, this.pageSize, slot * this.pageSize);
  }

  get pages(): number {
    return this.#slots.size;
  }

  close(): void {
    fs.closeSync(this.#fd);
    files.unlink("rewind:done", this.#path);
  }
}

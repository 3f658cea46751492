/**
 * The one transaction of a database that this node has stored and shows to nobody: proposed under durability sync, not yet confirmed.
 *
 * Always holds: what `store` has taken survives the end of the process (it is in the page cache of this machine, not on its disk: the promise
 * is about the loss of N nodes, and each of the others has it too). At most one proposal is undecided, so the file holds one, written over in place:
 * whatever it held before was confirmed, and is in the log, or was refused. A proposal that does not follow the position is none any more.
 * `refused` is the highest serial that this node knows to be refused; it outlives the proposals.
 *
 * | Offset | Size | Field   | Description                              |
 * |--------|------|---------|------------------------------------------|
 * | 0      | 8    | magic   | "SLUICETL"                               |
 * | 8      | 8    | epoch   | in which it was proposed                 |
 * | 16     | 8    | txid    |                                          |
 * | 24     | 8    | serial  |                                          |
 * | 32     | 8    | refused |                                          |
 * | 40     | 8    | length  | bytes of the LTX file; 0: there is none  |
 * | 48     | 8    | crc     | CRC64 of bytes 0 to 47                   |
 * | 56     | N    | data    | the LTX file, which has its own checksum |
 */
import fs from "node:fs";
import { join } from "node:path";
import { Crc64 } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import { decodeLtx } from "../ltx/decoder.ts";
import type { Position } from "../../proto/position.ts";

const HEADER_SIZE = 56;
const MAGIC = Buffer.from("SLUICETL");
const FILE_NAME = "tail";
/** A longer file is cut once its content is done with. */
const KEPT_BYTES = 1 << 20;

export interface Proposed {
  readonly epoch: number;
  readonly txid: number;
  readonly serial: number;
  readonly preApplyChecksum: bigint;
  readonly checksum: bigint;
  readonly ltx: Buffer;
}

export class Tail {
  readonly #path: string;
  readonly #setAside: (path: string, reason: string) => void;
  #fd: number | undefined;
  #size = 0;
  #proposed: Proposed | undefined;
  #refused = 0;

  constructor(logFolder: string, setAside: (path: string, reason: string) => void) {
    this.#path = join(logFolder, FILE_NAME);
    this.#setAside = setAside;
  }

  /** Reads what an earlier process left. */
  open(): void {
    if (!fs.existsSync(this.#path)) return;
    const bytes = fs.readFileSync(this.#path);
    this.#size = bytes.length;
    const sound = bytes.length >= HEADER_SIZE && bytes.subarray(0, 8).equals(MAGIC) && bytes.readBigUInt64BE(48) === new Crc64().update(bytes.subarray(0, 48)).digest();
    if (!sound) {
      // Written over when the machine went down: it had not been answered for since the last start.
      if (bytes.length > 0) this.#setAside(this.#path, "its header is damaged");
      this.#size = 0;
      return;
    }
    const number = (at: number): number => Number(bytes.readBigUInt64BE(at));
    this.#refused = number(32);
    const length = number(40);
    if (length === 0 || HEADER_SIZE + length > bytes.length) return;
    const ltx = bytes.subarray(HEADER_SIZE, HEADER_SIZE + length);
    try {
      const { header, trailer } = decodeLtx(ltx);
      this.#proposed = { epoch: number(8), txid: number(16), serial: number(24), preApplyChecksum: header.preApplyChecksum, checksum: trailer.postApplyChecksum, ltx };
    } catch {
      return; // Half written: nobody was told that it is stored.
    }
  }

  get refused(): number {
    return this.#refused;
  }

  /** What follows `position` and is undecided. */
  after(position: Position): Proposed | undefined {
    const found = this.#proposed;
    return found !== undefined && found.txid === position.txid + 1 && found.preApplyChecksum === (position.txid === 0 ? 0n : position.checksum) ? found : undefined;
  }

  /** The proposal whatever the position is, unless it is known to be refused. */
  get undecided(): Proposed | undefined {
    return this.#proposed !== undefined && this.#proposed.serial > this.#refused ? this.#proposed : undefined;
  }

  store(proposed: Proposed): void {
    this.#proposed = undefined;
    this.#write(proposed);
    this.#proposed = proposed;
  }

  /** Every proposal up to this serial was refused. */
  rewind(serial: number): void {
    const kept = this.#proposed !== undefined && this.#proposed.serial > serial ? this.#proposed : undefined;
    this.#refused = Math.max(this.#refused, serial);
    this.#proposed = kept;
    this.#write(kept);
  }

  #write(proposed: Proposed | undefined): void {
    const length = proposed?.ltx.length ?? 0;
    const record = Buffer.allocUnsafe(HEADER_SIZE + length);
    MAGIC.copy(record);
    [proposed?.epoch, proposed?.txid, proposed?.serial, this.#refused, length].forEach((value, i) => record.writeBigUInt64BE(BigInt(value ?? 0), 8 + i * 8));
    record.writeBigUInt64BE(new Crc64().update(record.subarray(0, 48)).digest(), 48);
    proposed?.ltx.copy(record, HEADER_SIZE);
    this.#fd ??= files.open("tail:open", this.#path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
    files.write("tail:write", this.#fd, record, 0, record.length, 0);
    if (this.#size > KEPT_BYTES && record.length < this.#size) {
      files.truncate("tail:cut", this.#fd, record.length);
      this.#size = record.length;
    }
    this.#size = Math.max(this.#size, record.length);
  }

  close(): void {
    if (this.#fd !== undefined) fs.closeSync(this.#fd);
    this.#fd = undefined;
  }
}

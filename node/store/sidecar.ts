/**
 * The two small files that let a node start without reading its databases: `checksums` (the page checksums) and `state.json` (the position,
 * the epoch history and what the database looked like at the last clean point).
 *
 * Always holds: entries of `checksums` may be newer than its header says, never older: the log from header.txid + 1 on sets right every page
 * that changed since. After a machine crash (another boot, no clean mark) nothing in them is trusted and the database is read instead.
 *
 * | Offset | Size | Field     | Description                                   |
 * |--------|------|-----------|-----------------------------------------------|
 * | 0      | 8    | magic     | "SLUICECS"                                    |
 * | 8      | 4    | version   | 1                                             |
 * | 12     | 4    | pageSize  | bytes                                         |
 * | 16     | 4    | pageCount | entries that follow                           |
 * | 20     | 4    | clean     | 1 after a clean stop, with everything fsynced |
 * | 24     | 8    | txid      | position at which all entries are right       |
 * | 32     | 8    | checksum  | database checksum at that position            |
 * | 40     | 16   | boot      | the machine's boot id                         |
 * | 56     | 8    | crc       | CRC64 of bytes 0 to 55                        |
 */
import fs from "node:fs";
import { join } from "node:path";
import { Crc64 } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import type { EpochHistory } from "./epoch-history.ts";
import type { PageSums } from "./page-sums.ts";

const HEADER_SIZE = 64;
const MAGIC = Buffer.from("SLUICECS");

export interface SidecarHeader {
  readonly pageSize: number;
  readonly pageCount: number;
  readonly clean: boolean;
  readonly txid: number;
  readonly checksum: bigint;
  readonly boot: Buffer;
}

export class Sidecar {
  readonly #path: string;
  #fd: number | undefined;

  constructor(logFolder: string) {
    this.#path = join(logFolder, "checksums");
  }

  /** Loads the table into `sums` and returns its header; undefined when there is none or it is damaged. */
  load(sums: PageSums): SidecarHeader | undefined {
    const bytes = fs.existsSync(this.#path) ? fs.readFileSync(this.#path) : undefined;
    if (bytes === undefined || bytes.length < HEADER_SIZE || !bytes.subarray(0, 8).equals(MAGIC)) return undefined;
    if (bytes.readBigUInt64BE(56) !== new Crc64().update(bytes.subarray(0, 56)).digest() || bytes.readUInt32BE(8) !== 1) return undefined;
    const pageCount = bytes.readUInt32BE(16);
    if (bytes.length < HEADER_SIZE + pageCount * 8) return undefined;
    sums.load(bytes.subarray(HEADER_SIZE), pageCount);
    return {
      pageSize: bytes.readUInt32BE(12), pageCount, clean: bytes.readUInt32BE(20) === 1, txid: Number(bytes.readBigUInt64BE(24)),
      checksum: bytes.readBigUInt64BE(32), boot: Buffer.from(bytes.subarray(40, 56)),
    };
  }

  /** Writes what changed since the last call, then the header. `clean` also fsyncs, for the last call before a stop. */
  save(sums: PageSums, at: { pageSize: number; txid: number; boot: Buffer; clean: boolean }): void {
    this.#fd ??= files.open("sidecar:open", this.#path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
    for (const { offset, bytes } of sums.takeDirty()) files.write("sidecar:entries", this.#fd, bytes, 0, bytes.length, HEADER_SIZE + offset);
    const header = Buffer.alloc(HEADER_SIZE);
    MAGIC.copy(header);
    header.writeUInt32BE(1, 8);
    header.writeUInt32BE(at.pageSize, 12);
    header.writeUInt32BE(sums.pageCount, 16);
    header.writeUInt32BE(at.clean ? 1 : 0, 20);
    header.writeBigUInt64BE(BigInt(at.txid), 24);
    header.writeBigUInt64BE(sums.checksum, 32);
    at.boot.copy(header, 40, 0, 16);
    header.writeBigUInt64BE(new Crc64().update(header.subarray(0, 56)).digest(), 56);
    if (files.size(this.#fd) < HEADER_SIZE + sums.pageCount * 8) files.truncate("sidecar:grow", this.#fd, HEADER_SIZE + sums.pageCount * 8);
    if (at.clean) files.fdatasyncNow("sidecar:sync", this.#fd);
    files.write("sidecar:header", this.#fd, header, 0, HEADER_SIZE, 0);
    if (at.clean) files.fdatasyncNow("sidecar:sync", this.#fd);
  }

  /** Removes the table: the TXID in it would be believed, and what comes now may have a smaller one. */
  remove(): void {
    this.close();
    files.unlink("sidecar:remove", this.#path);
  }

  close(): void {
    if (this.#fd !== undefined) fs.closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** `state.json`: everything else that must outlive the process. */
export interface DatabaseState {
  /** Position without LTX file: after an import or a snapshot; the log may lead on from here. */
  readonly base: { readonly epoch: number; readonly txid: number; readonly checksum: string };
  readonly pageSize: number;
  readonly pageCount: number;
  /** Kafka's leader-epoch cache: where each epoch began, oldest first. */
  readonly epochs: EpochHistory;
  /** This node is, or was when it stopped, the one that writes: what its applications committed last may lie in the files alone. */
  readonly writing: boolean;
  /** The database was deleted by the last transaction. */
  readonly deleted: boolean;
  /** A snapshot that was being installed; null in normal life. */
  readonly pending: {
    readonly epoch: number; readonly txid: number; readonly checksum: string; readonly pageSize: number;
    /** The primary's history, and up to where the log stays valid. */
    readonly epochs: EpochHistory; readonly keepLogTo: number;
  } | null;
}

/** What `state.json` says; undefined when there is none or it cannot be used: then it goes aside, and the log or the database must tell. */
export function loadState(logFolder: string, setAside: (path: string, reason: string) => void): DatabaseState | undefined {
  const path = join(logFolder, "state.json");
  if (!fs.existsSync(path)) return undefined;
  try {
    const state: unknown = JSON.parse(fs.readFileSync(path, "utf8"));
    if (isState(state)) return state;
    setAside(path, "it does not say what a state must");
  } catch (error) {
    setAside(path, (error as Error).message);
  }
  return undefined;
}

function isState(value: unknown): value is DatabaseState {
  if (typeof value !== "object" || value === null) return false;
  const state = value as Partial<DatabaseState>;
  const isPosition = (position: Partial<DatabaseState["base"]> | null | undefined): boolean =>
    Number.isSafeInteger(position?.epoch) && Number.isSafeInteger(position?.txid) && /^[0-9a-f]{1,16}$/.test(String(position?.checksum));
  return isPosition(state.base) && Number.isSafeInteger(state.pageSize) && typeof state.deleted === "boolean" && typeof state.writing === "boolean" && (state.pending === null || (isPosition(state.pending) && isHistory(state.pending?.epochs)))
    && isHistory(state.epochs);
}

function isHistory(value: unknown): boolean {
  return Array.isArray(value) && value.every((entry) => Number.isSafeInteger(entry?.epoch) && Number.isSafeInteger(entry?.firstTxid) && typeof entry?.node === "string");
}

export function saveState(logFolder: string, state: DatabaseState): void {
  files.replace("state:save", join(logFolder, "state.json"), JSON.stringify(state, undefined, 1));
}

/** The newest epoch that any database in a data folder has seen; 0 without databases. Read before anything is opened. */
export function highestEpochOnDisk(logRoot: string): number {
  let highest = 0;
  for (const folder of fs.existsSync(logRoot) ? fs.readdirSync(logRoot) : []) {
    try {
      const state: unknown = JSON.parse(fs.readFileSync(join(logRoot, folder, "state.json"), "utf8"));
      if (isState(state)) highest = Math.max(highest, state.base.epoch, state.pending?.epoch ?? 0, ...state.epochs.map(({ epoch }) => epoch));
    } catch {
      continue; // None, or damaged: open() deals with it.
    }
  }
  return highest;
}

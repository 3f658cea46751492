/**
 * Reads all of a transaction log to find out whether it is sound, without changing anything.
 *
 * Always holds: every entry is decoded to its last byte, from the disk, in slices between which others run; the TXIDs and checksums of
 * neighbours are compared. A gap is no fault: imports and large diffs leave one, and followers take a snapshot there.
 */
import fs from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTick } from "node:timers/promises";
import { pageChecksumAt } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import { LtxDecoder } from "../ltx/decoder.ts";
import { parseLtxFileName } from "../ltx/file-name.ts";
import type { LtxHeader } from "../ltx/header.ts";
import { formatHex16 } from "../../proto/position.ts";
import { readSegment, SEGMENT_SUFFIX } from "./log-segment.ts";

/** Who mends a fault: the next start by itself (the table of start-up recovery), another node, or a person. A note is no fault. */
export type Mends = "start" | "peer" | "person" | "note";

export interface Finding {
  readonly file: string;
  /** A sentence without its end. */
  readonly fault: string;
  readonly mends: Mends;
}

export type Found = (file: string, fault: string, mends: Mends) => void;

/** One LTX file, in a file of its own (`at` is 0) or in a segment. */
export interface StoredLtx {
  readonly min: number;
  readonly max: number;
  readonly path: string;
  readonly at: number;
  readonly size: number;
}

export interface CheckedLtx {
  readonly entry: StoredLtx;
  readonly header: LtxHeader;
  readonly checksum: bigint;
  /** Numbers and checksums of its pages, where they were wanted. */
  readonly pages: readonly (readonly [number, bigint])[];
}

const SLICE_PAGES = 256;

/** What lies in a log folder, oldest first, without parts of a merged file that lies beside them. */
export function listLog(folder: string, found: Found): StoredLtx[] {
  const all: StoredLtx[] = [];
  for (const name of fs.readdirSync(folder).sort()) {
    const path = join(folder, name);
    const range = parseLtxFileName(name);
    if (range !== undefined) all.push({ min: range.minTxid, max: range.maxTxid, path, at: 0, size: fs.statSync(path).size });
    if (!name.endsWith(SEGMENT_SUFFIX)) continue;
    const fd = files.open("verify:log", path, "r");
    try {
      const { records, end } = readSegment(fd);
      all.push(...records.map((record) => ({ ...record, path })));
      const rest = files.size(fd) - end;
      if (rest > 0) found(path, `its last ${rest} bytes, from ${end} on, are no whole record`, "start");
    } finally {
      fs.closeSync(fd);
    }
  }
  all.sort((a, b) => a.min - b.min || b.max - a.max);
  return all.filter((entry, index) => !all.slice(0, index).some(({ max }) => entry.max <= max));
}

/**
 * Decodes all entries and compares neighbours. `wantPages`: whose page checksums are kept. `gone`: the entry has been merged or has left by
 * retention meanwhile, so that what was found of it counts for nothing.
 */
export async function checkLog(entries: readonly StoredLtx[], found: Found, options: { wantPages(entry: StoredLtx): boolean; gone(entry: StoredLtx): boolean; breakAt: number }): Promise<CheckedLtx[]> {
  const sound: CheckedLtx[] = [];
  let before: CheckedLtx | undefined;
  for (const entry of entries) {
    const checked = await checkOne(entry, options.wantPages(entry));
    const last = before;
    before = typeof checked === "string" ? undefined : checked;
    if (typeof checked !== "string") sound.push(checked);
    if (options.gone(entry) || (last !== undefined && options.gone(last.entry))) continue;
    const where = entry.at === 0 ? "" : `the record at ${entry.at}: `;
    if (typeof checked === "string") {
      found(entry.path, `${where}${checked}`, entry === entries.at(-1) ? "start" : "peer");
    } else if (last !== undefined) {
      const follows = entry.min - last.entry.max;
      if (follows < 1) found(entry.path, `${where}transaction ${entry.min} is in the entry before it too, which ends at ${last.entry.max}`, "peer");
      else if (follows > 1 && entry.min !== options.breakAt + 1) found(entry.path, `${where}transactions ${last.entry.max + 1} to ${entry.min - 1} are not in the log (an import or a large change leaves such a gap); a follower that needs them takes a snapshot`, "note");
      else if (follows === 1 && checked.header.preApplyChecksum !== last.checksum) {
        found(entry.path, `${where}transaction ${entry.min} begins with checksum ${formatHex16(checked.header.preApplyChecksum)}, the one before it ends with ${formatHex16(last.checksum)}`, "peer");
      }
    }
  }
  return sound;
}

async function checkOne(entry: StoredLtx, wantPages: boolean): Promise<CheckedLtx | string> {
  let fd: number | undefined;
  try {
    fd = files.open("verify:log", entry.path, "r");
    const from = fd;
    const pages: [number, bigint][] = [];
    const decoder = new LtxDecoder((buffer, offset) => files.read("verify:log", from, buffer, 0, Math.max(0, Math.min(buffer.length, entry.size - offset)), entry.at + offset), entry.size);
    const { header } = decoder;
    if (header.minTxid !== entry.min || header.maxTxid !== entry.max) return `it holds transactions ${header.minTxid} to ${header.maxTxid}, not those of its name`;
    for (;;) {
      const whole = decoder.step(SLICE_PAGES, wantPages ? (pgno, page, offset) => pages.push([pgno, pageChecksumAt(pgno, offset, page.length)]) : undefined);
      if (whole !== undefined) return { entry, header, checksum: whole.trailer.postApplyChecksum, pages };
      await nextTick();
    }
  } catch (error) {
    // The sentence of the error table names no file here; the reason alone is wanted.
    return (error as Error).message.replace(/^Cannot use "transaction file": /, "");
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

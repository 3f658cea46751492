/**
 * Merges runs of small log files into one: a busy database writes hundreds of files a second, and most of them hold the same few pages.
 *
 * Always holds: a merged file leads from the state before its first part to the state after its last; only entries that the sidecar and every
 * running snapshot have passed are merged; the newest stay as they are, because followers that keep up are sent them one by one.
 */
import fs from "node:fs";
import { COMPACT_BYTES_MAX, COMPACT_FILES } from "../core/limits.ts";
import { files } from "../io/files.ts";
import { compactLtx, type CompactInput } from "../ltx/compact.ts";
import type { LogEntry, TxLog } from "./tx-log.ts";

/** Entries that are never merged, counted from the newest. */
const KEEP_NEWEST = 128;
const SMALL_BYTES = 256 << 10;

/** The first run worth merging: consecutive, small, all at or before `upTo`, none but the first beginning at a border. Undefined when there is none. */
export function findRun(entries: readonly LogEntry[], upTo: number, borders: ReadonlySet<number> = new Set()): { first: number; count: number } | undefined {
  let first = 0;
  let bytes = 0;
  for (let index = 0; index < entries.length - KEEP_NEWEST; index++) {
    const entry = entries[index]!;
    const previous = entries[index - 1];
    const joins = index > first && previous !== undefined && previous.max + 1 === entry.min && !borders.has(entry.min);
    if (entry.max > upTo) return undefined;
    if (!joins || entry.size > SMALL_BYTES || bytes + entry.size > COMPACT_BYTES_MAX) {
      first = index;
      bytes = 0;
      if (entry.size > SMALL_BYTES) first = index + 1;
    }
    bytes += entry.size;
    if (index - first + 1 >= COMPACT_FILES) return { first, count: index - first + 1 };
  }
  return undefined;
}

/** Merges one run, if there is one. Returns how many files went, or 1 when it found a border that no merge may cross. */
export function compactLog(log: TxLog, upTo: number): number {
  const run = findRun(log.entries, upTo, log.borders);
  if (run === undefined) return 0;
  const parts = log.entries.slice(run.first, run.first + run.count);
  const headers = parts.map((entry) => log.header(entry));
  const border = headers.findIndex((header, index) => index > 0 && header.pageSize !== headers[index - 1]!.pageSize);
  if (border > 0) {
    log.borders.add(parts[border]!.min);
    return 1;
  }
  const descriptors = parts.map((entry) => log.openEntry(entry));
  const path = `${log.pathOf({ min: parts[0]!.min, max: parts.at(-1)!.max })}.merge`;
  const output = files.open("compact:open", path, "w", 0o600);
  try {
    const inputs = parts.map((entry, index): CompactInput => ({
      name: log.pathOf(entry), size: entry.size, read: (buffer, offset) => files.read("compact:read", descriptors[index]!, buffer, 0, buffer.length, offset),
    }));
    let at = 0;
    compactLtx(inputs, (chunk) => {
      files.write("compact:write", output, chunk, 0, chunk.length, at);
      at += chunk.length;
    });
  } catch (error) {
    fs.rmSync(path, { force: true });
    throw error;
  } finally {
    fs.closeSync(output);
    for (const fd of descriptors) fs.closeSync(fd);
  }
  log.replaceRun(run.first, run.count, path);
  return run.count - 1;
}

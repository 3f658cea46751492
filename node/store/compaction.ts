/**
 * Merges runs of small log entries into one file: a busy database commits hundreds of times a second, and most of its transactions hold the
 * same few pages.
 *
 * Always holds: a merged file leads from the state before its first part to the state after its last; only entries that the sidecar and every
 * running snapshot have passed are merged; files only when there are many, and records of a segment never together with files. So a transaction is written
 * again once for each COMPACT_FILES-fold, not each time that others come after it. Larger ones stay as they are: they are not soon repeated.
 */
import fs from "node:fs";
import { COMPACT_BYTES_MAX, COMPACT_FILES, COMPACT_FILES_MAX, COMPACT_RECORD_BYTES_MAX } from "../core/limits.ts";
import { files } from "../io/files.ts";
import { compactLtx, type CompactInput } from "../ltx/compact.ts";
import type { LogEntry, TxLog } from "./tx-log.ts";

/**
 * The first run worth merging: consecutive, small, all at or before `upTo`, none but the first beginning at a border; records of a segment in any
 * number, because only a merge gives them a file, files from COMPACT_FILES on. Undefined when there is none.
 */
export function findRun(entries: readonly LogEntry[], upTo: number, borders: ReadonlySet<number> = new Set()): { first: number; count: number } | undefined {
  let first = 0;
  let bytes = 0;
  const worth = (end: number): boolean => end - first >= COMPACT_FILES || (end > first && entries[first]!.place !== undefined);
  for (let index = 0; index < entries.length; index++) {
    const entry = entries[index]!;
    if (entry.max > upTo) return worth(index) ? { first, count: index - first } : undefined;
    const before = entries[index - 1];
    const joins = index > first && before!.max + 1 === entry.min && !borders.has(entry.min) && (before!.place === undefined) === (entry.place === undefined);
    const fits = entry.size <= COMPACT_RECORD_BYTES_MAX && bytes + entry.size <= COMPACT_BYTES_MAX && index - first < COMPACT_FILES_MAX;
    if (index > first && (!joins || !fits)) {
      if (worth(index)) return { first, count: index - first };
      first = index;
      bytes = 0;
    }
    if (entry.size > COMPACT_RECORD_BYTES_MAX) {
      first = index + 1;
      bytes = 0;
    } else {
      bytes += entry.size;
    }
  }
  return worth(entries.length) ? { first, count: entries.length - first } : undefined;
}

/** Merges one run, if there is one. Returns whether there may be more to do. */
export function compactLog(log: TxLog, upTo: number): boolean {
  const run = findRun(log.entries, upTo, log.borders);
  if (run === undefined) return false;
  const parts = log.entries.slice(run.first, run.first + run.count);
  const headers = parts.map((entry) => log.header(entry));
  const border = headers.findIndex((header, index) => index > 0 && header.pageSize !== headers[index - 1]!.pageSize);
  if (border > 0) {
    log.borders.add(parts[border]!.min);
    return true;
  }
  const path = `${log.pathOf({ min: parts[0]!.min, max: parts.at(-1)!.max })}.merge`;
  const output = files.open("compact:open", path, "w", 0o600);
  try {
    // Small, and at most COMPACT_BYTES_MAX together: read whole.
    const inputs = parts.map((entry): CompactInput => {
      const content = log.read(entry);
      return { name: log.pathOf(entry), size: entry.size, read: (buffer, offset) => content.copy(buffer, 0, offset) };
    });
    let at = 0;
    compactLtx(inputs, (chunk) => {
      files.write("compact:write", output, chunk, 0, chunk.length, at);
      at += chunk.length;
    });
  } catch (error) {
    files.unlink("compact:undo", path);
    throw error;
  } finally {
    fs.closeSync(output);
  }
  log.replaceRun(run.first, run.count, path);
  return true;
}

/**
 * One append-only file of small transaction files, one after the other: where the log takes what a busy database commits.
 *
 * Always holds: a record is a length (u32, big-endian) and a whole LTX file; the file ends after the last whole record, whatever a crash left
 * behind it. It exists because making a file costs many times what appending to one costs, and a busy database would make a
 * thousand of them a second. Maintenance merges segments into LTX files of their own and removes them.
 *
 * | Offset | Size | Field  | Description                    |
 * |--------|------|--------|--------------------------------|
 * | 0      | 4    | length | bytes of the LTX file          |
 * | 4      | N    | data   | the LTX file, as it was made   |
 */
import fs from "node:fs";
import { files } from "../io/files.ts";
import { readLtxHeader } from "../ltx/decoder.ts";

export const SEGMENT_SUFFIX = ".seg";
const LENGTH_SIZE = 4;

export interface SegmentRecord {
  readonly min: number;
  readonly max: number;
  /** Where the LTX file begins in the segment. */
  readonly at: number;
  readonly size: number;
}

export class LogSegment {
  readonly path: string;
  readonly #fd: number;
  #end: number;
  /** Records that the log still needs; at 0 the file goes. */
  live = 0;

  private constructor(path: string, fd: number, end: number) {
    this.path = path;
    this.#fd = fd;
    this.#end = end;
  }

  static create(path: string): LogSegment {
    return new LogSegment(path, files.open("segment:open", path, "w+", 0o600), 0);
  }

  /** Opens a segment that an earlier process left, and says what is in it. Bytes after the last whole record are cut off. */
  static recover(path: string): { segment: LogSegment; records: SegmentRecord[]; cut: boolean } {
    const fd = files.open("segment:open", path, "r+");
    const size = files.size(fd);
    const { records, end: at } = readSegment(fd);
    if (at < size) files.truncate("segment:cut", fd, at);
    return { segment: new LogSegment(path, fd, at), records, cut: at < size };
  }

  get bytes(): number {
    return this.#end;
  }

  /** Appends one LTX file; on failure the segment is as before. */
  append(content: Buffer): { at: number } {
    const record = Buffer.allocUnsafe(LENGTH_SIZE + content.length);
    record.writeUInt32BE(content.length, 0);
    content.copy(record, LENGTH_SIZE);
    const at = this.#end;
    try {
      files.write("segment:write", this.#fd, record, 0, record.length, at);
    } catch (error) {
      files.truncate("segment:undo", this.#fd, at);
      throw error;
    }
    this.#end = at + record.length;
    this.live++;
    return { at: at + LENGTH_SIZE };
  }

  read(at: number, size: number): Buffer {
    const content = Buffer.allocUnsafe(size);
    files.read("segment:read", this.#fd, content, 0, size, at);
    return content;
  }

  /** Removes everything from a record on: it turned out to be damaged. */
  cut(at: number): void {
    files.truncate("segment:cut", this.#fd, at - LENGTH_SIZE);
    this.#end = at - LENGTH_SIZE;
  }

  remove(): void {
    fs.closeSync(this.#fd);
    files.unlink("segment:remove", this.path);
  }

  close(): void {
    fs.closeSync(this.#fd);
  }
}

/** The records of a segment and where the last whole one ends. Reads only their headers. */
export function readSegment(fd: number): { records: SegmentRecord[]; end: number } {
  const size = files.size(fd);
  const records: SegmentRecord[] = [];
  const head = Buffer.alloc(LENGTH_SIZE + 100);
  let at = 0;
  while (at + head.length <= size) {
    files.read("segment:read", fd, head, 0, head.length, at);
    const length = head.readUInt32BE(0);
    if (length < 100 || at + LENGTH_SIZE + length > size) break;
    try {
      const header = readLtxHeader(head.subarray(LENGTH_SIZE));
      records.push({ min: header.minTxid, max: header.maxTxid, at: at + LENGTH_SIZE, size: length });
    } catch {
      break; // No LTX file begins here: the rest is what a crash left.
    }
    at += LENGTH_SIZE + length;
  }
  return { records, end: at };
}

/**
 * What travels over a bulk connection: the pages of one snapshot, beside the gRPC call that asked for it.
 *
 * Always holds: numbers are little-endian. gRPC in Node carries 1 GB/s with both ends busy with nothing else, because each 16 KiB of HTTP/2 is an
 * event; a plain connection leaves the processors to the checksums. It goes to the same port: HTTP/2 begins with "PRI", this with MAGIC.
 *
 *   follower:  MAGIC, token of the SnapshotBegin
 *   primary:   runs: first page u32, count u32, checksum u64 for each page, the pages; at the end a run of count 0
 *   follower:  count u32, then u32 for each page that is not what its checksum says; these follow in the gRPC call, proven
 */
export const MAGIC: Buffer = Buffer.from("SLUICEB1", "latin1");
export const TOKEN_BYTES = 16;
export const GREETING_BYTES: number = MAGIC.length + TOKEN_BYTES;
export const RUN_HEAD_BYTES = 8;
/** Bytes of pages in a run. A multiple of every page size. */
export const RUN_BYTES: number = 1 << 20;

export function encodeRunHead(first: number, count: number): Buffer {
  const head = Buffer.allocUnsafe(RUN_HEAD_BYTES);
  head.writeUInt32LE(first, 0);
  head.writeUInt32LE(count, 4);
  return head;
}

export function decodeRunHead(head: Buffer): { readonly first: number; readonly count: number } {
  return { first: head.readUInt32LE(0), count: head.readUInt32LE(4) };
}

export function encodeMissing(numbers: readonly number[]): Buffer {
  const out = Buffer.allocUnsafe(4 + numbers.length * 4);
  out.writeUInt32LE(numbers.length, 0);
  for (const [i, pgno] of numbers.entries()) out.writeUInt32LE(pgno, 4 + i * 4);
  return out;
}

/** The list once all of it is there; undefined before. Throws a RangeError when it is longer than `max`. */
export function decodeMissing(bytes: Buffer, max: number): number[] | undefined {
  if (bytes.length < 4) return undefined;
  const count = bytes.readUInt32LE(0);
  if (count > max) throw new RangeError(`a list of ${count} pages of ${max}`);
  if (bytes.length < 4 + count * 4) return undefined;
  return Array.from({ length: count }, (_, i) => bytes.readUInt32LE(4 + i * 4));
}

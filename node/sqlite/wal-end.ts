/**
 * Where a WAL ends, from the first bytes of its wal-index (the layout stands in wal-index.ts).
 *
 * Always holds: pure, and without the checksums of wal-index.ts, which bring memory of their own into each thread: so the answer says only what both
 * copies of the header say, and serves those who compare it with an end that they know.
 */
/** Both copies of the header. */
export const WAL_END_BYTES = 96;
const HEADER_SIZE = WAL_END_BYTES / 2;

/** Undefined while a writer is changing the header, or has died at it. */
export function decodeWalEnd(bytes: Buffer): { readonly salt1: number; readonly salt2: number; readonly frame: number } | undefined {
  if (bytes.compare(bytes, HEADER_SIZE, WAL_END_BYTES, 0, HEADER_SIZE) !== 0 || bytes.readUInt8(12) === 0) return undefined;
  return { salt1: bytes.readUInt32BE(32), salt2: bytes.readUInt32BE(36), frame: bytes.readUInt32LE(16) };
}

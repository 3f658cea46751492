/**
 * The one message that is encoded by hand: SnapshotChunk with pages, the bulk of a first sync.
 *
 * Always holds: the bytes are what any protobuf library makes of `SnapshotChunk { pages: SnapshotPages }` (a test compares them). It exists
 * because the library walks through an object and copies the pages twice, and these messages are whole databases.
 */
/** Field numbers and wire types of replication.proto: SnapshotChunk.pages; SnapshotPages.first_page, .numbers (packed), .data. */
const CHUNK_PAGES = 0x12;
const FIRST_PAGE = 0x08;
const NUMBERS = 0x12;
const DATA = 0x1a;

/** Encodes pages with these ascending numbers; consecutive ones as `first_page`. `data` is copied. */
export function encodeSnapshotPages(numbers: readonly number[], data: Uint8Array): Buffer {
  const first = numbers[0] ?? 0;
  const consecutive = numbers.length > 0 && numbers.at(-1) === first + numbers.length - 1;
  const listed = consecutive ? 0 : numbers.reduce((sum, pgno) => sum + varintSize(pgno), 0);
  const named = consecutive ? 1 + varintSize(first) : listed === 0 ? 0 : 1 + varintSize(listed) + listed;
  const inner = named + 1 + varintSize(data.length) + data.length;
  const out = Buffer.allocUnsafe(1 + varintSize(inner) + inner);
  let at = out.writeUInt8(CHUNK_PAGES, 0);
  at = writeVarint(out, inner, at);
  if (consecutive) {
    at = out.writeUInt8(FIRST_PAGE, at);
    at = writeVarint(out, first, at);
  } else if (listed > 0) {
    at = out.writeUInt8(NUMBERS, at);
    at = writeVarint(out, listed, at);
    for (const pgno of numbers) at = writeVarint(out, pgno, at);
  }
  at = out.writeUInt8(DATA, at);
  at = writeVarint(out, data.length, at);
  out.set(data, at);
  return out;
}

function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size++;
  return size;
}

function writeVarint(out: Buffer, value: number, at: number): number {
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) at = out.writeUInt8((rest % 0x80) | 0x80, at);
  return out.writeUInt8(rest, at);
}

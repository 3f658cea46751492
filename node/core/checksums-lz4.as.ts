/**
 * AssemblyScript: LZ4 blocks (no frame, no size prefix), part of the module that checksums.as.ts makes.
 *
 * Always holds: whatever bytes a block has, decoding reads only [src, src + srcSize) for its decisions, writes only
 * [dst, dst + dstSize), and ends. Copies may read some bytes beyond what they need; these are never looked at.
 */

/** 4096 entries of u32 at address 0: base + position of the latest place with this hash. */
const TABLE_SIZE: u32 = 16384;
const HASH_SHIFT: u32 = 20;
/** Entries below belong to earlier calls: counting up saves clearing the table for each page. */
let base: u32 = 1;

// @ts-ignore: decorator
@inline
function slot(at: usize): usize {
  return ((load<u32>(at) * 2654435761) >> HASH_SHIFT) << 2;
}

// @ts-ignore: decorator
@inline
function putLength(op: usize, length: usize): usize {
  for (; length >= 255; length -= 255) store<u8>(op++, 255);
  store<u8>(op, <u8>length);
  return op + 1;
}

/** Token and literals [anchor, end); the low half of the token is filled in by the caller. `exact` = the last literals of a block. */
// @ts-ignore: decorator
@inline
function putLiterals(op: usize, anchor: usize, end: usize, exact: bool): usize {
  const length = end - anchor;
  if (length < 15) {
    store<u8>(op++, <u8>(length << 4));
  } else {
    store<u8>(op++, 0xf0);
    op = putLength(op, length - 15);
  }
  if (exact || length > 64) memory.copy(op, anchor, length);
  // The 2 bytes of an offset and the 6 of the last sequence always follow, so up to 7 bytes too many are overwritten later.
  else for (let k: usize = 0; k < length; k += 8) store<u64>(op + k, load<u64>(anchor + k));
  return op + length;
}

/** Compresses to `dst`, which has room for size + size/255 + 16 bytes; size below 16 MiB. Returns the length of the block. */
export function lz4Compress(src: usize, size: u32, dst: usize, compress: bool): u32 {
  let op = dst, anchor = src, ip = src;
  const end = src + size;
  if (compress && size >= 13) {
    if (base > 0xf0000000) {
      memory.fill(0, 0, TABLE_SIZE);
      base = 1;
    }
    // The format wants the last match to begin 12 bytes and to end 5 bytes before the end.
    const matchLast = end - 12, matchEnd = end - 5;
    const shift: u32 = base - <u32>src;
    while (true) {
      // Look for four bytes seen before. Two bytes a step, and larger steps the longer none are found: a third faster than trying every
      // byte, for one per cent more output on pages of SQLite.
      let attempts: u32 = 32, ref: usize = 0;
      while (ip <= matchLast) {
        const s = slot(ip);
        const seen = load<u32>(s);
        store<u32>(s, <u32>ip + shift);
        ref = seen - shift;
        if (seen >= base && ip - ref <= 65535 && load<u32>(ref) === load<u32>(ip)) break;
        ip += attempts >> 4;
        attempts += 1;
      }
      if (ip > matchLast) break;
      while (ip > anchor && ref > src && load<u8>(ip - 1) === load<u8>(ref - 1)) {
        ip--;
        ref--;
      }
      const token = op;
      op = putLiterals(op, anchor, ip, false);
      store<u16>(op, <u16>(ip - ref));
      op += 2;
      const start = ip + 4;
      ip += 4;
      ref += 4;
      while (true) {
        if (ip + 8 <= matchEnd) {
          const differ = load<u64>(ip) ^ load<u64>(ref);
          if (differ !== 0) {
            ip += <usize>(ctz(differ) >> 3);
            break;
          }
          ip += 8;
          ref += 8;
        } else {
          if (ip >= matchEnd || load<u8>(ip) !== load<u8>(ref)) break;
          ip++;
          ref++;
        }
      }
      const length = ip - start;
      if (length < 15) {
        store<u8>(token, load<u8>(token) | <u8>length);
      } else {
        store<u8>(token, load<u8>(token) | 15);
        op = putLength(op, length - 15);
      }
      anchor = ip;
      if (ip > matchLast) break;
      store<u32>(slot(ip - 2), <u32>ip - 2 + shift);
    }
    base += size;
  }
  return <u32>(putLiterals(op, anchor, end, true) - dst);
}

/** Decodes a block. Returns the number of bytes written, or 0xffffffff if the block is malformed or does not fit. */
export function lz4Decompress(src: usize, srcSize: u32, dst: usize, dstSize: u32): u32 {
  const BAD: u32 = 0xffffffff;
  let ip = src, op = dst;
  const srcEnd = src + srcSize, dstEnd = dst + dstSize;
  while (ip < srcEnd) {
    const token = <usize>load<u8>(ip++);
    let length = token >> 4;
    if (length === 15) {
      let more: usize;
      do {
        // Leaving as soon as the length cannot fit also keeps the sum from overflowing.
        if (ip >= srcEnd || length > dstSize) return BAD;
        more = <usize>load<u8>(ip++);
        length += more;
      } while (more === 255);
    }
    if (length > srcEnd - ip || length > dstEnd - op) return BAD;
    if (length <= 64 && length + 16 <= dstEnd - op) {
      for (let k: usize = 0; k < length; k += 16) v128.store(op + k, v128.load(ip + k));
    } else {
      memory.copy(op, ip, length);
    }
    ip += length;
    op += length;
    if (ip === srcEnd) return <u32>(op - dst);

    if (srcEnd - ip < 2) return BAD;
    const offset = <usize>load<u16>(ip);
    ip += 2;
    if (offset === 0 || offset > op - dst) return BAD;
    length = token & 15;
    if (length === 15) {
      let more: usize;
      do {
        if (ip >= srcEnd || length > dstSize) return BAD;
        more = <usize>load<u8>(ip++);
        length += more;
      } while (more === 255);
    }
    length += 4;
    if (length > dstEnd - op) return BAD;
    const ref = op - offset;
    if (offset >= 16 && length + 16 <= dstEnd - op) {
      for (let k: usize = 0; k < length; k += 16) v128.store(op + k, v128.load(ref + k));
    } else if (offset === 1) {
      memory.fill(op, load<u8>(ref), length);
    } else if (offset >= 8 && length + 8 <= dstEnd - op) {
      for (let k: usize = 0; k < length; k += 8) store<u64>(op + k, load<u64>(ref + k));
    } else if (length <= 32) {
      for (let k: usize = 0; k < length; k++) store<u8>(op + k, load<u8>(ref + k));
    } else {
      // The text repeats with this period: each copy doubles what is there.
      let have = offset, done: usize = 0;
      while (done < length) {
        const n = min(have, length - done);
        memory.copy(op + done, ref, n);
        done += n;
        have += n;
      }
    }
    op += length;
  }
  return BAD;
}

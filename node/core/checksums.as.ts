/**
 * AssemblyScript: CRC64-ISO and the checksum of SQLite's WAL, for all threads of the node. Compiled to checksums-wasm.ts.
 *
 * Always holds: no function allocates, keeps state, or touches memory outside the ranges that it is given.
 *
 * No tables: the polynomial of CRC64-ISO, x^64 + x^4 + x^3 + x + 1, is so sparse that x^64 = x^4 + x^3 + x + 1 is four shifted copies, and
 * squaring it three times leaves four terms: x^512 = x^32 + x^24 + x^8 + 1. Eight 64-bit lanes therefore each step 64 bytes ahead with
 * shifts and XORs in SIMD registers, and are put together at the end. In a reflected CRC "times x" is a shift to the right, and what falls
 * out on the right is a multiple of x^64.
 */
export { lz4Compress, lz4Decompress } from "./checksums-lz4.as";

/** o * x^64 for a polynomial o of degree 59 or less. */
// @ts-ignore: decorator
@inline
function fold(o: u64): u64 {
  return o ^ (o >> 1) ^ (o >> 3) ^ (o >> 4);
}

/** a * x^64. */
// @ts-ignore: decorator
@inline
function times64(a: u64): u64 {
  return a ^ (a >> 1) ^ (a >> 3) ^ (a >> 4) ^ fold((a << 63) ^ (a << 61) ^ (a << 60));
}

/** Both lanes of a, times x^512. */
// @ts-ignore: decorator
@inline
function times512(a: v128): v128 {
  const over = v128.xor(v128.xor(i64x2.shl(a, 56), i64x2.shl(a, 40)), i64x2.shl(a, 32));
  const near = v128.xor(v128.xor(a, i64x2.shr_u(a, 8)), v128.xor(i64x2.shr_u(a, 24), i64x2.shr_u(a, 32)));
  const back = v128.xor(v128.xor(over, i64x2.shr_u(over, 1)), v128.xor(i64x2.shr_u(over, 3), i64x2.shr_u(over, 4)));
  return v128.xor(near, back);
}

/** The register after `size` more bytes at `at`. The register starts as all ones and its complement is the CRC. */
export function crc64(register: u64, at: usize, size: u32): u64 {
  let c = register;
  const end = at + size;
  if (size >= 128) {
    let a = v128.xor(v128.load(at), i64x2.replace_lane(i64x2.splat(0), 0, c));
    let b = v128.load(at, 16);
    let d = v128.load(at, 32);
    let e = v128.load(at, 48);
    at += 64;
    for (const last = end - 64; at <= last; at += 64) {
      a = v128.xor(times512(a), v128.load(at));
      b = v128.xor(times512(b), v128.load(at, 16));
      d = v128.xor(times512(d), v128.load(at, 32));
      e = v128.xor(times512(e), v128.load(at, 48));
    }
    c = times64(i64x2.extract_lane(a, 0));
    c = times64(c ^ i64x2.extract_lane(a, 1));
    c = times64(c ^ i64x2.extract_lane(b, 0));
    c = times64(c ^ i64x2.extract_lane(b, 1));
    c = times64(c ^ i64x2.extract_lane(d, 0));
    c = times64(c ^ i64x2.extract_lane(d, 1));
    c = times64(c ^ i64x2.extract_lane(e, 0));
    c = times64(c ^ i64x2.extract_lane(e, 1));
  }
  for (; at + 8 <= end; at += 8) c = times64(c ^ load<u64>(at));
  for (; at < end; at++) {
    const x = c ^ <u64>load<u8>(at);
    c = (x >> 8) ^ fold(x << 56);
  }
  return c;
}

/** CRC64-ISO of the big-endian page number followed by the page, with bit 63 set. */
export function pageChecksum(pgno: u32, at: usize, size: u32): u64 {
  const x = <u64>0xffffffffffffffff ^ <u64>bswap<u32>(pgno);
  return ~crc64((x >> 32) ^ fold(x << 32), at, size) | (<u64>1 << 63);
}

/** The checksums of `count` pages from `first` on, which lie one after the other at `at`: u64 each, to `out`. */
export function pageChecksums(first: u32, count: u32, at: usize, size: u32, out: usize): void {
  for (let i: u32 = 0; i < count; i++) store<u64>(out + i * 8, pageChecksum(first + i, at + i * size, size));
}

/** Continues SQLite's WAL checksum, two u32 at `state`, over little-endian words; `size` is a multiple of 8. */
export function walChecksum(state: usize, at: usize, size: u32): void {
  let s0 = load<u32>(state), s1 = load<u32>(state, 4);
  for (const end = at + size; at < end; at += 8) {
    s0 += load<u32>(at) + s1;
    s1 += load<u32>(at, 4) + s0;
  }
  store<u32>(state, s0);
  store<u32>(state, s1, 4);
}

/** The same over big-endian words, which a WAL has when it was created on a big-endian machine. */
export function walChecksumBigEndian(state: usize, at: usize, size: u32): void {
  let s0 = load<u32>(state), s1 = load<u32>(state, 4);
  for (const end = at + size; at < end; at += 8) {
    s0 += bswap<u32>(load<u32>(at)) + s1;
    s1 += bswap<u32>(load<u32>(at, 4)) + s0;
  }
  store<u32>(state, s0);
  store<u32>(state, s1, 4);
}

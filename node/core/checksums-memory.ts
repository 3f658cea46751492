/**
 * The WebAssembly instance of this thread behind checksums.ts and ltx/lz4.ts, and who may use which part of its memory.
 *
 * Always holds: the memory never grows, so ARENA stays valid; below ARENA_SIZE it belongs to the store, above it each range belongs to the
 * one file that is named here. All of it is used synchronously: nobody expects a content to survive until a later turn of the event loop.
 *
 *   0          16 KiB   hash table of the LZ4 encoder; address 16384: state of the WAL checksum
 *   64 KiB     8 MiB    ARENA[0, ARENA_SIZE): free for whoever reads pages in order to check or send them
 *   then       64 KiB   SCRATCH        checksums.ts: copies of bytes that lie elsewhere
 *              80 KiB   FRAME          ltx/encoder.ts: one page frame
 *              256 KiB  DECODE_WINDOW  ltx/decoder.ts and ltx/compact.ts: a piece of the file
 *              64 KiB   DECODE_PAGE    ltx/decoder.ts and ltx/compact.ts: one page
 *              256 KiB  WAL_WINDOW     sqlite/wal-scanner.ts: a piece of the WAL
 */
import { assert } from "./assert.ts";
import { CHECKSUMS_WASM } from "./checksums-wasm.ts";

export interface Exports {
  memory: { readonly buffer: ArrayBuffer };
  crc64(register: bigint, at: number, size: number): bigint;
  pageChecksum(pgno: number, at: number, size: number): bigint;
  pageChecksums(first: number, count: number, at: number, size: number, out: number): void;
  walChecksum(state: number, at: number, size: number): void;
  walChecksumBigEndian(state: number, at: number, size: number): void;
  lz4Compress(src: number, size: number, dst: number, compress: boolean): number;
  lz4Decompress(src: number, srcSize: number, dst: number, dstSize: number): number;
}

/** The few names of the WebAssembly interface that are used here; the types of Node do not have them. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object) => { readonly exports: unknown };
};

const KIB = 1024;
/** Address of ARENA[0]. */
export const ARENA_BASE: number = 64 * KIB;
/** Address of the two u32 of the WAL checksum. */
export const WAL_STATE: number = 16 * KIB;

/** Bytes of ARENA that callers may use: offsets 0 to ARENA_SIZE - 1. */
export const ARENA_SIZE: number = 8 * KIB * KIB;
export const SCRATCH: number = ARENA_SIZE;
export const SCRATCH_SIZE: number = 64 * KIB;
export const FRAME: number = SCRATCH + SCRATCH_SIZE;
const FRAME_SIZE = 80 * KIB;
export const DECODE_WINDOW: number = FRAME + FRAME_SIZE;
export const DECODE_WINDOW_SIZE: number = 256 * KIB;
export const DECODE_PAGE: number = DECODE_WINDOW + DECODE_WINDOW_SIZE;
const DECODE_PAGE_SIZE = 64 * KIB;
export const WAL_WINDOW: number = DECODE_PAGE + DECODE_PAGE_SIZE;
export const WAL_WINDOW_SIZE: number = 256 * KIB;
/** A copy of 64 bytes may read a little beyond its source; 64 KiB more at the end of the memory keep that inside. */
export const MEMORY_PAGES: number = Math.ceil((ARENA_BASE + WAL_WINDOW + WAL_WINDOW_SIZE) / 65536) + 1;

const compiled = new WebAssembly.Module(Buffer.from(CHECKSUMS_WASM, "base64"));

/** One more instance, with a memory of its own in which contents survive turns of the event loop. Garbage like any other object. */
export function newInstance(): Exports {
  return new WebAssembly.Instance(compiled).exports as Exports;
}

/** The functions of checksums.as.ts; they take addresses, that is ARENA_BASE + offset. */
export const wasm = newInstance();

assert(wasm.memory.buffer.byteLength === MEMORY_PAGES * 65536, "checksums-wasm.ts is out of date: run test/unit/core/checksums-compile.ts");

/** The memory from ARENA_BASE to its end. The index into it is what every `offset` of checksums.ts means. */
export const ARENA: Buffer = Buffer.from(wasm.memory.buffer, ARENA_BASE);

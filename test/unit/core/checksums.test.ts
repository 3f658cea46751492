/** Checksums against slow, plain implementations and known values, and the committed WebAssembly against its source. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ARENA, ARENA_SIZE, CHECKSUM_FLAG, combine, Crc64, pageChecksum, pageChecksumAt, walChecksum, walChecksumAt } from "../../../node/core/checksums.ts";
import { MEMORY_PAGES } from "../../../node/core/checksums-memory.ts";
import { compileChecksums, MEMORY_PAGES as COMPILED_PAGES, TARGET } from "./checksums-compile.ts";

const ALL_ONES = 0xffffffffffffffffn;

/** The same bytes in every run. */
function noise(size: number): Buffer {
  return createHash("shake256", { outputLength: size }).update("sluice").digest();
}

/** CRC64-ISO bit by bit. */
function slowCrc64(bytes: Uint8Array): bigint {
  let c = ALL_ONES;
  for (const byte of bytes) {
    c ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) c = (c & 1n) === 1n ? (c >> 1n) ^ 0xd800000000000000n : c >> 1n;
  }
  return c ^ ALL_ONES;
}

function slowWalChecksum(bytes: Buffer, bigEndian: boolean): { s0: number; s1: number } {
  let s0 = 0n, s1 = 0n;
  for (let i = 0; i < bytes.length; i += 8) {
    s0 = BigInt.asUintN(32, s0 + BigInt(bigEndian ? bytes.readUInt32BE(i) : bytes.readUInt32LE(i)) + s1);
    s1 = BigInt.asUintN(32, s1 + BigInt(bigEndian ? bytes.readUInt32BE(i + 4) : bytes.readUInt32LE(i + 4)) + s0);
  }
  return { s0: Number(s0), s1: Number(s1) };
}

test("Crc64 has the check value of Go's crc64.ISO", () => {
  assert.equal(new Crc64().update(Buffer.from("123456789")).digest(), 0xb90956c775a41001n);
  assert.equal(new Crc64().digest(), 0n);
});

test("Crc64 agrees with the bitwise definition at every length around its inner steps", () => {
  const bytes = noise(700);
  for (let size = 0; size <= 300; size++) {
    assert.equal(new Crc64().update(bytes.subarray(3, 3 + size)).digest(), slowCrc64(bytes.subarray(3, 3 + size)), `size ${size}`);
  }
  for (const size of [511, 512, 513, 575, 576, 577, 696]) assert.equal(new Crc64().update(bytes.subarray(1, 1 + size)).digest(), slowCrc64(bytes.subarray(1, 1 + size)));
});

test("Crc64 does not depend on how the bytes are divided", () => {
  const bytes = noise(200_000);
  const whole = new Crc64().update(bytes).digest();
  const parts = new Crc64();
  for (let at = 0, step = 1; at < bytes.length; at += step, step = (step * 7) % 5003) {
    parts.update(bytes.subarray(at, at + step));
    parts.digest();
  }
  assert.equal(parts.digest(), whole);
});

test("a page checksum covers the page number and has bit 63 set", () => {
  for (const size of [512, 4096, 65536]) {
    const page = noise(size);
    for (const pgno of [1, 2, 0x01020304, 0xffffffff]) {
      const number = Buffer.alloc(4);
      number.writeUInt32BE(pgno);
      const expected = slowCrc64(Buffer.concat([number, page])) | CHECKSUM_FLAG;
      assert.equal(pageChecksum(pgno, page), expected);
      ARENA.set(page, 12_345);
      assert.equal(pageChecksumAt(pgno, 12_345, size), expected);
    }
  }
});

test("combine() adds and removes a page, and an empty database has only the flag", () => {
  const a = pageChecksum(1, noise(512)), b = pageChecksum(2, noise(512));
  const both = combine(combine(CHECKSUM_FLAG, a), b);
  assert.equal(both, CHECKSUM_FLAG | (a ^ b));
  assert.equal(combine(both, b), a);
  assert.equal(combine(combine(both, b), a), CHECKSUM_FLAG);
});

test("the WAL checksum agrees with its definition in both word orders, and runs on", () => {
  const bytes = Buffer.concat([noise(4096), Buffer.alloc(64, 0xff)]);
  for (const bigEndian of [false, true]) {
    const whole = { s0: 0, s1: 0 };
    walChecksum(bytes, whole, bigEndian);
    assert.deepEqual(whole, slowWalChecksum(bytes, bigEndian));
    const parts = { s0: 0, s1: 0 };
    ARENA.set(bytes, 16);
    walChecksumAt(16, 8, parts, bigEndian);
    walChecksumAt(24, bytes.length - 8, parts, bigEndian);
    assert.deepEqual(parts, whole);
  }
});

test("the ARENA has 8 MiB for its users, and a range beyond its end is refused", () => {
  assert.ok(ARENA_SIZE >= 8 << 20 && ARENA.length > ARENA_SIZE);
  assert.throws(() => pageChecksumAt(1, ARENA.length - 511, 512), /ARENA/);
  assert.throws(() => pageChecksumAt(1, -1, 512), /ARENA/);
});

test("checksums-wasm.ts is what its source compiles to", async () => {
  assert.equal(COMPILED_PAGES, MEMORY_PAGES);
  assert.equal(readFileSync(TARGET, "utf8"), await compileChecksums(COMPILED_PAGES), "run: node test/unit/core/checksums-compile.ts");
});

/** Which node an election takes, and what a node keeps of a proposal. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ARENA, pageChecksumAt, CHECKSUM_FLAG } from "../../../node/core/checksums.ts";
import { LtxEncoder } from "../../../node/ltx/encoder.ts";
import { mostAdvanced, type StoredPosition } from "../../../node/core/stored-position.ts";
import { Tail, type Proposed } from "../../../node/store/tail.ts";

const at = (epoch: number, txid: number, serial = 0, refused = 0): StoredPosition => ({
  published: { epoch, txid: serial === 0 ? txid : txid - 1, checksum: 1n }, refused, tail: serial === 0 ? undefined : { position: { epoch, txid, checksum: BigInt(serial) }, serial },
});

/** What the nodes say, which of them is taken, and why. */
const CASES: readonly (readonly [why: string, nodes: readonly StoredPosition[], taken: number])[] = [
  ["a later TXID", [at(1, 5), at(1, 6)], 1],
  ["a later epoch counts more than any TXID", [at(1, 9), at(2, 3)], 1],
  ["a tail counts: its commit may have been acknowledged", [at(1, 5), at(1, 6, 30)], 1],
  ["a tail that another node knows to be refused does not", [at(1, 6, 30), at(1, 5, 0, 30)], 0],
  ["nor does it against a node that has its TXID from a later proposal", [at(1, 6, 30), at(1, 6, 31)], 1],
  ["the same, whoever comes first", [at(1, 6, 31), at(1, 6, 30)], 0],
  ["what is published is committed, a tail of that TXID is not known to be", [at(1, 6, 30), at(1, 6)], 1],
  ["a refused tail loses against one more published transaction", [at(1, 7, 30), at(1, 6, 40), at(1, 7, 0, 35)], 2],
  ["equals: the first", [at(3, 3), at(3, 3)], 0],
  ["nobody", [], -1],
];

for (const [why, nodes, taken] of CASES) test(`the most advanced node: ${why}`, () => assert.equal(mostAdvanced(nodes), taken));

function proposed(txid: number, serial: number, preApplyChecksum: bigint): Proposed {
  const chunks: Buffer[] = [];
  const encoder = new LtxEncoder((chunk) => chunks.push(Buffer.from(chunk)), {
    flags: 0, pageSize: 512, commit: 1, minTxid: txid, maxTxid: txid, timestamp: 0, preApplyChecksum, walOffset: 0, walSize: 0, walSalt1: 0, walSalt2: 0, nodeId: 1n,
  });
  ARENA.fill(serial & 255, 0, 512);
  const checksum = CHECKSUM_FLAG | pageChecksumAt(1, 0, 512);
  encoder.pageAt(1, 0);
  encoder.finish(checksum);
  return { epoch: 1, txid, serial, preApplyChecksum, checksum, ltx: Buffer.concat(chunks) };
}

test("a stored proposal is found again by the next process, whole, until it is rewound, replaced or overtaken; half of one is none", () => {
  const folder = fs.mkdtempSync(join(tmpdir(), "sluice-tail-"));
  const asides: string[] = [];
  const open = (): Tail => {
    const tail = new Tail(folder, (path) => asides.push(path));
    tail.open();
    return tail;
  };
  try {
    const before = { epoch: 1, txid: 4, checksum: CHECKSUM_FLAG | 99n };
    const first = proposed(5, 100, before.checksum);
    open().store(first);
    assert.deepEqual(open().after(before), first);
    assert.equal(open().after({ ...before, txid: 5 }), undefined, "the transaction is there already");
    assert.equal(open().after({ ...before, checksum: CHECKSUM_FLAG | 98n }), undefined, "another history");
    // One of the same TXID takes its place.
    const second = proposed(5, 101, before.checksum);
    open().store(second);
    assert.equal(open().after(before)?.serial, 101);
    // The refusal of the first says nothing about the second.
    open().rewind(100);
    assert.equal(open().after(before)?.serial, 101);
    open().rewind(101);
    assert.equal(open().after(before), undefined);
    assert.equal(open().refused, 101);
    open().store(proposed(5, 102, before.checksum));
    assert.equal(open().refused, 101, "a refusal outlives the proposals");
    const path = join(folder, "tail");
    const whole = fs.readFileSync(path);
    for (const cut of [whole.length - 1, 60, 57]) {
      fs.writeFileSync(path, whole.subarray(0, cut));
      assert.equal(open().after(before), undefined);
    }
    assert.deepEqual(asides, []);
    fs.writeFileSync(path, Buffer.from(whole).fill(1, 20, 24));
    assert.equal(open().after(before), undefined);
    assert.deepEqual(asides, [path]);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});

/** The gate in front of a WAL, fed with the writes that SQLite makes, on a real file. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import Database from "better-sqlite3";
import type { WalCommit } from "../../../node/core/mount-hooks.ts";
import { WalGates } from "../../../node/fuse/wal-gate.ts";
import { FRAME_HEADER_SIZE, WAL_HEADER_SIZE, frameOffset } from "../../../node/sqlite/wal.ts";
import { scanWal } from "../../../node/sqlite/wal-scanner.ts";

const PAGE = 4096;

/** A WAL of several transactions, as SQLite made it. */
function madeWal(folder: string): Buffer {
  const db = new Database(join(folder, "made.db"));
  db.pragma("journal_mode = wal");
  db.pragma("wal_autocheckpoint = 0");
  db.exec("CREATE TABLE t(x)");
  for (let i = 0; i < 5; i++) db.prepare("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO t SELECT randomblob(500) FROM n").run(1 + i * 30);
  const wal = fs.readFileSync(join(folder, "made.db-wal"));
  db.close();
  return wal;
}

interface Write { readonly offset: number; readonly data: Buffer }

/** The header, then header and page of each frame, as walWriteOneFrame does it. */
function writesOf(wal: Buffer): Write[] {
  const writes: Write[] = [{ offset: 0, data: wal.subarray(0, WAL_HEADER_SIZE) }];
  for (let at = WAL_HEADER_SIZE; at < wal.length; at += FRAME_HEADER_SIZE + PAGE) {
    writes.push({ offset: at, data: wal.subarray(at, at + FRAME_HEADER_SIZE) });
    writes.push({ offset: at + FRAME_HEADER_SIZE, data: wal.subarray(at + FRAME_HEADER_SIZE, at + FRAME_HEADER_SIZE + PAGE) });
  }
  return writes;
}

const isCommit = (wal: Buffer, frame: number): boolean => wal.readUInt32BE(frameOffset(frame, PAGE) + 4) !== 0;
const frameOf = (offset: number): number => Math.floor((offset - WAL_HEADER_SIZE) / (FRAME_HEADER_SIZE + PAGE)) + 1;

function inFolder(run: (folder: string, wal: Buffer, fd: number) => void): void {
  const folder = fs.mkdtempSync(join(tmpdir(), "sluice-gate-"));
  const fd = fs.openSync(join(folder, "gated"), "w+");
  try {
    run(folder, madeWal(folder), fd);
  } finally {
    fs.closeSync(fd);
    fs.rmSync(folder, { recursive: true });
  }
}

function judge(gates: WalGates, fd: number, offset: number, data: Buffer): WalCommit | undefined {
  const commit = gates.judge(7, fd, offset, data);
  assert.ok(commit !== "done");
  return commit;
}

const committedIn = (fd: number): number => scanWal((buffer, at) => fs.readSync(fd, buffer, 0, buffer.length, at))?.mxFrame ?? 0;

test("exactly the writes that complete a commit are held, and until they are done no recovery finds the commit", () => {
  inFolder((_folder, wal, fd) => {
    const gates = new WalGates();
    let committed = 0;
    let held = 0;
    for (const { offset, data } of writesOf(wal)) {
      const commit = judge(gates, fd, offset, data);
      const completes = offset > 0 && data.length === PAGE && isCommit(wal, frameOf(offset));
      assert.equal(commit !== undefined, completes, `offset ${offset}`);
      if (commit !== undefined) {
        held++;
        assert.deepEqual([commit.from, commit.to, commit.commits], [committed + 1, frameOf(offset), 1]);
        assert.equal(committedIn(fd), committed);
        committed = commit.to;
        fs.writeSync(fd, data, 0, data.length, offset);
        assert.equal(committedIn(fd), committed);
        gates.decided(7, true);
      } else {
        fs.writeSync(fd, data, 0, data.length, offset);
      }
    }
    assert.ok(held >= 6, `only ${held} commits`);
    assert.equal(frameOffset(committed + 1, PAGE), wal.length);
  });
});

test("after a refusal the same frames are judged anew, and a new engine judges like the old one", () => {
  inFolder((_folder, wal, fd) => {
    let gates = new WalGates();
    let refusals = 0;
    const writes = writesOf(wal);
    let begin = 1;
    for (let i = 0; i < writes.length; i++) {
      const { offset, data } = writes[i]!;
      const commit = judge(gates, fd, offset, data);
      if (commit === undefined) {
        fs.writeSync(fd, data, 0, data.length, offset);
        continue;
      }
      if (refusals % 3 !== 2) {
        // Refused, or lost with the engine: SQLite writes the transaction again from its first frame.
        refusals++;
        if (refusals % 3 === 1) gates.decided(7, false);
        else gates = new WalGates();
        assert.equal(committedIn(fd), commit.from - 1);
        i = begin - 1;
        continue;
      }
      refusals++;
      fs.writeSync(fd, data, 0, data.length, offset);
      gates.decided(7, true);
      begin = i + 1;
    }
    assert.ok(refusals >= 15, `only ${refusals}`);
    assert.deepEqual(fs.readFileSync(fd).length === 0 ? undefined : committedIn(fd), writes.length === 0 ? undefined : (wal.length - WAL_HEADER_SIZE) / (FRAME_HEADER_SIZE + PAGE));
  });
});

test("headers that are written at the end, as for a transaction that outgrew the cache, complete the commit with the last of them", () => {
  inFolder((_folder, wal, fd) => {
    const gates = new WalGates();
    const frames = (wal.length - WAL_HEADER_SIZE) / (FRAME_HEADER_SIZE + PAGE);
    let first = 1;
    let held = 0;
    assert.equal(judge(gates, fd, 0, wal.subarray(0, WAL_HEADER_SIZE)), undefined);
    fs.writeSync(fd, wal, 0, WAL_HEADER_SIZE, 0);
    for (let frame = 1; frame <= frames; frame++) {
      if (!isCommit(wal, frame)) continue;
      const put = (at: number, data: Buffer): void => {
        assert.equal(judge(gates, fd, at, data), undefined);
        fs.writeSync(fd, data, 0, data.length, at);
      };
      for (let n = first; n <= frame; n++) {
        const at = frameOffset(n, PAGE);
        const without = Buffer.from(wal.subarray(at, at + FRAME_HEADER_SIZE));
        without.fill(0, 8);
        put(at, without);
        put(at + FRAME_HEADER_SIZE, wal.subarray(at + FRAME_HEADER_SIZE, at + FRAME_HEADER_SIZE + PAGE));
      }
      for (let n = first; n < frame; n++) put(frameOffset(n, PAGE), wal.subarray(frameOffset(n, PAGE), frameOffset(n, PAGE) + FRAME_HEADER_SIZE));
      const at = frameOffset(frame, PAGE);
      const commit = judge(gates, fd, at, wal.subarray(at, at + FRAME_HEADER_SIZE));
      assert.ok(commit !== undefined);
      assert.deepEqual([commit.from, commit.to], [first, frame]);
      fs.writeSync(fd, wal, at, FRAME_HEADER_SIZE, at);
      gates.decided(7, true);
      held++;
      first = frame + 1;
    }
    assert.ok(held >= 6);
    assert.equal(committedIn(fd), frames);
  });
});

test("a write that the kernel sends again after it was done decides nothing, another one at a committed frame does", () => {
  inFolder((_folder, wal, fd) => {
    fs.writeSync(fd, wal, 0, wal.length, 0);
    const frames = (wal.length - WAL_HEADER_SIZE) / (FRAME_HEADER_SIZE + PAGE);
    const at = frameOffset(frames, PAGE) + FRAME_HEADER_SIZE;
    const page = wal.subarray(at, at + PAGE);
    const gates = new WalGates();
    assert.equal(gates.judge(7, fd, at, page), "done");
    // Its writer died before it published; the next one begins in the same place with other content, then the old content would be a commit again.
    const other = Buffer.alloc(PAGE, 7);
    assert.equal(judge(gates, fd, at, other), undefined);
    fs.writeSync(fd, other, 0, PAGE, at);
    const commit = judge(gates, fd, at, page);
    assert.equal(commit?.to, frames);
    // On a follower nobody asks.
    gates.setRole("follower");
    assert.equal(judge(gates, fd, at, page), undefined);
  });
});

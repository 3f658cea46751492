/** A truncation is asked about unless everything that is committed to the WAL beside the database is known to be in the log. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { after, before, beforeEach, describe, test } from "node:test";
import { CapturedPoint } from "../../node/core/captured-point.ts";
import { encodeWalIndexHeader, WAL_INDEX_HEADER_B } from "../../node/sqlite/wal-index.ts";
import { skipWithoutMount, TestMount } from "../support/fuse-mount.ts";

const END = { salt1: 5, salt2: 0xfffffffe, frame: 12 };
const NAME = "app.db";

describe("the end of a checkpoint", { skip: skipWithoutMount }, () => {
  let mount: TestMount;
  let fd: number;

  before(async () => {
    mount = await TestMount.start();
    fs.writeFileSync(mount.path(NAME), Buffer.alloc(8192, 1));
    fd = fs.openSync(mount.path(NAME), "r+");
  });
  after(async () => {
    fs.closeSync(fd);
    await mount.dispose();
  });
  beforeEach(async () => {
    await mount.call("setRole", "primary");
    fs.ftruncateSync(fd, 8192);
    walEnds(END.frame);
    await published(END);
  });

  const walEnds = (frame: number): void => {
    const header = encodeWalIndexHeader({ iChange: 1, bigEndChecksum: false, pageSize: 4096, mxFrame: frame, nPage: 2, frameChecksum: { s0: 0, s1: 0 }, salt1: END.salt1, salt2: END.salt2 });
    const index = Buffer.alloc(32768);
    header.copy(index, 0);
    header.copy(index, WAL_INDEX_HEADER_B);
    fs.writeFileSync(mount.path(`${NAME}-shm`), index);
  };
  /** The server is another process: it gets a copy of what the two threads of an engine share. */
  const published = async (end: typeof END): Promise<void> => {
    const point = new CapturedPoint();
    point.publish(end);
    const copy = new ArrayBuffer(point.shared.byteLength);
    new Uint8Array(copy).set(new Uint8Array(point.shared));
    await mount.call("shareCaptured", NAME, copy);
  };
  /** Sizes that the hook was asked about while `act` ran. */
  const asked = async (act: () => void): Promise<unknown[]> => {
    const from = mount.hooks.length;
    act();
    // What the server told before this answer has come before it.
    await mount.call("requestCounts");
    return mount.hooks.slice(from).filter(({ hook, args }) => hook === "beforeTruncate" && args[0] === NAME).map(({ args }) => args[1]);
  };
  const cut = (size: number): void => fs.ftruncateSync(fd, size);

  test("is not asked about when the WAL ends where the log does", async () => {
    assert.deepEqual(await asked(() => cut(4096)), []);
    assert.equal(fs.fstatSync(fd).size, 4096);
    assert.equal(fs.statSync(mount.backing(NAME)).size, 4096);
  });

  test("is asked about when the WAL has gone on", async () => {
    walEnds(END.frame + 1);
    assert.deepEqual(await asked(() => cut(4096)), [4096]);
    assert.equal(fs.statSync(mount.backing(NAME)).size, 4096);
  });

  test("is asked about when nothing is published, or of another WAL", async () => {
    await published({ ...END, salt1: END.salt1 + 1 });
    assert.deepEqual(await asked(() => cut(4096)), [4096]);
    await published({ ...END, frame: 0 });
    assert.deepEqual(await asked(() => cut(8192)), [8192]);
  });

  test("is asked about when there is no wal-index", async () => {
    fs.unlinkSync(mount.path(`${NAME}-shm`));
    assert.deepEqual(await asked(() => cut(4096)), [4096]);
  });

  test("of no page at all is a rewriting, and is asked about", async () => {
    assert.deepEqual(await asked(() => cut(0)), [0]);
  });

  test("on a follower is asked about", async () => {
    await mount.call("setRole", "follower");
    assert.deepEqual(await asked(() => cut(4096)), [4096]);
  });
});

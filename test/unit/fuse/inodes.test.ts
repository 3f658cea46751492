/** The inode table: ids that outlive an engine, counts of opens, registrations. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { InodeTable, type Inode } from "../../../node/fuse/inodes.ts";
import { IDLE_BACKINGS } from "../../../node/fuse/policy.ts";
import { writeBackingId } from "../../../node/fuse/records.ts";

function world(t: TestContext): { filesDir: string; runDir: string; unregistered: number[]; table: (resume?: boolean) => InodeTable; put: (path: string) => void } {
  const folder = fs.mkdtempSync(join(tmpdir(), "sluice-inodes-"));
  t.after(() => { fs.rmSync(folder, { recursive: true }); });
  const [filesDir, runDir] = [join(folder, "files"), join(folder, "run")];
  fs.mkdirSync(filesDir);
  fs.mkdirSync(runDir);
  const unregistered: number[] = [];
  return {
    filesDir, runDir, unregistered,
    table: (resume = false) => new InodeTable({ filesDir, runDir, resume, unregister: (_, backing) => unregistered.push(backing) }),
    put: (path) => { fs.writeFileSync(join(filesDir, path), path); },
  };
}

const learn = (table: InodeTable, parent: Inode, name: string): Inode =>
  table.learn(parent, name, fs.lstatSync(join(table.file(parent), name), { bigint: true }));

/** What the main thread does after the first open. */
function register(runDir: string, inode: Inode, backing: number): void {
  inode.backing = backing;
  const fd = fs.openSync(join(runDir, "inodes"), "r+");
  writeBackingId(fd, inode.slot, backing);
  fs.closeSync(fd);
}

test("the rename of a directory changes the paths of all below it", (t) => {
  const w = world(t);
  fs.mkdirSync(join(w.filesDir, "a/b"), { recursive: true });
  w.put("a/b/c.db");
  const table = w.table();
  const a = learn(table, table.root, "a");
  const c = learn(table, learn(table, a, "b"), "c.db");
  assert.equal(table.path(c), "a/b/c.db");
  fs.renameSync(join(w.filesDir, "a"), join(w.filesDir, "z"));
  table.renamed(a, table.root, "z");
  assert.equal(table.path(c), "z/b/c.db");
  assert.equal(fs.readFileSync(table.file(c), "utf8"), "a/b/c.db");
});

test("a directory stays known while something below it is, and both go when the kernel has forgotten them", (t) => {
  const w = world(t);
  fs.mkdirSync(join(w.filesDir, "a"));
  w.put("a/b");
  const table = w.table();
  const a = learn(table, table.root, "a");
  a.lookups = 1;
  const b = learn(table, a, "b");
  b.lookups = 2;
  table.forget(a.id, 1);
  assert.equal(table.find(a.id), a);
  table.forget(b.id, 1);
  assert.equal(table.find(b.id), b);
  table.forget(b.id, 1);
  assert.equal(table.find(b.id), undefined);
  assert.equal(table.find(a.id), undefined);
});

test("a new engine finds the open inodes, their counts and their backing ids", (t) => {
  const w = world(t);
  w.put("open.db");
  w.put("idle.db");
  w.put("plain");
  const first = w.table();
  const open = learn(first, first.root, "open.db");
  first.opened(open, 10n, false, { raw: false, own: false });
  first.opened(open, 12n, false, { raw: true, own: false });
  register(w.runDir, open, 7);
  const idle = learn(first, first.root, "idle.db");
  first.opened(idle, 14n, false, { raw: false, own: false });
  register(w.runDir, idle, 8);
  assert.deepEqual(first.released(idle, 102n, false, { raw: false, own: false }), { last: true, lastRaw: false });
  first.setMinor(44);

  const second = w.table(true);
  assert.equal(second.minor, 44);
  const again = second.need(open.id);
  assert.deepEqual([again.opens, again.rawOpens, again.backing, again.generation, second.path(again)], [2, 1, 7, open.generation, "open.db"]);
  assert.equal(second.need(idle.id).backing, 8);
  assert.equal(second.path(second.need(Number(fs.statSync(join(w.filesDir, "plain")).ino))), "plain");
  assert.deepEqual(second.released(again, 104n, false, { raw: true, own: false }), { last: false, lastRaw: true });
  assert.deepEqual(second.released(again, 106n, false, { raw: false, own: false }), { last: true, lastRaw: false });
  assert.deepEqual(w.unregistered, []);
});

test("an open that was counted before the engine died is not counted again when the kernel repeats it", (t) => {
  const w = world(t);
  w.put("a");
  const first = w.table();
  first.opened(learn(first, first.root, "a"), 20n, false, { raw: false, own: false });
  const second = w.table(true);
  const inode = learn(second, second.root, "a");
  second.opened(inode, 20n | (1n << 63n), true, { raw: false, own: false });
  assert.equal(inode.opens, 1);
  second.opened(inode, 22n | (1n << 63n), true, { raw: false, own: false });
  assert.equal(inode.opens, 2);
});

test("a release that was counted before the engine died is not counted again, and files stay known whose references nobody counted", (t) => {
  const w = world(t);
  w.put("a");
  const first = w.table();
  const before = learn(first, first.root, "a");
  for (const unique of [2n, 4n]) first.opened(before, unique, false, { raw: false, own: false });
  register(w.runDir, before, 3);
  first.released(before, 6n, false, { raw: false, own: false });
  const second = w.table(true);
  const inode = second.need(before.id);
  assert.deepEqual(second.released(inode, 6n | (1n << 63n), true, { raw: false, own: false }), { last: false, lastRaw: false });
  assert.equal(inode.opens, 1);
  assert.deepEqual(second.released(inode, 8n, false, { raw: false, own: false }), { last: true, lastRaw: false });
  second.forget(inode.id, 1000);
  assert.equal(second.need(inode.id), inode);
});

test("when the number of such a file is used again, references of the old one given back do not forget the new one", (t) => {
  const w = world(t);
  w.put("a");
  w.table();
  const table = w.table(true);
  const stat = fs.lstatSync(join(w.filesDir, "a"), { bigint: true });
  table.unlinked(table.need(Number(stat.ino)), false);
  const again = table.learn(table.root, "b", stat);
  again.lookups++;
  table.forget(again.id, 1);
  assert.equal(table.need(again.id), again);
});

test("a file that is unlinked while open is found aside by a new engine, and is gone after its last close", (t) => {
  const w = world(t);
  w.put("a");
  const first = w.table();
  const inode = learn(first, first.root, "a");
  first.opened(inode, 2n, false, { raw: false, own: false });
  fs.renameSync(join(w.filesDir, "a"), join(w.runDir, "unlinked", String(inode.id)));
  first.unlinked(inode, true);
  assert.equal(first.path(inode), undefined);
  const second = w.table(true);
  const again = second.need(inode.id);
  assert.equal(again.unlinked, true);
  assert.equal(fs.readFileSync(second.descriptor(again), "utf8"), "a");
  second.released(again, 108n, false, { raw: false, own: false });
  assert.deepEqual(fs.readdirSync(join(w.runDir, "unlinked")), []);
  assert.throws(() => second.need(inode.id), { code: "ESTALE" });
});

test("what lies aside and is not open goes when an engine takes over", (t) => {
  const w = world(t);
  w.table();
  fs.writeFileSync(join(w.runDir, "unlinked", "12345"), "left over");
  w.table(true);
  assert.deepEqual(fs.readdirSync(join(w.runDir, "unlinked")), []);
});

test("registrations of closed files are kept up to a bound, the longest unused go first", (t) => {
  const w = world(t);
  const table = w.table();
  for (let index = 0; index <= IDLE_BACKINGS; index++) {
    w.put(`f${index}`);
    const inode = learn(table, table.root, `f${index}`);
    inode.lookups = 1;
    table.opened(inode, BigInt(2 * index), false, { raw: false, own: false });
    register(w.runDir, inode, index + 1);
    table.released(inode, 110n, false, { raw: false, own: false });
  }
  assert.deepEqual(w.unregistered, [1]);
});

test("an inode number that is used again gets a new generation and drops the old registration", (t) => {
  const w = world(t);
  w.put("a");
  const table = w.table();
  const stat = fs.lstatSync(join(w.filesDir, "a"), { bigint: true });
  const inode = table.learn(table.root, "a", stat);
  inode.lookups = 3;
  table.opened(inode, 2n, false, { raw: false, own: false });
  register(w.runDir, inode, 5);
  table.released(inode, 112n, false, { raw: false, own: false });
  const generation = inode.generation;
  const reborn = Object.assign(Object.create(Object.getPrototypeOf(stat)) as typeof stat, stat, { birthtimeNs: stat.birthtimeNs + 1n });
  assert.equal(table.learn(table.root, "b", reborn), inode);
  assert.notEqual(inode.generation, generation);
  assert.deepEqual(w.unregistered, [5]);
  assert.equal(inode.lookups, 3);
});

test("descriptors of the node itself do not keep an application's last close from being one, also for the next engine", (t) => {
  const w = world(t);
  w.put("open.db");
  const first = w.table();
  const inode = learn(first, first.root, "open.db");
  const [application, own] = [{ raw: false, own: false }, { raw: false, own: true }];
  first.opened(inode, 2n, false, own);
  first.opened(inode, 4n, false, application);
  first.opened(inode, 6n, false, application);
  register(w.runDir, inode, 7);
  assert.deepEqual(first.released(inode, 8n, false, application), { last: false, lastRaw: false });
  const second = w.table(true);
  const again = second.need(inode.id);
  assert.deepEqual([again.opens, again.ownOpens], [2, 1]);
  assert.deepEqual(second.released(again, 10n, false, application), { last: true, lastRaw: false });
  assert.deepEqual(second.released(again, 12n, false, own), { last: false, lastRaw: false });
  assert.equal(again.opens, 0);
});

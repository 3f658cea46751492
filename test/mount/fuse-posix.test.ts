/** What POSIX promises of files holds on the mount: each row is one fact, shown on a real mount and, where it says so, beside the backing file system. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { TRUSTED_DIRECTORY, trustedName } from "../../node/fuse/policy.ts";
import { run, skipWithoutMount, TestMount, until } from "../support/fuse-mount.ts";

const raises = (code: string): { code: string } => ({ code });
let mount: TestMount;
const at = (name: string): string => mount.path(name);

describe("a mount behaves as POSIX says", { skip: skipWithoutMount }, () => {
  before(async () => {
    mount = await TestMount.start({ virtual: { ".primary": "node-a\n", "app.db-pos": "x".repeat(90_000), "sub/app.db-pos": "1\n" } });
  });
  after(async () => {
    const complaints = mount.hooks.filter((call) => call.hook === "report");
    await mount.dispose();
    assert.deepEqual(complaints, []);
  });

  const facts: Record<string, () => void | Promise<void>> = {
    "what is written is read back, through the mount and beneath it": () => {
      fs.writeFileSync(at("a"), "hello");
      assert.equal(fs.readFileSync(at("a"), "utf8"), "hello");
      assert.equal(fs.readFileSync(mount.backing("a"), "utf8"), "hello");
    },
    "a file has the size that was appended, at once and for all": () => {
      const fd = fs.openSync(at("append"), "a");
      for (let length = 1; length <= 20; length++) {
        fs.writeSync(fd, "x");
        assert.equal(fs.fstatSync(fd).size, length);
        assert.equal(fs.statSync(at("append")).size, length);
      }
      fs.closeSync(fd);
    },
    "two writers that append do not overwrite each other": async () => {
      const script = (letter: string): string => `i=0; while [ $i -lt 200 ]; do echo ${letter} >> "$0"; i=$((i+1)); done`;
      await Promise.all(["a", "b"].map((letter) => run("sh", ["-c", script(letter), at("shared")])));
      const lines = fs.readFileSync(at("shared"), "utf8").split("\n");
      assert.deepEqual([lines.filter((line) => line === "a").length, lines.filter((line) => line === "b").length], [200, 200]);
    },
    "O_TRUNC, truncate and ftruncate cut and extend": () => {
      fs.writeFileSync(at("t"), "0123456789");
      fs.truncateSync(at("t"), 4);
      assert.equal(fs.readFileSync(at("t"), "utf8"), "0123");
      const fd = fs.openSync(at("t"), "r+");
      fs.ftruncateSync(fd, 6);
      assert.equal(fs.fstatSync(fd).size, 6);
      fs.closeSync(fd);
      assert.equal(fs.readFileSync(at("t"), "latin1"), "0123\0\0");
      fs.closeSync(fs.openSync(at("t"), "w"));
      assert.equal(fs.statSync(at("t")).size, 0);
    },
    "an unlinked file lives until its last close": () => {
      fs.writeFileSync(at("u"), "still here");
      const fd = fs.openSync(at("u"), "r+");
      const { ino } = fs.fstatSync(fd);
      fs.unlinkSync(at("u"));
      assert.throws(() => fs.statSync(at("u")), raises("ENOENT"));
      assert.equal(fs.readFileSync(fd, "utf8"), "still here");
      fs.writeSync(fd, "more", 10);
      fs.fsyncSync(fd);
      fs.ftruncateSync(fd, 12);
      fs.fchmodSync(fd, 0o600);
      const stat = fs.fstatSync(fd);
      assert.deepEqual([stat.ino, stat.size, stat.nlink, stat.mode & 0o777], [ino, 12, 0, 0o600]);
      fs.writeFileSync(at("u"), "a new one");
      assert.notEqual(fs.statSync(at("u")).ino, ino);
      fs.closeSync(fd);
    },
    "a rollback journal that was made in advance is a file as new as any other": async () => {
      const folder = join(mount.runDir, "spare");
      const spares = (): string[] => fs.readdirSync(folder).map((name) => join(folder, name));
      const path = at("spare.db-journal");
      let taken = 0;
      for (const [round, mode] of [0o644, 0o644, 0o600, 0o640, 0o666].entries()) {
        const inos = spares().map((file) => fs.statSync(file).ino);
        assert.equal(inos.length, Math.min(round, 1), "one waits, from the second journal on");
        const umask = process.umask(0);
        const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL, mode);
        process.umask(umask);
        const stat = fs.fstatSync(fd);
        assert.deepEqual([stat.size, stat.mode & 0o7777, stat.uid, stat.gid, stat.nlink], [0, mode, process.getuid!(), process.getgid!(), 1]);
        // It can be seen a moment before it can be taken.
        if (stat.ino === inos[0]) taken++;
        assert.throws(() => fs.openSync(path, "wx"), raises("EEXIST"));
        fs.writeSync(fd, `journal ${round}`);
        assert.equal(fs.readFileSync(mount.backing("spare.db-journal"), "utf8"), `journal ${round}`);
        fs.closeSync(fd);
        fs.unlinkSync(path);
        assert.equal(fs.existsSync(mount.backing("spare.db-journal")), false);
        await until("the next one waits", () => spares().length === 1 && fs.statSync(spares()[0]!).ino !== stat.ino);
      }
      assert.ok(taken > 0, "some were made of the file that waited");
    },
    "a rollback journal in a folder with set-group-id has the group of the folder, also when a spare file waits": async () => {
      fs.mkdirSync(at("shared-group"));
      fs.chownSync(at("shared-group"), 0, 4321);
      fs.chmodSync(at("shared-group"), 0o2775);
      for (let round = 0; round < 3; round++) {
        fs.closeSync(fs.openSync(at("ahead.db-journal"), "wx"));
        fs.unlinkSync(at("ahead.db-journal"));
        await until("a spare waits", () => fs.readdirSync(join(mount.runDir, "spare")).length === 1);
        await mount.call("openGate"); // An answered call: what the server posted before is posted.
        fs.closeSync(fs.openSync(at("shared-group/x.db-journal"), "wx"));
        assert.equal(fs.statSync(at("shared-group/x.db-journal")).gid, 4321);
        fs.unlinkSync(at("shared-group/x.db-journal"));
      }
    },
    "nothing of an unlinked file stays on the disk after its last close": async () => {
      fs.writeFileSync(at("v"), "v");
      const fd = fs.openSync(at("v"), "r");
      fs.unlinkSync(at("v"));
      const aside = join(mount.runDir, "unlinked");
      assert.equal(fs.readdirSync(aside).length, 1);
      fs.closeSync(fd);
      await until("the file aside is gone", () => fs.readdirSync(aside).length === 0);
    },
    "rename replaces, keeps the inode, and leaves what was open of the replaced file": () => {
      fs.writeFileSync(at("from"), "new");
      fs.writeFileSync(at("to"), "old");
      const old = fs.openSync(at("to"), "r");
      const { ino } = fs.statSync(at("from"));
      fs.renameSync(at("from"), at("to"));
      assert.equal(fs.readFileSync(old, "utf8"), "old");
      assert.equal(fs.fstatSync(old).nlink, 0);
      fs.closeSync(old);
      assert.equal(fs.readFileSync(at("to"), "utf8"), "new");
      assert.equal(fs.statSync(at("to")).ino, ino);
      assert.throws(() => fs.statSync(at("from")), raises("ENOENT"));
    },
    "a file that is open keeps working when its directory is renamed": () => {
      fs.mkdirSync(at("d1/d2"), { recursive: true });
      fs.writeFileSync(at("d1/d2/f"), "1");
      const fd = fs.openSync(at("d1/d2/f"), "r+");
      fs.renameSync(at("d1"), at("d3"));
      fs.ftruncateSync(fd, 0);
      fs.writeSync(fd, "2");
      fs.closeSync(fd);
      assert.equal(fs.readFileSync(at("d3/d2/f"), "utf8"), "2");
      assert.throws(() => fs.readFileSync(at("d1/d2/f")), raises("ENOENT"));
      fs.writeFileSync(at("d3/d2/g"), "");
      assert.deepEqual(fs.readdirSync(at("d3/d2")), ["f", "g"]);
    },
    "errors are those that callers know": () => {
      fs.mkdirSync(at("dir/inner"), { recursive: true });
      fs.writeFileSync(at("file"), "");
      assert.throws(() => fs.readFileSync(at("none")), raises("ENOENT"));
      assert.throws(() => fs.unlinkSync(at("none")), raises("ENOENT"));
      assert.throws(() => fs.renameSync(at("none"), at("x")), raises("ENOENT"));
      assert.throws(() => fs.mkdirSync(at("none/x")), raises("ENOENT"));
      assert.throws(() => fs.mkdirSync(at("dir")), raises("EEXIST"));
      assert.throws(() => fs.openSync(at("file"), "wx"), raises("EEXIST"));
      assert.throws(() => fs.rmdirSync(at("dir")), raises("ENOTEMPTY"));
      assert.throws(() => fs.rmdirSync(at("file")), raises("ENOTDIR"));
      assert.throws(() => fs.unlinkSync(at("dir")), (error: NodeJS.ErrnoException) => error.code === "EISDIR" || error.code === "EPERM");
      assert.throws(() => fs.renameSync(at("file"), at("dir")), raises("EISDIR"));
      assert.throws(() => fs.renameSync(at("dir"), at("dir/inner/x")), raises("EINVAL"));
      assert.throws(() => fs.openSync(at("dir"), "r+"), raises("EISDIR"));
      assert.throws(() => fs.writeFileSync(at("x".repeat(256)), ""), raises("ENAMETOOLONG"));
      assert.throws(() => fs.linkSync(at("file"), at("hard")), raises("EPERM"));
    },
    "a directory may replace an empty one, not a full one": () => {
      for (const name of ["r1", "r2", "r3"]) fs.mkdirSync(at(name));
      fs.writeFileSync(at("r3/x"), "");
      fs.renameSync(at("r1"), at("r2"));
      assert.throws(() => fs.renameSync(at("r2"), at("r3")), raises("ENOTEMPTY"));
      assert.equal(fs.existsSync(at("r1")), false);
      fs.rmdirSync(at("r2"));
    },
    "symbolic links lead where they say, also nowhere": () => {
      fs.writeFileSync(at("target"), "t");
      fs.symlinkSync("target", at("link"));
      assert.equal(fs.readlinkSync(at("link")), "target");
      assert.equal(fs.readFileSync(at("link"), "utf8"), "t");
      assert.equal(fs.lstatSync(at("link")).isSymbolicLink(), true);
      fs.symlinkSync("nowhere", at("dangling"));
      assert.throws(() => fs.statSync(at("dangling")), raises("ENOENT"));
      fs.unlinkSync(at("link"));
      assert.equal(fs.existsSync(at("target")), true);
    },
    "mode, owner and times are kept, times to the nanosecond": async () => {
      fs.writeFileSync(at("m"), "");
      fs.chmodSync(at("m"), 0o640);
      fs.chownSync(at("m"), 1234, 2345);
      const touched = await run("touch", ["-d", "2001-02-03T04:05:06.123456789Z", at("m")]);
      assert.equal(touched.status, 0, touched.stderr);
      for (const file of [at("m"), mount.backing("m")]) {
        const stat = fs.statSync(file, { bigint: true });
        assert.deepEqual([stat.mode & 0o777n, stat.uid, stat.gid, stat.mtimeNs, stat.atimeNs], [0o640n, 1234n, 2345n, 981173106123456789n, 981173106123456789n]);
      }
      const before = Date.now() - 2_000;
      assert.equal((await run("touch", [at("m")])).status, 0);
      assert.ok(fs.statSync(at("m")).mtimeMs >= before);
    },
    "what another user makes is his, and the rights of others hold": async () => {
      fs.mkdirSync(at("public"));
      fs.chmodSync(at("public"), 0o777);
      fs.mkdirSync(at("group"));
      fs.chownSync(at("group"), 0, 777);
      fs.chmodSync(at("group"), 0o2777);
      fs.writeFileSync(at("private"), "secret");
      fs.chmodSync(at("private"), 0o600);
      fs.chmodSync(mount.folder, 0o755);
      const made = await run("sh", ["-c", 'umask 027; echo x > public/f; mkdir public/d; ln -s f public/l; echo x > group/f; cat private; true'], { uid: 65534, gid: 65533, cwd: mount.mountPoint });
      assert.match(made.stderr, /private: Permission denied/);
      for (const [name, uid, gid, mode] of [["public/f", 65534, 65533, 0o640], ["public/d", 65534, 65533, 0o750], ["public/l", 65534, 65533, 0o777], ["group/f", 65534, 777, 0o640]] as const) {
        const stat = fs.lstatSync(mount.backing(name));
        assert.deepEqual([name, stat.uid, stat.gid, stat.mode & 0o7777], [name, uid, gid, mode]);
      }
      const refused = await run("sh", ["-c", "echo x > private"], { uid: 65534, gid: 65533, cwd: mount.mountPoint });
      assert.notEqual(refused.status, 0);
    },
    "a truncation by another user takes set-user-id away": async () => {
      fs.writeFileSync(at("suid"), "program");
      fs.chmodSync(at("suid"), 0o4777);
      assert.equal(fs.statSync(at("suid")).mode & 0o7777, 0o4777);
      const cut = await run("truncate", ["-s", "3", "suid"], { uid: 65534, gid: 65533, cwd: mount.mountPoint });
      assert.equal(cut.status, 0, cut.stderr);
      assert.equal(fs.statSync(at("suid")).mode & 0o7777, 0o777);
    },
    "names with spaces, quotes, line ends and letters of all kinds": () => {
      const names = ["a b", "ümläut", "日本語", "quote'\"", "line\nend", "-dash", "%2F"];
      fs.mkdirSync(at("names"));
      for (const name of names) fs.writeFileSync(at(`names/${name}`), name);
      assert.deepEqual(fs.readdirSync(at("names")).sort(), [...names].sort());
      for (const name of names) assert.equal(fs.readFileSync(at(`names/${name}`), "utf8"), name);
    },
    "a name that is not UTF-8 is refused, not bent": () => {
      const name = Buffer.concat([Buffer.from(at("bad")), Buffer.from([0xff])]);
      assert.throws(() => fs.writeFileSync(name, ""), raises("EILSEQ"));
    },
    "a directory of 3,000 files lists all of them, once, with their kinds": () => {
      fs.mkdirSync(at("many"));
      const names = Array.from({ length: 3000 }, (_, index) => `file-${index}`);
      for (const name of names) fs.writeFileSync(mount.backing(`many/${name}`), "");
      const listed = fs.readdirSync(at("many"), { withFileTypes: true });
      assert.deepEqual(listed.map((entry) => entry.name).sort(), names.sort());
      assert.ok(listed.every((entry) => entry.isFile()));
      fs.rmSync(at("many"), { recursive: true });
      assert.equal(fs.existsSync(mount.backing("many")), false);
    },
    "ls shows the inode numbers that stat does": async () => {
      fs.writeFileSync(at("numbered"), "");
      const listed = await run("ls", ["-i", mount.mountPoint]);
      assert.match(listed.stdout, new RegExp(`\\b${fs.statSync(at("numbered")).ino} numbered\\n`));
    },
    "cp -a copies content, mode, times and links, there and back": async () => {
      const source = join(mount.folder, "source");
      fs.mkdirSync(join(source, "sub"), { recursive: true });
      fs.writeFileSync(join(source, "sub/data"), Buffer.alloc(3_000_000, "abc"));
      fs.chmodSync(join(source, "sub/data"), 0o751);
      fs.symlinkSync("sub/data", join(source, "link"));
      for (const [from, to] of [[source, at("copy")], [at("copy"), join(mount.folder, "back")]] as const) {
        const copied = await run("cp", ["-a", from, to]);
        assert.equal(copied.status, 0, copied.stderr);
      }
      const [first, last] = [source, join(mount.folder, "back")].map((folder) => fs.statSync(join(folder, "sub/data"), { bigint: true }));
      assert.deepEqual([last!.mode, last!.mtimeNs, last!.size], [first!.mode, first!.mtimeNs, first!.size]);
      assert.equal((await run("diff", ["-r", "--no-dereference", source, join(mount.folder, "back")])).status, 0);
    },
    "df shows the backing file system": () => {
      const [seen, real] = [fs.statfsSync(mount.mountPoint), fs.statfsSync(mount.filesDir)];
      assert.deepEqual([seen.blocks, seen.bsize, seen.files], [real.blocks, real.bsize, real.files]);
      assert.ok(Math.abs(seen.bavail - real.bavail) < real.blocks / 10);
    },
    "a shared map and write calls see each other": async () => {
      const script = `
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 8192)
m = mmap.mmap(fd, 8192)
m[0:5] = b"hello"
assert os.pread(fd, 5, 0) == b"hello"
os.pwrite(fd, b"world", 4096)
assert m[4096:4101] == b"world"
assert open(sys.argv[2], "rb").read(5) == b"hello"
m.flush()
`;
      const mapped = await run("python3", ["-c", script, at("mapped"), mount.backing("mapped")]);
      assert.equal(mapped.status, 0, mapped.stderr);
    },
    "a program on the mount can be run": async () => {
      fs.writeFileSync(at("program"), "#!/bin/sh\necho ran\n", { mode: 0o755 });
      assert.equal((await run(at("program"), [])).stdout, "ran\n");
    },
    "locks of two processes exclude each other, and end with their holder": async () => {
      const script = `
import fcntl, os, sys
a = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.lockf(a, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 120)
pid = os.fork()
if pid == 0:
    b = os.open(sys.argv[1], os.O_RDWR)
    try:
        fcntl.lockf(b, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 120)
        os._exit(1)
    except OSError:
        fcntl.lockf(b, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 121)
        os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
fcntl.lockf(a, fcntl.LOCK_UN, 1, 120)
`;
      const locked = await run("python3", ["-c", script, at("lock")]);
      assert.equal(locked.status, 0, locked.stderr);
      assert.equal((await mount.call<Record<string, number>>("requestCounts"))["OP32"], undefined);
    },
    "fsync and fdatasync succeed on files and directories": () => {
      for (const [name, flags] of [["synced", "w+"], [".", "r"]] as const) {
        const fd = fs.openSync(at(name), flags);
        fs.fsyncSync(fd);
        fs.fdatasyncSync(fd);
        fs.closeSync(fd);
      }
    },
    "virtual files are read to their end, and cannot be changed or removed": () => {
      assert.equal(fs.readFileSync(at(".primary"), "utf8"), "node-a\n");
      assert.equal(fs.readFileSync(at("app.db-pos"), "utf8").length, 90_000);
      assert.equal(fs.statSync(at(".primary")).mode & 0o777, 0o444);
      assert.ok(fs.readdirSync(mount.mountPoint).includes(".primary"));
      assert.equal(fs.readdirSync(mount.mountPoint).includes("app.db-pos"), false);
      assert.throws(() => fs.writeFileSync(at(".primary"), "x"), (error: NodeJS.ErrnoException) => ["EACCES", "EPERM"].includes(error.code ?? ""));
      assert.throws(() => fs.unlinkSync(at(".primary")), raises("EPERM"));
      assert.throws(() => fs.renameSync(at("file"), at(".primary")), raises("EPERM"));
      fs.mkdirSync(at("sub"));
      assert.equal(fs.readFileSync(at("sub/app.db-pos"), "utf8"), "1\n");
    },
    "names become virtual and cease to be as the store says": async () => {
      assert.equal(fs.existsSync(at("late.db-pos")), false);
      await mount.call("setVirtualNames", new Set([".primary", "late.db-pos"]));
      assert.equal(fs.existsSync(at("late.db-pos")), true);
      await mount.call("setVirtualNames", new Set([".primary"]));
      assert.equal(fs.existsSync(at("late.db-pos")), false);
    },
    "a name that is hidden is hidden from others until it is revealed": async () => {
      fs.writeFileSync(at("secret.db"), "s");
      await mount.call("hide", "secret.db");
      assert.throws(() => fs.statSync(at("secret.db")), raises("ENOENT"));
      assert.equal(fs.readdirSync(mount.mountPoint).includes("secret.db"), false);
      await mount.call("reveal", "secret.db");
      assert.equal(fs.readFileSync(at("secret.db"), "utf8"), "s");
    },
    "what the engine changes beneath is seen once it says so": async () => {
      assert.throws(() => fs.statSync(at("beneath")), raises("ENOENT"));
      fs.writeFileSync(mount.backing("beneath"), "1");
      await mount.call("invalidateEntry", "beneath");
      assert.equal(fs.readFileSync(at("beneath"), "utf8"), "1");
      fs.appendFileSync(mount.backing("beneath"), "23");
      await mount.call("invalidateAttributes", "beneath");
      assert.equal(fs.statSync(at("beneath")).size, 3);
      fs.writeFileSync(mount.backing("other"), "replaced");
      fs.renameSync(mount.backing("other"), mount.backing("beneath"));
      await mount.call("invalidateEntry", "beneath");
      assert.equal(fs.readFileSync(at("beneath"), "utf8"), "replaced");
    },
    "the engine knows how many have a file open": async () => {
      const fds = ["w", "r", "r"].map((flags) => fs.openSync(at("counted"), flags));
      assert.equal(await mount.call<number>("openCount", "counted"), 3);
      for (const fd of fds) fs.closeSync(fd);
      await until("all are released", async () => (await mount.call<number>("openCount", "counted")) === 0);
      assert.equal(await mount.call<number>("openCount", "nothing"), 0);
    },
    "the end of a cp is told once": async () => {
      fs.writeFileSync(join(mount.folder, "plain"), "x");
      assert.equal((await run("cp", [join(mount.folder, "plain"), at("copied")])).status, 0);
      await until("afterLastClose", () => mount.hooks.some((call) => call.hook === "afterLastClose" && call.args[0] === "copied"));
      assert.deepEqual(mount.hooks.filter((call) => call.args[0] === "copied").map((call) => call.hook), ["afterCreate", "afterRawWrite", "afterLastClose"]);
    },
  };
  for (const [fact, check] of Object.entries(facts)) test(fact, check);
});

test("a refusal of the store reaches the system call as its errno, and nothing is changed", { skip: skipWithoutMount }, async () => {
  const mount = await TestMount.start({ role: "follower", refuse: ["app.db", "new.db", "folder", "new.db-wal"] });
  try {
    fs.writeFileSync(mount.backing("app.db"), "data");
    fs.writeFileSync(mount.backing("other"), "other");
    fs.mkdirSync(mount.backing("folder"));
    assert.throws(() => fs.truncateSync(mount.path("app.db"), 0), raises("EROFS"));
    assert.throws(() => fs.unlinkSync(mount.path("app.db")), raises("EROFS"));
    assert.throws(() => fs.renameSync(mount.path("app.db"), mount.path("b")), raises("EROFS"));
    assert.throws(() => fs.writeFileSync(mount.path("new.db"), ""), raises("EROFS"));
    assert.throws(() => fs.mkdirSync(mount.path("new.db")), raises("EROFS"));
    assert.throws(() => fs.symlinkSync("x", mount.path("new.db-wal")), raises("EROFS"));
    assert.throws(() => fs.rmdirSync(mount.path("folder")), raises("EROFS"));
    assert.throws(() => fs.renameSync(mount.path("folder"), mount.path("g")), raises("EROFS"));
    assert.deepEqual(fs.readdirSync(mount.filesDir), ["app.db", "folder", "other"]);
    assert.equal(fs.readFileSync(mount.path("app.db"), "utf8"), "data");
    // What is not refused goes through the same question.
    fs.mkdirSync(mount.path("fine"));
    fs.writeFileSync(mount.path("fine/file"), "x");
    fs.renameSync(mount.path("fine"), mount.path("finer"));
    fs.unlinkSync(mount.path("finer/file"));
    fs.rmdirSync(mount.path("finer"));
    await until("beforeCreate was told", () => mount.hooks.some((call) => call.hook === "beforeCreate" && call.args[0] === "fine/file"));
  } finally {
    await mount.dispose();
  }
});

test("hooks that take their time hold up only who waits for them", { skip: skipWithoutMount }, async () => {
  const mount = await TestMount.start({ hookDelay: 300 });
  try {
    fs.mkdirSync(mount.path("a"));
    fs.writeFileSync(mount.path("a/one"), "1");
    fs.writeFileSync(mount.path("two"), "2");
    const order: string[] = [];
    const note = (what: string) => (): void => { order.push(what); };
    await Promise.all([
      fs.promises.unlink(mount.path("a/one")).then(note("unlink")),
      fs.promises.stat(mount.path("two")).then(note("stat")),
    ]);
    assert.deepEqual(order, ["stat", "unlink"]);
    // A truncation below a directory that is renamed meanwhile still finds its file.
    fs.writeFileSync(mount.path("a/three"), "333");
    await Promise.all([fs.promises.truncate(mount.path("a/three"), 1), fs.promises.rename(mount.path("a"), mount.path("b"))]);
    assert.equal(fs.readFileSync(mount.backing("b/three"), "utf8"), "3");
  } finally {
    await mount.dispose();
  }
});

test("programs wait at a closed gate, the guardian passes, and a waiting program can be stopped", { skip: skipWithoutMount }, async () => {
  const mount = await TestMount.start({ gate: "closed", trusted: [process.pid] });
  // From the start: a program that waits at the gate with the lock of the root would keep us from finding the trusted directory.
  const trusted = fs.openSync(mount.path(TRUSTED_DIRECTORY), fs.constants.O_DIRECTORY);
  try {
    fs.writeFileSync(mount.path("mine"), "guardian");
    fs.mkdirSync(mount.backing("sub"));
    fs.writeFileSync(mount.backing("sub/unseen.db"), "unseen");
    const waiting = run("cat", [mount.path("mine")]);
    const creating = run("sh", ["-c", `echo x > ${mount.path("theirs")}`]);
    const impatient = await run("timeout", ["-s", "INT", "1", "cat", mount.path("mine")]);
    assert.notEqual(impatient.status, 0);
    assert.equal(fs.existsSync(mount.backing("theirs")), false);
    // This name was never looked up, so it could not be found in the root now; the trusted directory leads to the very same inode.
    const through = `/proc/self/fd/${trusted}/${trustedName("sub/unseen.db")}`;
    assert.equal(fs.readFileSync(through, "utf8"), "unseen");
    assert.throws(() => fs.writeFileSync(`/proc/self/fd/${trusted}/new`, ""), raises("EPERM"));
    await mount.call("openGate");
    assert.equal((await waiting).stdout, "guardian");
    assert.equal((await creating).status, 0);
    assert.equal(fs.existsSync(mount.backing("theirs")), true);
    assert.equal(fs.statSync(through).ino, fs.statSync(mount.path("sub/unseen.db")).ino);
    assert.equal(fs.readdirSync(mount.mountPoint).includes(TRUSTED_DIRECTORY), false);
    assert.equal((await run("ls", [mount.path(TRUSTED_DIRECTORY)])).status, 2);
  } finally {
    fs.closeSync(trusted);
    await mount.dispose();
  }
});

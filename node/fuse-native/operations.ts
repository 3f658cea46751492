/**
 * The requests of a fuse-native mount, performed on the backing files.
 *
 * Always holds: a request is answered exactly once; the thread of libfuse that carries it waits meanwhile and holds libfuse's lock on its
 * path. So only what Guard says is asked of the engine. Reads and writes are done here and now: when a program's write returns, its bytes are
 * in the backing file. What a program stores in a shared map is there only after the kernel has written it back, so nothing reads a
 * `-shm` but through the mount.
 */
import * as fs from "node:fs";
import { constants as os } from "node:os";
import { join } from "node:path";
import { errnoOf } from "../../proto/errors.ts";
import { splitCompanion } from "../core/mount-hooks.ts";
import { hashName, isJournal, isZeroedJournal, JOURNAL_HEADER_SIZE } from "../fuse/policy.ts";
import type { Attributes, Done, FileSystemStatus, Operations } from "./binding.ts";
import type { EngineLink } from "./engine-link.ts";
import { POSITION_SUFFIX, type Guard, type Verdict } from "./guard.ts";
import { Handles } from "./handles.ts";
import { isOwnOpen } from "../core/own-open.ts";
import { type Ask } from "./protocol.ts";

const O_ACCMODE = 3;
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
/** What a virtual file shows as its size, as files of sysfs do: a read ends where the content ends. */
const VIRTUAL_SIZE = 4096;

function failure(code: keyof typeof os.errno): Error {
  return Object.assign(new Error(code), { errno: -os.errno[code] });
}

export class Tree implements Operations {
  readonly #filesDir: string;
  readonly #guard: Guard;
  readonly #link: EngineLink;
  readonly #isRoot = process.getuid?.() === 0;
  /** The last header of each journal before it was zeroed. */
  readonly #journalHeaders = new Map<string, Buffer>();
  readonly handles = new Handles();
  readonly counts: Record<string, number> = {};

  constructor(filesDir: string, guard: Guard, link: EngineLink) {
    this.#filesDir = filesDir;
    this.#guard = guard;
    this.#link = link;
  }

  /** Runs a request; what it throws becomes its answer. */
  #serve(name: string, slashed: string, done: Done, work: (path: string, file: string) => number | void | Promise<number | void>): void {
    this.counts[name] = (this.counts[name] ?? 0) + 1;
    const fail = (error: unknown): void => {
      if (typeof (error as { errno?: unknown }).errno !== "number") this.#link.report(`Cannot serve ${name}`, error);
      done(errnoOf(error));
    };
    try {
      const path = pathOf(slashed);
      const result = work(path, join(this.#filesDir, path));
      if (result instanceof Promise) result.then((value) => done(value ?? 0), fail);
      else done(result ?? 0);
    } catch (error) {
      fail(error);
    }
  }

  /** Obeys a verdict that is not "ask". */
  #obey(verdict: Verdict, work: () => void): void {
    if (typeof verdict === "number") throw Object.assign(new Error("refused"), { errno: verdict });
    work();
  }

  /** Obeys a verdict; the promise is there only where the engine is asked. */
  #agree(verdict: Verdict, ask: Ask, work: () => void): void | Promise<void> {
    return verdict === "ask" ? this.#link.ask(ask).then(work) : this.#obey(verdict, work);
  }

  // Attributes.

  #attributes(path: string, file: string): Attributes {
    const ghost = this.handles.ghostFd(path);
    if (this.#guard.isVirtual(path)) return virtualAttributes(path, fs.statSync(this.#filesDir));
    const stat = fs.lstatSync(file, { throwIfNoEntry: false }) ?? (ghost === undefined ? undefined : fs.fstatSync(ghost));
    if (stat === undefined) throw failure("ENOENT");
    const { mode, uid, gid, size, ino, rdev, blksize, blocks, atimeMs, mtimeMs, ctimeMs } = stat;
    return { mode, uid, gid, size, nlink: stat.isDirectory() ? stat.nlink : 1, ino, rdev, blksize, blocks, atime: atimeMs, mtime: mtimeMs, ctime: ctimeMs };
  }

  getattr(slashed: string, done: (result: number, attributes?: Attributes) => void): void {
    let attributes: Attributes | undefined;
    this.#serve("getattr", slashed, (result) => done(result, attributes), (path, file) => {
      const find = (): void => { attributes = this.#attributes(path, file); };
      // The engine may know a new database whose name has not come here yet.
      const isNews = this.#guard.mayBeNews(path) && !fs.existsSync(file) && fs.existsSync(file.slice(0, -POSITION_SUFFIX.length));
      return isNews ? this.#link.ask({ op: "virtual", path }).then(find) : find();
    });
  }

  chmod(slashed: string, mode: number, done: Done): void {
    this.#serve("chmod", slashed, done, (path, file) => {
      const ghost = this.handles.ghostFd(path);
      if (ghost === undefined) fs.chmodSync(file, mode & 0o7777);
      else fs.fchmodSync(ghost, mode & 0o7777);
    });
  }

  chown(slashed: string, uid: number, gid: number, done: Done): void {
    this.#serve("chown", slashed, done, (path, file) => {
      const ghost = this.handles.ghostFd(path);
      if (ghost === undefined) fs.lchownSync(file, uid, gid);
      else fs.fchownSync(ghost, uid, gid);
    });
  }

  /** The package gives the access time only: both are set to it. */
  utimens(slashed: string, atime: number, _mtime: number, done: Done): void {
    this.#serve("utimens", slashed, done, (path, file) => {
      const ghost = this.handles.ghostFd(path);
      if (ghost === undefined) fs.lutimesSync(file, atime / 1000, atime / 1000);
      else fs.futimesSync(ghost, atime / 1000, atime / 1000);
    });
  }

  truncate(slashed: string, size: number, done: Done): void {
    this.#serve("truncate", slashed, done, (path, file) => {
      const ghost = this.handles.ghostFd(path);
      if (ghost !== undefined) return fs.ftruncateSync(ghost, size);
      return this.#truncate(path, size, () => fs.truncateSync(file, size));
    });
  }

  ftruncate(slashed: string, handle: number, size: number, done: Done): void {
    this.#serve("ftruncate", slashed, done, (path) => {
      const open = this.#open(handle);
      const cut = (): void => fs.ftruncateSync(open.fd, size);
      return open.own || this.handles.isGhost(path) ? cut() : this.#truncate(path, size, cut);
    });
  }

  #truncate(path: string, size: number, cut: () => void): void | Promise<void> {
    const verdict = this.#guard.change(path);
    return this.#agree(verdict, { op: "truncate", path, size }, () => {
      cut();
      if (verdict === "ask") this.#link.tell({ op: "truncated", path, size });
    });
  }

  // Open files.

  #open(fd: number) {
    const handle = this.handles.get(fd);
    if (handle === undefined) throw failure("EBADF");
    return handle;
  }

  open(slashed: string, flags: number, done: (result: number, handle?: number) => void): void {
    let handle = 0;
    this.#serve("open", slashed, (result) => done(result, handle), (path, file) => {
      const writeOnly = (flags & O_ACCMODE) === fs.constants.O_WRONLY;
      if (this.#guard.isVirtual(path)) {
        if ((flags & O_ACCMODE) !== fs.constants.O_RDONLY) throw failure("EACCES");
        return this.#link.ask({ op: "virtual", path }).then(({ content }) => {
          if (content === undefined) throw failure("ENOENT");
          handle = this.handles.add({ fd: fs.openSync("/dev/null", "r"), path, writeOnly: false, own: true, content });
        });
      }
      const own = isOwnOpen(flags) && (flags & O_ACCMODE) === fs.constants.O_RDWR;
      return this.#obey(own ? "allow" : this.#guard.open(path), () => {
        handle = this.handles.add({ fd: openBacking(file), path, writeOnly, own, content: undefined });
      });
    });
  }

  create(slashed: string, mode: number, done: (result: number, handle?: number) => void): void {
    let handle = 0;
    this.#serve("create", slashed, (result) => done(result, handle), (path, file) => this.#create(path, () => {
      const fd = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_NOFOLLOW, mode & 0o7777);
      this.#adopt(path, (uid, gid) => fs.fchownSync(fd, uid, gid));
      // Its flags are not known: it counts as one that also reads, so that `cp` of a new file is seen at its last close.
      handle = this.handles.add({ fd, path, writeOnly: false, own: false, content: undefined });
    }));
  }

  /** Makes a file. On a primary the store must watch it before its creator can write to it. */
  #create(path: string, make: () => void): void | Promise<void> {
    this.#obey(this.#guard.create(path), make);
    return this.#guard.role === "primary" ? this.#link.ask({ op: "created", path }).then(() => undefined) : undefined;
  }

  /**
   * Who asks is not known, so a new file gets the owner of its folder, and a companion that of its database: what a program that owns its
   * folder expects, and what a second program needs to share a database.
   */
  #adopt(path: string, chown: (uid: number, gid: number) => void): void {
    if (!this.#isRoot) return;
    const { base, companion } = splitCompanion(path);
    const database = companion === undefined ? undefined : fs.lstatSync(join(this.#filesDir, base), { throwIfNoEntry: false });
    const { uid, gid } = database ?? fs.lstatSync(join(this.#filesDir, path, ".."));
    chown(uid, gid);
  }

  read(slashed: string, handle: number, buffer: Buffer, length: number, position: number, done: Done): void {
    this.#serve("read", slashed, done, () => {
      const { fd, content } = this.#open(handle);
      return content === undefined ? fs.readSync(fd, buffer, 0, length, position) : content.copy(buffer, 0, Math.min(position, content.length), position + length);
    });
  }

  write(slashed: string, handle: number, buffer: Buffer, length: number, position: number, done: Done): void {
    this.#serve("write", slashed, done, () => fs.writeSync(this.#open(handle).fd, buffer, 0, length, position));
  }

  fsync(slashed: string, datasync: number, handle: number, done: Done): void {
    this.#serve("fsync", slashed, done, async (path) => {
      const { fd, own } = this.#open(handle);
      // In another thread: all other requests of all programs go on.
      await new Promise<void>((resolve, reject) => {
        (datasync ? fs.fdatasync : fs.fsync)(fd, (error) => (error === null ? resolve() : reject(error)));
      });
      if (own || !isJournal(path) || this.#guard.change(path) !== "ask" || this.handles.isGhost(path)) return;
      const header = Buffer.alloc(JOURNAL_HEADER_SIZE);
      if (fs.readSync(fd, header, 0, JOURNAL_HEADER_SIZE, 0) < JOURNAL_HEADER_SIZE) return;
      if (!isZeroedJournal(header)) {
        this.#journalHeaders.set(path, header);
        return;
      }
      const known = this.#journalHeaders.get(path);
      this.#journalHeaders.delete(path);
      await this.#link.ask({ op: "journal", path, header: known?.toString("hex") });
    });
  }

  release(slashed: string, handle: number, done: Done): void {
    this.#serve("release", slashed, done, () => {
      const released = this.handles.release(handle);
      if (released === undefined || released.handle.content !== undefined) return;
      const { path } = released.handle;
      if (this.handles.isGhost(path)) return;
      if (released.lastRaw) this.#link.tell({ op: "rawWritten", path });
      if (released.last) this.#link.tell({ op: "closed", path });
    });
  }

  // Names.

  mknod(slashed: string, mode: number, _device: number, done: Done): void {
    this.#serve("mknod", slashed, done, (path, file) => {
      if ((mode & S_IFMT) !== S_IFREG && (mode & S_IFMT) !== 0) throw failure("EPERM");
      return this.#create(path, () => {
        fs.closeSync(fs.openSync(file, fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_WRONLY, mode & 0o7777));
        this.#adopt(path, (uid, gid) => fs.lchownSync(file, uid, gid));
      });
    });
  }

  mkdir(slashed: string, mode: number, done: Done): void {
    this.#serve("mkdir", slashed, done, (path, file) => this.#make(path, file, () => fs.mkdirSync(file, mode & 0o7777)));
  }

  symlink(target: string, slashed: string, done: Done): void {
    this.#serve("symlink", slashed, done, (path, file) => this.#make(path, file, () => fs.symlinkSync(target, file)));
  }

  #make(path: string, file: string, make: () => void): void {
    this.#obey(this.#guard.create(path), () => {
      make();
      this.#adopt(path, (uid, gid) => fs.lchownSync(file, uid, gid));
    });
  }

  rmdir(slashed: string, done: Done): void {
    this.#serve("rmdir", slashed, done, (path, file) => this.#obey(this.#guard.create(path), () => fs.rmdirSync(file)));
  }

  /** A second name would be a second lock space. */
  link(_from: string, slashed: string, done: Done): void {
    this.#serve("link", slashed, done, () => { throw failure("EPERM"); });
  }

  unlink(slashed: string, done: Done): void {
    this.#serve("unlink", slashed, done, (path, file) => {
      // libfuse removes a ghost after its last close.
      if (this.handles.isGhost(path)) return;
      return this.#unlink(path, file, () => undefined);
    });
  }

  #unlink(path: string, file: string, before: () => void): void | Promise<void> {
    if (!this.#guard.isVirtual(path)) fs.lstatSync(file);
    return this.#agree(this.#guard.change(path), { op: "unlink", path }, () => {
      fs.unlinkSync(file);
      before();
      this.#journalHeaders.delete(path);
      this.#link.tell({ op: "unlinked", path });
    });
  }

  rename(slashed: string, slashedTo: string, done: Done): void {
    this.#serve("rename", slashed, done, (path, file) => {
      const to = pathOf(slashedTo);
      if (this.handles.left(path, to, inodeOf(file))) return;
      // An open file that is removed, or that another is renamed over.
      if (this.handles.isHiding(path, to)) return this.#unlink(path, file, () => this.handles.hide(path, to));
      const isFolder = !this.#guard.isVirtual(path) && fs.lstatSync(file).isDirectory();
      return this.#agree(this.#guard.rename(path, to, isFolder), { op: "rename", path, to }, () => {
        fs.renameSync(file, join(this.#filesDir, to));
        this.handles.moved(path, to);
        this.#link.tell({ op: "renamed", path, to });
      });
    });
  }

  readlink(slashed: string, done: (result: number, target?: string) => void): void {
    let target: string | undefined;
    this.#serve("readlink", slashed, (result) => done(result, target), (_path, file) => { target = fs.readlinkSync(file); });
  }

  // Folders and the whole.

  readdir(slashed: string, done: (result: number, names?: string[]) => void): void {
    let names: string[] = [];
    this.#serve("readdir", slashed, (result) => done(result, names), (path, file) => {
      const shown = fs.readdirSync(file).filter((name) => !this.#guard.hidden.has(path === "" ? name : `${path}/${name}`));
      // The position files of databases would double every listing.
      if (path === "") shown.push(...[".primary", ".lag"].filter((name) => this.#guard.isVirtual(name)));
      names = [".", "..", ...shown.sort()];
    });
  }

  fsyncdir(slashed: string, _datasync: number, _handle: number, done: Done): void {
    this.#serve("fsyncdir", slashed, done, (_path, file) => {
      const fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
      try {
        fs.fsyncSync(fd);
      } finally {
        fs.closeSync(fd);
      }
    });
  }

  statfs(slashed: string, done: (result: number, status?: FileSystemStatus) => void): void {
    let status: FileSystemStatus | undefined;
    this.#serve("statfs", slashed, (result) => done(result, status), () => {
      const { bsize, blocks, bfree, bavail, files, ffree } = fs.statfsSync(this.#filesDir);
      // The package counts in 32 bits: larger blocks for a larger disk.
      const scale = 2 ** Math.max(0, Math.ceil(Math.log2(Math.max(1, blocks) / 2 ** 32)));
      const count = (value: number): number => Math.floor(value / scale);
      const most = (value: number): number => Math.min(value, 2 ** 32 - 1);
      status = { bsize: bsize * scale, frsize: bsize * scale, blocks: count(blocks), bfree: count(bfree), bavail: count(bavail), files: most(files), ffree: most(ffree), favail: most(ffree), namemax: 255 };
    });
  }

  /** The engine has replaced or removed a backing file: the ghost that the old one must become, where a program has it open. */
  replacedByEngine(path: string): string | undefined {
    return this.handles.leave(path, inodeOf(join(this.#filesDir, path)));
  }
}

function inodeOf(file: string): number | undefined {
  return fs.lstatSync(file, { throwIfNoEntry: false })?.ino;
}

/** The package decodes names as UTF-8; one that is no text cannot be served. */
function pathOf(slashed: string): string {
  if (slashed.includes("\uFFFD")) throw failure("EILSEQ");
  return slashed.slice(1);
}

/** For reading and writing, since libfuse and the kernel use one open for what several programs do; else for reading. */
function openBacking(file: string): number {
  try {
    return fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_NOFOLLOW);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== "EACCES" && code !== "EROFS" && code !== "ETXTBSY") throw error;
    return fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
  }
}

function virtualAttributes(path: string, like: fs.Stats): Attributes {
  const { atimeMs, mtimeMs, ctimeMs, blksize } = like;
  return { mode: S_IFREG | 0o444, uid: 0, gid: 0, size: VIRTUAL_SIZE, nlink: 1, ino: hashName(path), rdev: 0, blksize, blocks: 0, atime: atimeMs, mtime: mtimeMs, ctime: ctimeMs };
}

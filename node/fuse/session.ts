/**
 * The main-thread half of a mount: runs the hooks, performs what they guard, registers backing files, and controls the FUSE thread.
 *
 * Always holds: between a `before…` hook and its `after…` the backing file is changed in one synchronous step; the thread is told of the
 * change before the reply is written, so no later request meets the old state. The main thread never waits for the kernel.
 *
 * Hazards for callers. While the thread runs, process.exit() and an uncaught exception hang: stop() first, or end by SIGKILL. An engine
 * must not touch its own mount with synchronous calls from this thread: a first open needs this thread to answer. And while a hook runs,
 * the application's system call may hold the lock of a directory: open files of the mount asynchronously and below the trusted directory
 * (see policy.ts), of which a descriptor is best held from the start.
 */
import * as fs from "node:fs";
import { getPriority } from "node:os";
import { join } from "node:path";
import { MessageChannel, Worker } from "node:worker_threads";
import { errnoOf, isAppError } from "../../proto/errors.ts";
import { databaseSettings, type DatabaseRule } from "../core/config.ts";
import { splitCompanion, type MountControl, type MountHooks } from "../core/mount-hooks.ts";
import { frameOffset } from "../sqlite/wal.ts";
import { backingClose, backingOpen, scheduleThread, setTimes } from "../native/libc.ts";
import * as abi from "./abi.ts";
import { applyAttributes, removeName, replaceName } from "./backing.ts";
import * as messages from "./messages.ts";
import { files } from "../io/files.ts";
import { writeOpening } from "./files.ts";
import { Moves } from "./moves.ts";
import { PageCaches } from "./page-caches.ts";
import * as notify from "./notify.ts";
import { OPCODES } from "./opcodes.ts";
import { attributeSeconds, isJournal, isWal } from "./policy.ts";
import { recordedOpens, writeBackingId } from "./records.ts";
import { Spares } from "./spares.ts";
import { REPLY_BODY, writeAttrOut, writeReplyHeader, writeU64 } from "./wire.ts";

export interface FuseOptions {
  /** The mount's /dev/fuse descriptor. */
  readonly fuseFd: number;
  /** Where it is mounted; only used to make the kernel send a request (statfs), never read. */
  readonly mountPoint: string;
  /** Absolute path of the backing files. On the same file system as runDir, or files that were unlinked while open do not survive an engine. */
  readonly filesDir: string;
  /** Absolute path of a folder for `inodes` and `unlinked/`, valid as long as the mount. */
  readonly runDir: string;
  readonly hooks: MountHooks;
  /** The mount was served by an earlier engine, which is dead. */
  readonly resume: boolean;
  /** Process ids of guardian and engine. */
  readonly trusted: readonly number[];
  /** Rules for databases. */
  readonly databases?: readonly DatabaseRule[];
}

export interface FuseSession extends MountControl {
  /** Resolves when no more requests are served: the mount is gone, or stop() was called. */
  readonly ended: Promise<void>;
  /**
   * Ends the FUSE thread, whether or not the mount is still there. Requests wait in the kernel then, for the next engine. Only after
   * this does process.exit() return; an engine that must leave at once sends itself SIGKILL.
   */
  stop(): Promise<void>;
}

/** Serves a mount. Resolves when the connection is up (INIT answered, or the earlier engine's state read). The gate is closed. */
export async function startFuse(options: FuseOptions): Promise<FuseSession> {
  const session = new Session(options);
  await session.ready;
  return session;
}

/** What lies in a file between two offsets, as a change. */
function changeOf(fd: number, offset: number, end: number): notify.ChangedData {
  const last = Buffer.alloc(1);
  fs.readSync(fd, last, 0, 1, end - 1);
  return { offset, length: end - offset, last: last.readUInt8(0) };
}

const MOST_WAKE_ATTEMPTS = 8;
/** How the FUSE thread is scheduled: before the programs that keep the processors busy while one of them waits for it. */
const SERVING = { sliceNs: 100_000, nice: -15 };

class Session implements FuseSession {
  readonly ready: Promise<void>;
  readonly ended: Promise<void>;
  readonly #fd: number;
  readonly #options: FuseOptions;
  readonly #hooks: MountHooks;
  readonly #worker: Worker;
  readonly #shared: Int32Array;
  readonly #outbox: MessageChannel["port1"];
  readonly #moves = new Moves();
  readonly #spares: Spares;
  readonly #caches: PageCaches;
  /** Backing ids by inode. The thread knows the same; this one decides when two first opens of a file cross. */
  readonly #backings = new Map<number, number>();
  /** Descriptors of unlinked journals by inode, so that the last close of each, which frees its blocks, need not be made by this thread. */
  readonly #lastDescriptors = new Map<number, number>();
  readonly #grants = new Map<number, (done: boolean) => void>();
  readonly #out = Buffer.alloc(256);
  readonly #settleReady = Promise.withResolvers<void>();
  readonly #settleEnded = Promise.withResolvers<void>();
  #records = -1;
  #minor = 0;
  #over = false;

  constructor(options: FuseOptions) {
    this.#options = options;
    this.#fd = options.fuseFd;
    this.#hooks = options.hooks;
    this.ready = this.#settleReady.promise;
    this.ended = this.#settleEnded.promise;
    fs.mkdirSync(options.runDir, { recursive: true, mode: 0o700 });
    this.#spares = new Spares(options.runDir, (fd) => backingOpen(this.#fd, fd), (spare) => this.#post({ kind: "spare", ...spare }));
    // Before the thread reads: what it reads afterwards is not repeated.
    if (options.resume) notify.resendUnanswered(this.#fd);
    const shared = new SharedArrayBuffer(messages.SHARED_WORDS * Int32Array.BYTES_PER_ELEMENT);
    this.#shared = new Int32Array(shared);
    this.#caches = new PageCaches(options.fuseFd, this.#shared);
    const { port1, port2 } = new MessageChannel();
    this.#outbox = port1;
    port1.unref();
    const workerData: messages.ThreadOptions = {
      fuseFd: options.fuseFd, filesDir: options.filesDir, runDir: options.runDir, resume: options.resume, trusted: options.trusted, shared, inbox: port2,
      databases: options.databases?.some(({ durability }) => durability === "sync") === true ? options.databases : [],
    };
    const extension = import.meta.url.slice(import.meta.url.lastIndexOf("."));
    // Each answer takes microseconds, and a program stands still until it comes.
    const nice = getPriority();
    const raised = scheduleThread(SERVING);
    this.#worker = new Worker(new URL(`./thread${extension}`, import.meta.url), { name: "fuse", workerData, transferList: [port2], stdout: false, stderr: false });
    if (raised) scheduleThread({ sliceNs: 0, nice });
    this.#worker.on("message", (message: messages.ToMain) => { this.#receive(message); });
    this.#worker.on("error", (error) => { this.#threadFailed(error); });
    this.#worker.on("exit", () => {
      this.#over = true;
      this.#outbox.close();
      if (this.#records >= 0) fs.closeSync(this.#records);
      this.#settleReady.reject(new Error("the mount ended before it was served"));
      this.#settleEnded.resolve();
    });
  }

  /** An engine without its FUSE thread serves nothing: before it is up the caller learns, later the process ends. */
  #threadFailed(error: unknown): void {
    this.#hooks.report("The FUSE thread has failed", error);
    const early = this.#minor === 0;
    this.#settleReady.reject(error as Error);
    if (!early) throw error;
  }

  // MountControl.

  setRole(role: "primary" | "follower"): void {
    this.#post({ kind: "role", role });
  }

  openGate(): void {
    this.#post({ kind: "gate" });
    if (Atomics.load(this.#shared, messages.SHARED_PARKED) > 0) this.#wake();
  }

  async hide(path: string): Promise<void> {
    this.#post({ kind: "hide", path });
    await this.#known();
    this.invalidateEntry(path);
  }

  reveal(path: string): void {
    this.#post({ kind: "reveal", path });
    this.invalidateEntry(path);
  }

  invalidateAttributes(path: string): void {
    const id = this.#idOf(path);
    if (id !== undefined && !this.#over) notify.invalidateAttributes(this.#fd, id);
  }

  dropCached(path: string, data: notify.ChangedData): Promise<void> | undefined {
    if (this.#over || !this.#isGated(path)) return undefined;
    const id = this.#idOf(path);
    return id === undefined ? undefined : this.#caches.dropLater(id, data);
  }

  #isGated(path: string): boolean {
    return isWal(path) && databaseSettings({ databases: this.#options.databases ?? [] }, splitCompanion(path).base).durability === "sync";
  }

  invalidateEntry(path: string): void {
    if (this.#over) return;
    if (this.#minor >= abi.FUSE_INC_EPOCH_MINOR) {
      notify.expireAllNames(this.#fd);
      return;
    }
    const slash = path.lastIndexOf("/");
    const parent = this.#idOf(path.slice(0, Math.max(0, slash)));
    if (parent === undefined) return;
    notify.invalidateName(this.#fd, parent, path.slice(slash + 1), (error) => {
      if (error !== null) this.#hooks.report(`Cannot drop the name "${path}" from the kernel`, error);
    });
  }

  setVirtualNames(names: ReadonlySet<string>): void {
    this.#post({ kind: "virtualNames", names });
  }

  async openCount(path: string): Promise<number> {
    const id = this.#idOf(path);
    return id === undefined ? 0 : recordedOpens(join(this.#options.runDir, "inodes"), id);
  }

  requestCounts(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (let number = 0; number < this.#shared.length - messages.SHARED_REQUESTS; number++) {
      const count = Atomics.load(this.#shared, messages.SHARED_REQUESTS + number);
      if (count > 0) counts[OPCODES.find((opcode) => opcode.number === number)?.name ?? `OP${number}`] = count;
    }
    return counts;
  }

  async stop(): Promise<void> {
    if (!this.#over) {
      this.#post({ kind: "stop" });
      this.#wake();
    }
    await this.ended;
  }

  // The thread.

  #post(message: messages.ToThread): void {
    if (this.#over) return;
    this.#outbox.postMessage(message);
    Atomics.add(this.#shared, messages.SHARED_POSTED, 1);
  }

  /**
   * Makes the thread's read return, so that it takes in what was posted although no application asks for anything. Not `must`: it may as
   * well happen with the next request.
   */
  #wake(must = true): void {
    if (this.#over) return;
    let attempts = 0;
    for (const id of this.#backings.keys()) {
      if (notify.wakeByInode(this.#fd, id)) return;
      if (++attempts === MOST_WAKE_ATTEMPTS) break;
    }
    // The kernel knows no regular file of ours. A call of our own on our own mount is the last choice: an engine that is killed during it
    // ends only when the next one has answered it.
    if (must) fs.statfs(this.#options.mountPoint, () => {});
  }

  /** Resolves when the thread meets whatever it reads next with all that was posted so far. */
  async #known(): Promise<void> {
    const posted = Atomics.load(this.#shared, messages.SHARED_POSTED);
    const behind = (): boolean => Atomics.load(this.#shared, messages.SHARED_BUSY) === 1 && Atomics.load(this.#shared, messages.SHARED_SEEN) - posted < 0;
    while (!this.#over && behind()) await new Promise((resolve) => setImmediate(resolve));
  }

  #receive(message: messages.ToMain): void {
    switch (message.kind) {
      case "ready":
        this.#minor = message.minor;
        for (const [id, backing] of message.registered) this.#backings.set(id, backing);
        this.#settleReady.resolve();
        return;
      case "ended": this.#over = true; return;
      case "open": this.#answerOpen(message); return;
      case "virtual": void this.#serve(message, () => this.#readVirtual(message)); return;
      case "setattr": void this.#serveAt(message, () => this.#setattr(message)); return;
      case "unlink": void this.#serveAt(message, () => this.#unlink(message)); return;
      case "rename": void this.#serveAt(message, () => this.#rename(message)); return;
      case "journal": void this.#serveAt(message, () => this.#journal(message)); return;
      case "commit": void this.#serveAt(message, () => this.#commit(message)); return;
      case "ask": void this.#serve(message, () => this.#consent(message)); return;
      case "granted": this.#grants.get(message.key)?.(message.done); this.#grants.delete(message.key); return;
      case "created": this.#hooks.afterCreate(message.path); return;
      case "spareTaken":
        this.#backings.set(message.id, message.backing);
        this.#hooks.afterCreate(message.path);
        this.#spares.taken();
        this.#spares.offer(message.mode);
        return;
      case "rawWritten": this.#hooks.afterRawWrite(message.path); return;
      case "closed": this.#hooks.afterLastClose(message.path); return;
      case "walSyncs": this.#hooks.walSyncs(message.path, message.count); return;
      case "commitAgain": void this.#serve(message, () => this.#commitAgain(message)); return;
      case "cachedOpen": this.#caches.opened(message.id, message.node, message.isNew); return;
      case "unregister": this.#unregister(message.id, message.backing); return;
      case "report": this.#hooks.report(message.message, Object.assign(new Error(message.error.message), { stack: message.error.stack })); return;
    }
  }

  // Requests that the thread has deferred.

  /** Runs an operation; whatever it throws becomes the reply. */
  async #serve(message: messages.Deferred, run: () => void | Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      if (!isAppError(error) && typeof (error as { errno?: unknown }).errno !== "number") this.#hooks.report(`Cannot serve ${message.kind} of the mount`, error);
      this.#fail(message.unique, errnoOf(error));
    }
  }

  /** The same for operations that know their file by a path. */
  async #serveAt(message: messages.Deferred & { path: string | undefined }, run: () => void | Promise<void>): Promise<void> {
    const wait = this.#moves.enter(message);
    if (wait !== undefined) await wait;
    await this.#serve(message, run);
    this.#moves.leave(message);
  }

  #file(path: string): string {
    return join(this.#options.filesDir, path);
  }

  async #setattr(message: messages.DeferredSetattr): Promise<void> {
    const size = message.change.size;
    if (message.path !== undefined && size !== undefined) {
      const consent = this.#hooks.beforeTruncate(message.path, size);
      if (consent !== undefined) await consent;
    }
    const path = message.path;
    const file = path === undefined ? message.file : this.#file(path);
    applyAttributes(file, message.change, setTimes);
    if (path !== undefined && size !== undefined) this.#hooks.afterTruncate(path, size);
    const stat = fs.lstatSync(file, { bigint: true });
    const links = path === undefined ? 0 : stat.isDirectory() ? Number(stat.nlink) : 1;
    writeAttrOut(this.#out, REPLY_BODY, stat, { id: message.id, links }, path === undefined ? 0 : attributeSeconds(path));
    this.#reply(message.unique, abi.fuse_attr_out.SIZE);
  }

  /** Whether the file may have been opened since the thread said that nobody has it open. */
  #mayBeOpen(open: boolean, opens: number): boolean {
    return open || Atomics.load(this.#shared, messages.SHARED_OPENS) !== opens;
  }

  async #unlink(message: messages.DeferredUnlink): Promise<void> {
    const consent = this.#hooks.beforeUnlink(message.path);
    if (consent !== undefined) await consent;
    if (isJournal(message.path) && this.#backings.has(message.id)) this.#keepDescriptor(message.id, this.#file(message.path));
    const aside = removeName(this.#options.runDir, this.#file(message.path), message.id, this.#mayBeOpen(message.open, message.opens));
    this.#post({ kind: "unlinked", id: message.id, path: message.path, aside });
    this.#caches.gone(message.id);
    this.#hooks.afterUnlink(message.path);
    this.#reply(message.unique);
    // Should nobody have it open after all, the thread removes it now and not with the next request.
    if (aside) this.#wake(false);
  }

  async #rename(message: messages.DeferredRename): Promise<void> {
    const { path, to, replaced } = message;
    const consent = this.#hooks.beforeRename(path, to);
    if (consent !== undefined) await consent;
    const keep = replaced === undefined ? undefined : { id: replaced.id, keep: this.#mayBeOpen(replaced.open, message.opens) };
    const aside = replaceName(this.#options.runDir, this.#file(path), this.#file(to), keep);
    this.#post({ kind: "renamed", id: message.id, to, toParent: message.toParent, toName: message.toName, replaced: replaced === undefined ? undefined : { id: replaced.id, aside } });
    this.#hooks.afterRename(path, to);
    this.#reply(message.unique);
    if (aside) this.#wake(false);
  }

  async #journal(message: messages.DeferredJournal): Promise<void> {
    const consent = this.#hooks.journalZeroed(message.path, message.header === undefined ? undefined : Buffer.from(message.header));
    if (consent !== undefined) await consent;
    this.#reply(message.unique);
  }

  async #commit(message: messages.DeferredCommit): Promise<void> {
    const { data, offset } = message.commit;
    let done = false;
    try {
      await this.#hooks.walCommit(message.path, message.commit, () => {
        files.write("sync:commit", message.fd, data, 0, data.length, offset);
        done = true;
        this.#dropOthers(message);
      });
    } finally {
      // What has been written counts, whatever came after it.
      this.#post({ kind: "committed", id: message.id, done });
    }
    writeU64(this.#out, data.length, REPLY_BODY);
    this.#reply(message.unique, abi.fuse_write_out.SIZE);
  }

  /** Whoever learns of the commit reads it from the file. */
  #dropOthers({ id, node, path, fd, commit }: messages.DeferredCommit): void {
    const offset = commit.from === 1 ? 0 : frameOffset(commit.from, commit.pageSize);
    try {
      this.#caches.drop(id, changeOf(fd, offset, frameOffset(commit.to + 1, commit.pageSize)), node);
    } catch (error) {
      this.#hooks.report(`The kernel may keep old pages of "${path}"`, error);
    }
  }

  async #commitAgain({ unique, id, node, fd, length }: messages.DeferredCommitAgain): Promise<void> {
    await this.#caches.dropLater(id, changeOf(fd, 0, fs.fstatSync(fd).size), node);
    writeU64(this.#out, length, REPLY_BODY);
    this.#reply(unique, abi.fuse_write_out.SIZE);
  }

  async #readVirtual(message: messages.DeferredVirtualRead): Promise<void> {
    const content = await this.#hooks.readVirtual(message.path);
    if (content === undefined) {
      // It has gone since it was opened: to a reader that is the end of the file.
      this.#reply(message.unique);
      return;
    }
    this.#post({ kind: "content", handle: message.handle, content });
    const part = content.subarray(Math.min(message.offset, content.length), message.offset + message.size);
    const out = Buffer.alloc(REPLY_BODY + part.length);
    part.copy(out, REPLY_BODY);
    this.#reply(message.unique, part.length, out);
  }

  /** Asks the store about a request that the thread then runs itself. */
  async #consent(message: messages.DeferredAsk): Promise<void> {
    const { key } = message;
    const moves = message.to !== undefined;
    if (moves) await this.#moves.begin(message as messages.DeferredAsk & { to: string });
    else await this.#moves.enter(message);
    let done = false;
    try {
      const consent = message.to === undefined ? this.#hooks.beforeCreate(message.path) : this.#hooks.beforeRename(message.path, message.to);
      if (consent !== undefined) await consent;
      const { promise, resolve } = Promise.withResolvers<boolean>();
      this.#grants.set(key, resolve);
      this.#post({ kind: "grant", key });
      this.#wake();
      done = await Promise.race([promise, this.ended.then(() => false)]);
      if (done && message.to !== undefined) this.#hooks.afterRename(message.path, message.to);
    } catch (error) {
      this.#post({ kind: "refuse", key });
      throw error;
    } finally {
      if (moves) this.#moves.end(done);
      else this.#moves.leave(message);
    }
  }

  // Backing files.

  #answerOpen(message: messages.DeferredOpen): void {
    let backing = this.#backings.get(message.id);
    if (backing === undefined) {
      backing = this.#register(message);
      this.#backings.set(message.id, backing);
      if (this.#records < 0) this.#records = fs.openSync(join(this.#options.runDir, "inodes"), "r+");
      writeBackingId(this.#records, message.slot, backing);
      this.#post({ kind: "registered", id: message.id, backing });
    }
    const reply = Buffer.from(message.reply.buffer, message.reply.byteOffset, message.reply.length);
    writeOpening(reply, message.at, backing, message.mode);
    if (message.created) this.#hooks.afterCreate(message.path);
    // Where one transaction has made a journal, the next will too. Before the reply: after it the thread may close the descriptor.
    if (message.created && backing > 0 && isJournal(message.path)) this.#spares.offer(fs.fstatSync(message.fd).mode & 0o7777);
    this.#reply(message.unique, reply.length - REPLY_BODY, reply);
  }

  #register(message: messages.DeferredOpen): number {
    try {
      return backingOpen(this.#fd, message.fd);
    } catch (error) {
      // Still served, through the thread: right, but slow.
      this.#hooks.report(`Cannot pass "${message.path}" through to its backing file`, error);
      return messages.NO_BACKING;
    }
  }

  #unregister(id: number, backing: number): void {
    if (this.#backings.get(id) === backing) this.#backings.delete(id);
    if (backing === messages.NO_BACKING || this.#over) return;
    try {
      backingClose(this.#fd, backing);
    } catch (error) {
      this.#hooks.report("Cannot release a backing file", error);
    }
    const last = this.#lastDescriptors.get(id);
    this.#lastDescriptors.delete(id);
    if (last !== undefined) fs.close(last, () => {});
  }

  /** A journal goes with every commit; the file system takes longer to free it than the rest of the commit takes here. */
  #keepDescriptor(id: number, file: string): void {
    const former = this.#lastDescriptors.get(id);
    if (former !== undefined) fs.close(former, () => {});
    this.#lastDescriptors.set(id, fs.openSync(file, "r"));
  }

  // Replies.

  #reply(unique: bigint, length = 0, out: Buffer = this.#out): void {
    writeReplyHeader(out, unique, length, 0);
    this.#write(out, length);
  }

  #fail(unique: bigint, errno: number): void {
    writeReplyHeader(this.#out, unique, 0, errno);
    this.#write(this.#out, 0);
  }

  #write(out: Buffer, length: number): void {
    try {
      fs.writeSync(this.#fd, out, 0, REPLY_BODY + length);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== "ENOENT" && code !== "ENODEV" && code !== "EPERM" && code !== "EBADF") this.#hooks.report("The kernel refused a reply of the mount", error);
    }
  }

  /** Node id of a path; undefined when there is no such backing file. */
  #idOf(path: string): number | undefined {
    if (path === "") return abi.FUSE_ROOT_ID;
    const stat = fs.lstatSync(this.#file(path), { throwIfNoEntry: false });
    return stat?.ino;
  }
}

/**
 * The engine's side of a mount that another process serves: runs the store's hooks, and controls the mount as MountControl says.
 *
 * Always holds: it has the shape of the FUSE session of the other driver, so the store need not know which one serves. Files of the mount are
 * opened here only by calls that do not block, because a program's request that waits for a hook may hold the lock of a folder.
 */
import * as fs from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { setImmediate as nextTick } from "node:timers/promises";
import { errnoOf, isAppError } from "../../proto/errors.ts";
import type { MountHooks } from "../core/mount-hooks.ts";
import type { FuseSession } from "../fuse/session.ts";
import { OWN_OPEN_FLAGS } from "../core/own-open.ts";
import { onLines, sendLine, type Ask, type FromServer, type Tell } from "./protocol.ts";
import { IndexFiles } from "./index-files.ts";

export interface NativeOptions {
  readonly socket: string;
  readonly mountPoint: string;
  /** The backing files. */
  readonly filesDir: string;
  readonly hooks: MountHooks;
}

export interface NativeSession extends FuseSession {
  /** A descriptor of a database's `-shm` on the mount, owned by the caller; undefined while none is open yet, and for a while after that was asked. */
  openIndex(database: string): number | undefined;
}

/** Connects with the process that serves the mount. Rejects when it does not listen. */
export function connectNative(options: NativeOptions): Promise<NativeSession> {
  return new Promise((resolve, reject) => {
    const socket = connect(options.socket);
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(new Session(socket, options));
    });
  });
}

class Session implements NativeSession {
  readonly ended: Promise<void>;
  readonly #socket: Socket;
  readonly #options: NativeOptions;
  readonly #hooks: MountHooks;
  readonly #answers = new Map<number, (value: number) => void>();
  readonly #indexes: IndexFiles;
  #counts: Record<string, number> = {};
  #nextId = 1;

  constructor(socket: Socket, options: NativeOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#hooks = options.hooks;
    this.#indexes = new IndexFiles((path) => join(options.mountPoint, path), (path) => join(options.filesDir, path));
    this.ended = new Promise((resolve) => {
      socket.on("error", () => socket.destroy());
      socket.on("close", () => resolve());
    });
    onLines<FromServer>(socket, (message) => this.#receive(message));
  }

  // MountControl.

  setRole(role: "primary" | "follower"): void {
    sendLine(this.#socket, { kind: "role", role });
  }

  openGate(): void {
    sendLine(this.#socket, { kind: "gate" });
  }

  async hide(path: string): Promise<void> {
    await this.#question((id) => sendLine(this.#socket, { kind: "hide", id, path }));
  }

  reveal(path: string): void {
    sendLine(this.#socket, { kind: "reveal", path });
  }

  /** Nothing to do: the kernel keeps no attributes. */
  invalidateAttributes(_path: string): void {}

  /** Durability sync, for which pages are dropped, does not run with this driver. */
  dropCached(): undefined {}

  invalidateEntry(path: string): void {
    this.#indexes.drop(path);
    sendLine(this.#socket, { kind: "entry", path });
  }

  setVirtualNames(names: ReadonlySet<string>): void {
    sendLine(this.#socket, { kind: "names", names: [...names] });
  }

  openCount(path: string): Promise<number> {
    return this.#question((id) => sendLine(this.#socket, { kind: "count", id, path }));
  }

  /** As of the last second. */
  requestCounts(): Record<string, number> {
    return this.#counts;
  }

  openIndex(database: string): number | undefined {
    return this.#indexes.take(`${database}-shm`);
  }

  async stop(): Promise<void> {
    this.#indexes.close();
    this.#socket.destroy();
    await this.ended;
  }

  /** 0 when the mount ends first. */
  async #question(ask: (id: number) => void): Promise<number> {
    const id = this.#nextId++;
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#answers.set(id, resolve);
    ask(id);
    const value = await Promise.race([promise, this.ended.then(() => 0)]);
    this.#answers.delete(id);
    return value;
  }

  // What the server says.

  #receive(message: FromServer): void {
    switch (message.kind) {
      case "ask": void this.#serve(message.id, message.ask); return;
      case "tell": this.#told(message.tell); return;
      case "answer": this.#answers.get(message.id)?.(message.value); return;
      case "counts": this.#counts = message.counts; return;
      case "detach": this.#detach(message.path, message.ghost); return;
      case "report": this.#hooks.report(message.message, Object.assign(new Error(message.message), { stack: message.stack })); return;
    }
  }

  async #serve(id: number, ask: Ask): Promise<void> {
    try {
      const content = await this.#run(ask);
      sendLine(this.#socket, { kind: "reply", id, errno: 0, ...(content === undefined ? {} : { content: content.toString("hex") }) });
    } catch (error) {
      if (!isAppError(error) && typeof (error as { errno?: unknown }).errno !== "number") this.#hooks.report(`Cannot serve ${ask.op} of the mount`, error);
      sendLine(this.#socket, { kind: "reply", id, errno: errnoOf(error) });
    }
  }

  async #run(ask: Ask): Promise<Buffer | undefined> {
    const hooks = this.#hooks;
    switch (ask.op) {
      case "truncate": await hooks.beforeTruncate(ask.path, ask.size); return undefined;
      case "unlink": await hooks.beforeUnlink(ask.path); return undefined;
      case "rename": await hooks.beforeRename(ask.path, ask.to); return undefined;
      case "created":
        // Opened ahead of need, so that the capture has it when the first commit comes.
        if (ask.path.endsWith("-shm")) this.#indexes.prepare(ask.path);
        hooks.afterCreate(ask.path);
        return undefined;
      case "journal": await hooks.journalZeroed(ask.path, ask.header === undefined ? undefined : Buffer.from(ask.header, "hex")); return undefined;
      case "virtual": {
        const content = await hooks.readVirtual(ask.path);
        if (content !== undefined) return content;
        // What a program wrote before it asked is heard of in the next turn of the event loop: perhaps it was the beginning of a database.
        await nextTick();
        await nextTick();
        return await hooks.readVirtual(ask.path);
      }
    }
  }

  #told(tell: Tell): void {
    const hooks = this.#hooks;
    switch (tell.op) {
      case "truncated": hooks.afterTruncate(tell.path, tell.size); return;
      case "unlinked":
        this.#indexes.drop(tell.path);
        hooks.afterUnlink(tell.path);
        return;
      case "renamed":
        this.#indexes.drop(tell.path);
        hooks.afterRename(tell.path, tell.to);
        return;
      case "rawWritten": hooks.afterRawWrite(tell.path); return;
      case "closed": hooks.afterLastClose(tell.path); return;
    }
  }

  #detach(path: string, ghost: string): void {
    fs.rename(join(this.#options.mountPoint, path), join(this.#options.mountPoint, ghost), (error) => {
      // Everybody has closed it meanwhile.
      if (error !== null && error.code !== "ENOENT") this.#hooks.report(`Programs that have the old "${path}" open may see the new one`, error);
    });
  }
}

/** Opens a file of the mount as the node's own. Resolves with the descriptor. */
export function openOwn(mountPoint: string, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.open(join(mountPoint, path), OWN_OPEN_FLAGS, (error, fd) => (error === null ? resolve(fd) : reject(error)));
  });
}

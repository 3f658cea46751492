/**
 * The inode table of the FUSE thread: which backing file each node id means, by what name, and how often the kernel holds it open.
 *
 * Always holds: a node id is the inode number of the backing file (the root is 1; a `-wal` has several, see aliases.ts), the generation its birth
 * time, so an engine that starts anew serves ids that an earlier one handed out. Names are kept as links from child to parent, so the rename of a directory is one
 * assignment. A parent stays in the table as long as a child does. An inode with `opens` above 0 keeps its backing id, and there is only
 * ever one id for an inode. A file that lost its name while open has no parent; it is reached by its descriptor or its path aside.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { constants as os } from "node:os";
import { assert } from "../core/assert.ts";
import { FUSE_ROOT_ID } from "./abi.ts";
import { Aliases, ALIAS_STEP, fileId } from "./aliases.ts";
import { asidePath, unlinkedFolder } from "./backing.ts";
import { IDLE_BACKINGS, joinPath } from "./policy.ts";
import { OpenRecords } from "./records.ts";

/** What tells opens apart: `raw` is for writing only, `own` is one of guardian or engine. */
export interface OpenKind {
  readonly raw: boolean;
  readonly own: boolean;
}

export interface Inode {
  readonly id: number;
  generation: number;
  /** undefined for the root and for files without a name. */
  parent: Inode | undefined;
  name: string;
  /** Inodes whose parent this is. */
  children: number;
  /** References of the kernel, given back by FORGET; Infinity when an earlier engine counted them. */
  lookups: number;
  opens: number;
  /** Those of them that are of guardian and engine: they do not keep applications' last close from being one. */
  ownOpens: number;
  /** Opens for writing only among them. */
  rawOpens: number;
  /** `unique` of the newest counted open, without the resend bit. */
  lastOpen: bigint;
  /** The same of the newest counted release. */
  lastRelease: bigint;
  /** Descriptor of the backing file, kept while the inode is open; -1 when there is none. */
  fd: number;
  /** Backing id, NO_BACKING, or 0. */
  backing: number;
  /** Slot in the record file, -1 when there is none. */
  slot: number;
  unlinked: boolean;
  /** Has no name, but is kept under its path aside. */
  aside: boolean;
  /** Of a `-wal` that is or was open. */
  aliases: Aliases | undefined;
  /** Header of a rollback journal at its last fsync. */
  journalHeader: Buffer | undefined;
}

const RESEND_BIT = 1n << 63n;
/** No `unique` of the kernel: they are even. */
const NEVER = 1n;

function systemError(code: "ESTALE" | "EOVERFLOW", what: string): Error {
  return Object.assign(new Error(`${code}: ${what}`), { code, errno: -os.errno[code] });
}

export function generationOf(stat: fs.BigIntStats): number {
  return Number(BigInt.asUintN(32, stat.birthtimeNs));
}

export class InodeTable {
  readonly root: Inode;
  readonly #byId = new Map<number, Inode>();
  /** Registered inodes that nobody has open, the longest unused first. */
  readonly #idle = new Map<number, Inode>();
  /** Files that are gone here, while the kernel holds references that an earlier engine counted, perhaps by several ids: it is never known that none is left. */
  readonly #unforgotten = new Set<number>();
  readonly #filesDir: string;
  readonly #runDir: string;
  readonly #records: OpenRecords;
  readonly #unregister: (id: number, backing: number) => void;
  readonly #rootInode: bigint;
  /** Minor protocol version that an earlier engine negotiated; 0 for a new mount. */
  readonly minor: number;

  /** `unregister` is told of registrations that are no longer used; they are forgotten here already. */
  constructor(options: { filesDir: string; runDir: string; resume: boolean; unregister: (id: number, backing: number) => void }) {
    this.#filesDir = options.filesDir;
    this.#runDir = options.runDir;
    this.#unregister = options.unregister;
    this.#rootInode = fs.statSync(options.filesDir, { bigint: true }).ino;
    this.root = this.#add(FUSE_ROOT_ID, 0);
    this.root.lookups = Infinity;
    const path = join(options.runDir, "inodes");
    // Without the file, the earlier engine died before it had served anything.
    if (options.resume && fs.existsSync(path)) {
      const { records, minor, open } = OpenRecords.resume(path);
      this.#records = records;
      this.minor = minor;
      this.#search();
      for (const record of open) {
        const inode = this.#byId.get(record.inode) ?? this.#add(record.inode, record.generation);
        inode.lookups = Infinity;
        // Nothing is left of it but what the kernel holds: no name, and no file aside.
        if (inode.parent === undefined) inode.unlinked = true;
        Object.assign(inode, { opens: record.opens, ownOpens: record.ownOpens, rawOpens: record.rawOpens, lastOpen: record.unique, lastRelease: record.released, backing: record.backing, slot: record.slot });
        if (record.opens === 0) this.#rest(inode);
      }
      // Files aside that nobody had open are leftovers of an interrupted unlink.
      for (const inode of [...this.#byId.values()]) if (inode.unlinked && inode.opens === 0) this.#discard(inode);
    } else {
      this.#records = OpenRecords.create(path);
      this.minor = 0;
      fs.rmSync(unlinkedFolder(options.runDir), { recursive: true, force: true });
      fs.mkdirSync(unlinkedFolder(options.runDir), { mode: 0o700 });
    }
  }

  setMinor(minor: number): void {
    this.#records.writeMinor(minor);
  }

  /** The inode of an id that the kernel sent. Throws ESTALE when there is no such file any more. */
  need(id: number): Inode {
    const inode = this.find(id);
    if (inode !== undefined) return inode;
    throw systemError("ESTALE", `no inode ${id}`);
  }

  /** Inodes with a backing id. */
  registrations(): [number, number][] {
    return [...this.#byId.values()].filter((inode) => inode.backing !== 0).map((inode) => [inode.id, inode.backing]);
  }

  find(id: number): Inode | undefined {
    return this.#byId.get(fileId(id));
  }

  /** Path below the mount, or undefined for a file without a name. */
  path(inode: Inode): string | undefined {
    if (inode === this.root) return "";
    let path = inode.name;
    for (let at = inode.parent; at !== this.root; at = at.parent) {
      if (at === undefined) return undefined;
      path = `${at.name}/${path}`;
    }
    return path;
  }

  /** Absolute path of the backing file of an inode: below the folder of files, or aside. */
  file(inode: Inode): string {
    const path = this.path(inode);
    return path === undefined ? asidePath(this.#runDir, inode.id) : this.fileOf(path);
  }

  fileOf(path: string): string {
    return joinPath(this.#filesDir, path);
  }

  idOf(stat: fs.BigIntStats): number {
    const id = stat.ino === this.#rootInode ? FUSE_ROOT_ID : Number(stat.ino);
    if (id >= ALIAS_STEP) throw systemError("EOVERFLOW", `inode number ${stat.ino} of the backing file is too large`);
    return id;
  }

  /** Notes that the backing file with this stat is `name` in `parent`. Does not count a reference of the kernel. */
  learn(parent: Inode, name: string, stat: fs.BigIntStats): Inode {
    const id = this.idOf(stat);
    const generation = generationOf(stat);
    const inode = this.#byId.get(id) ?? this.#add(id, generation);
    if (inode.generation !== generation) {
      // The number was used again. What the kernel still holds of the old file it gives back under the same id, so the count goes on.
      assert(inode.opens === 0, "the inode number of an open file cannot be used again");
      this.#release(inode);
      inode.generation = generation;
    }
    inode.unlinked = false;
    inode.aside = false;
    this.#move(inode, parent, name);
    return inode;
  }

  renamed(inode: Inode, parent: Inode, name: string): void {
    this.#move(inode, parent, name);
  }

  /** The name is gone. `aside` says that the file itself was kept. */
  unlinked(inode: Inode, aside: boolean): void {
    this.#move(inode, undefined, "");
    inode.unlinked = true;
    inode.aside = aside;
    if (inode.opens === 0) this.#discard(inode);
    else if (!aside) this.descriptor(inode);
  }

  forget(id: number, count: number): void {
    const inode = this.find(id);
    if (inode === undefined) return;
    inode.lookups -= count;
    this.#drop(inode);
  }

  /**
   * Counts an open, before its reply. One that is repeated for a killed engine, and was counted by it, is not counted twice. `node`: its id in the request.
   */
  opened(inode: Inode, unique: bigint, resent: boolean, { raw, own }: OpenKind, node = inode.id): void {
    const plain = unique & ~RESEND_BIT;
    if (resent && inode.lastOpen === plain && inode.opens > 0) return;
    inode.lastOpen = plain;
    inode.opens++;
    inode.aliases?.opened(node);
    if (raw) inode.rawOpens++;
    if (own) inode.ownOpens++;
    this.#idle.delete(inode.id);
    const isNew = inode.slot < 0;
    if (isNew) inode.slot = this.#records.take();
    this.#record(inode);
    // Registered before it was ever open: a spare file.
    if (isNew && inode.backing > 0) this.#records.writeBacking(inode.slot, inode.backing);
  }

  /** Counts a release, before its reply, and not twice either; says what ended with it. */
  released(inode: Inode, unique: bigint, resent: boolean, { raw, own }: OpenKind, node = inode.id): { lastRaw: boolean; last: boolean } {
    const plain = unique & ~RESEND_BIT;
    if (resent && inode.lastRelease === plain) return { lastRaw: false, last: false };
    inode.lastRelease = plain;
    inode.aliases?.released(node);
    const lastOfAll = inode.opens === 1;
    const last = !own && inode.opens - inode.ownOpens === 1;
    const lastRaw = raw && inode.rawOpens === 1;
    inode.opens = Math.max(0, inode.opens - 1);
    if (raw) inode.rawOpens = Math.max(0, inode.rawOpens - 1);
    if (own) inode.ownOpens = Math.max(0, inode.ownOpens - 1);
    if (inode.slot >= 0) this.#record(inode);
    if (lastOfAll) {
      this.closeDescriptor(inode);
      inode.journalHeader = undefined;
      if (inode.unlinked) this.#discard(inode);
      else this.#rest(inode);
    }
    return { lastRaw, last };
  }

  /** A descriptor of the backing file of a regular file, for reading and writing where it may be written. */
  descriptor(inode: Inode): number {
    if (inode.fd < 0) inode.fd = openBacking(this.file(inode));
    return inode.fd;
  }

  closeDescriptor(inode: Inode): void {
    if (inode.fd >= 0) fs.closeSync(inode.fd);
    inode.fd = -1;
  }

  #add(id: number, generation: number): Inode {
    const inode: Inode = {
      id, generation, parent: undefined, name: "", children: 0, lookups: 0, opens: 0, ownOpens: 0, rawOpens: 0, lastOpen: NEVER, lastRelease: NEVER, fd: -1, backing: 0, slot: -1,
      unlinked: false, aside: false, aliases: undefined, journalHeader: undefined,
    };
    // The kernel will give back old references under this id, of which nobody knows how many.
    if (this.#unforgotten.delete(id)) inode.lookups = Infinity;
    this.#byId.set(id, inode);
    return inode;
  }

  #move(inode: Inode, parent: Inode | undefined, name: string): void {
    inode.name = name;
    if (inode.parent === parent) return;
    const former = inode.parent;
    inode.parent = parent;
    if (parent !== undefined) parent.children++;
    if (former !== undefined) {
      former.children--;
      this.#drop(former);
    }
  }

  /** Leaves the table when nothing refers to the inode any more. */
  #drop(inode: Inode): void {
    if (inode.lookups > 0 || inode.children > 0 || inode.opens > 0 || inode === this.root) return;
    this.#byId.delete(inode.id);
    this.#release(inode);
    this.#move(inode, undefined, "");
  }

  /** Nobody has it open: its registration is kept for the next open, within bounds. */
  #rest(inode: Inode): void {
    if (inode.backing <= 0 || inode.unlinked) {
      this.#release(inode);
      this.#drop(inode);
      return;
    }
    this.#idle.set(inode.id, inode);
    if (this.#idle.size > IDLE_BACKINGS) {
      const [oldest] = this.#idle.values();
      assert(oldest !== undefined);
      this.#release(oldest);
    }
  }

  /** Gives up descriptor, registration and record of an inode that nobody has open. */
  #release(inode: Inode): void {
    assert(inode.opens === 0, "an open inode keeps its registration");
    this.closeDescriptor(inode);
    this.#idle.delete(inode.id);
    if (inode.backing !== 0) this.#unregister(inode.id, inode.backing);
    inode.backing = 0;
    inode.journalHeader = undefined;
    if (inode.slot >= 0) this.#records.release(inode.slot);
    inode.slot = -1;
  }

  /** A file without a name that nobody has open: it ends here. */
  #discard(inode: Inode): void {
    this.#release(inode);
    if (inode.aside) fs.rmSync(asidePath(this.#runDir, inode.id), { force: true });
    inode.aside = false;
    if (inode.lookups === Infinity) {
      this.#unforgotten.add(inode.id);
      inode.lookups = 0;
    }
    this.#drop(inode);
  }

  #record(inode: Inode): void {
    this.#records.write(inode.slot, { inode: inode.id, generation: inode.generation, opens: inode.opens, ownOpens: inode.ownOpens, rawOpens: inode.rawOpens, unique: inode.lastOpen, released: inode.lastRelease });
  }

  /** Reads the whole backing tree: an earlier engine handed out ids of it that the kernel still uses. */
  #search(): void {
    const visit = (folder: Inode): void => {
      for (const entry of fs.readdirSync(this.file(folder), { withFileTypes: true })) {
        const stat = fs.lstatSync(join(entry.parentPath, entry.name), { bigint: true, throwIfNoEntry: false });
        if (stat === undefined) continue;
        const inode = this.learn(folder, entry.name, stat);
        inode.lookups = Infinity;
        if (stat.isDirectory()) visit(inode);
      }
    };
    visit(this.root);
    for (const name of fs.readdirSync(unlinkedFolder(this.#runDir))) {
      const stat = fs.lstatSync(join(unlinkedFolder(this.#runDir), name), { bigint: true });
      const inode = this.#byId.get(this.idOf(stat)) ?? this.#add(this.idOf(stat), generationOf(stat));
      // Both a name and a copy aside: a rename was interrupted before it replaced the file. Another number: not ours to keep.
      if (inode.parent !== undefined || String(inode.id) !== name) fs.rmSync(join(unlinkedFolder(this.#runDir), name), { force: true });
      else Object.assign(inode, { unlinked: true, aside: true, lookups: Infinity });
    }
  }
}

/** Opens a backing file for reading and writing, or for reading where it may not be written now (a program that runs, an immutable file). */
export function openBacking(file: string): number {
  try {
    return fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_NOFOLLOW);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== "ETXTBSY" && code !== "EACCES" && code !== "EPERM" && code !== "EROFS") throw error;
    return fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
  }
}

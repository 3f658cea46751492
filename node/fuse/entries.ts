/**
 * Requests about names: LOOKUP, what makes a name (CREATE, MKDIR, MKNOD, SYMLINK), and what takes or moves one (UNLINK, RMDIR, RENAME).
 *
 * Always holds: the kernel holds the lock of the directory until the reply, so two of these never meet in one directory. Each reply that
 * carries an entry counts one reference of the kernel. A request that the kernel repeats for a killed engine (`resent`) succeeds when what
 * it asks for is already so.
 */
import * as fs from "node:fs";
import { assert } from "../core/assert.ts";
import * as abi from "./abi.ts";
import { Aliases } from "./aliases.ts";
import { replaceName } from "./backing.ts";
import { answerOpen } from "./files.ts";
import { openBacking, type Inode } from "./inodes.ts";
import { absenceSeconds, attributeSeconds, isJournal, isWal, joinPath, KEEP_SECONDS, TRUSTED_DIRECTORY, TRUSTED_DIRECTORY_ID } from "./policy.ts";
import { refusal, type Place, type Server } from "./server.ts";
import { REPLY_BODY, writeAbsentEntry, writeEntryOut, type Request } from "./wire.ts";
import { trustedDirectoryStat, virtualStat } from "./virtual.ts";

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_ISGID = 0o2000;

function lstat(file: string): fs.BigIntStats | undefined {
  return fs.lstatSync(file, { bigint: true, throwIfNoEntry: false });
}

export function lookup(server: Server, request: Request): void {
  const name = request.name(0);
  if (request.node === TRUSTED_DIRECTORY_ID) {
    // Names change by their real paths, of which the kernel tells nothing to what it remembers of this directory.
    lookUpPlace(server, request, server.placeOfTrustedName(name), 0);
    return;
  }
  if (request.node === abi.FUSE_ROOT_ID && name === TRUSTED_DIRECTORY) {
    if (!server.isTrusted(request)) throw refusal("ENOENT");
    const shown = { id: TRUSTED_DIRECTORY_ID, links: 2 };
    writeEntryOut(server.out, REPLY_BODY, trustedDirectoryStat(server), shown, { generation: 0, entrySeconds: 0, attributeSeconds: 0 });
    server.reply(request, abi.fuse_entry_out.SIZE);
    return;
  }
  lookUpPlace(server, request, server.placeIn(server.inodes.need(request.node), name));
}

function lookUpPlace(server: Server, request: Request, place: Place, keepSeconds = KEEP_SECONDS): void {
  if (server.isVirtual(place.path)) {
    const shown = { id: server.virtualId(place.path), links: 1 };
    writeEntryOut(server.out, REPLY_BODY, virtualStat(server), shown, { generation: 0, entrySeconds: 0, attributeSeconds: 0 });
    server.reply(request, abi.fuse_entry_out.SIZE);
    return;
  }
  if (server.isHiddenFrom(request, place.path)) throw refusal("ENOENT");
  const stat = lstat(place.file);
  if (stat === undefined) {
    writeAbsentEntry(server.out, REPLY_BODY, server.hidden.has(place.path) ? 0 : Math.min(keepSeconds, absenceSeconds(place.path)));
    server.reply(request, abi.fuse_entry_out.SIZE);
    return;
  }
  writeEntry(server, place, server.inodes.learn(place.parent, place.name, stat), stat, keepSeconds);
  server.reply(request, abi.fuse_entry_out.SIZE);
}

/** Puts a fuse_entry_out into the reply and counts the kernel's reference. Answers the id that it names. */
function writeEntry(server: Server, place: Place, inode: Inode, stat: fs.BigIntStats, keepSeconds = KEEP_SECONDS): number {
  inode.lookups++;
  const aliased = keepSeconds > 0 && isWal(place.path) && stat.isFile();
  // An engine of an earlier version may have opened a gated one by its number, in a way that excludes this one.
  if (aliased) inode.aliases ??= new Aliases(server.isGated(place.path) ? 1 : 0);
  const node = aliased ? inode.aliases!.next(inode.id) : inode.id;
  writeEntryOut(server.out, REPLY_BODY, stat, { id: inode.id, links: server.links(inode, stat) }, {
    generation: inode.generation,
    // While a name is hidden from others, each of them must ask; and for a file of which each is to have an id of its own.
    entrySeconds: aliased || server.hidden.has(place.path) ? 0 : keepSeconds,
    attributeSeconds: attributeSeconds(place.path),
  }, node);
  return node;
}

/** Whether a request that makes or removes a name must wait for the store's consent; it then comes back as granted. */
function mustAsk(server: Server, request: Request, place: Place, granted: boolean): boolean {
  server.refuseVirtual(place.path);
  // A `-wal` that is just being made: the store says when.
  if (server.isHiddenFrom(request, place.path) && (granted || !isWal(place.path))) throw refusal("ENOENT");
  if (granted || server.role === "primary" || server.isTrusted(request)) return false;
  server.ask(request, place.path);
  return true;
}

/** Gives a new backing file the owner and mode that the caller would have given it; returns its attributes. */
function adopt(server: Server, request: Request, place: Place, mode: number | undefined): fs.BigIntStats {
  const made = fs.lstatSync(place.file, { bigint: true });
  const uid = request.uid;
  // In a folder with the set-group-id bit the backing file system has chosen the group.
  const inherits = Number(made.gid) !== request.gid && (fs.lstatSync(server.inodes.file(place.parent)).mode & S_ISGID) !== 0;
  const gid = inherits ? Number(made.gid) : request.gid;
  const owned = Number(made.uid) === uid && Number(made.gid) === gid;
  if (!owned) fs.lchownSync(place.file, uid, gid);
  if (mode !== undefined) {
    const wanted = (mode & 0o7777) | (made.isDirectory() ? Number(made.mode) & S_ISGID : 0);
    if (!owned || (Number(made.mode) & 0o7777) !== wanted) fs.chmodSync(place.file, wanted);
  }
  return fs.lstatSync(place.file, { bigint: true });
}

/**
 * Runs `make`, which creates the backing file of a place, and adopts the result; on any later error the name is taken back.
 * When a repeated request finds it made already, `isThat` decides whether that is the thing.
 */
function makeName(server: Server, request: Request, place: Place, mode: number | undefined, make: () => void, isThat: (stat: fs.BigIntStats) => boolean, undo: () => void): fs.BigIntStats {
  try {
    make();
  } catch (error) {
    const existing = request.resent && (error as NodeJS.ErrnoException).code === "EEXIST" ? lstat(place.file) : undefined;
    if (existing === undefined || !isThat(existing)) throw error;
  }
  try {
    return adopt(server, request, place, mode);
  } catch (error) {
    undo();
    throw error;
  }
}

function answerEntry(server: Server, request: Request, place: Place, stat: fs.BigIntStats): void {
  writeEntry(server, place, server.inodes.learn(place.parent, place.name, stat), stat);
  server.reply(request, abi.fuse_entry_out.SIZE);
}

export function mkdir(server: Server, request: Request, granted: boolean): void {
  const place = server.place(request, abi.fuse_mkdir_in.SIZE);
  if (mustAsk(server, request, place, granted)) return;
  const mode = request.u32(abi.fuse_mkdir_in.mode) & ~request.u32(abi.fuse_mkdir_in.umask);
  const stat = makeName(server, request, place, mode, () => { fs.mkdirSync(place.file, mode & 0o7777); }, (found) => found.isDirectory(), () => { fs.rmdirSync(place.file); });
  answerEntry(server, request, place, stat);
}

export function symlink(server: Server, request: Request, granted: boolean): void {
  const place = server.place(request, 0);
  const target = request.name(0, 1);
  if (target === undefined) throw refusal("EILSEQ");
  if (mustAsk(server, request, place, granted)) return;
  const stat = makeName(server, request, place, undefined, () => { fs.symlinkSync(target, place.file); }, (found) => found.isSymbolicLink(), () => { fs.unlinkSync(place.file); });
  answerEntry(server, request, place, stat);
}

/** Regular files only: devices, pipes and sockets would not reach other nodes, nor pass through. */
export function mknod(server: Server, request: Request, granted: boolean): void {
  const place = server.place(request, abi.fuse_mknod_in.SIZE);
  const mode = request.u32(abi.fuse_mknod_in.mode);
  if ((mode & S_IFMT) !== S_IFREG && (mode & S_IFMT) !== 0) throw refusal("EPERM");
  if (mustAsk(server, request, place, granted)) return;
  const permissions = mode & ~request.u32(abi.fuse_mknod_in.umask) & 0o7777;
  const make = (): void => { fs.closeSync(fs.openSync(place.file, fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_WRONLY, permissions)); };
  const stat = makeName(server, request, place, permissions, make, (found) => found.isFile(), () => { fs.unlinkSync(place.file); });
  answerEntry(server, request, place, stat);
  server.post({ kind: "created", path: place.path });
}

export function create(server: Server, request: Request, granted: boolean): void {
  const place = server.place(request, abi.fuse_create_in.SIZE);
  if (mustAsk(server, request, place, granted)) return;
  const flags = request.u32(abi.fuse_create_in.flags);
  const mode = request.u32(abi.fuse_create_in.mode) & ~request.u32(abi.fuse_create_in.umask) & 0o7777;
  if (takeSpare(server, request, place, flags, mode)) return;
  let created = true;
  let fd: number;
  try {
    fd = fs.openSync(place.file, fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_NOFOLLOW, mode);
  } catch (error) {
    const exclusive = (flags & fs.constants.O_EXCL) !== 0 && !request.resent;
    if (exclusive || (error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    fd = openBacking(place.file);
    created = request.resent;
  }
  let stat: fs.BigIntStats;
  try {
    stat = created ? adopt(server, request, place, mode) : fs.fstatSync(fd, { bigint: true });
    if (!stat.isFile()) throw refusal("EEXIST");
  } catch (error) {
    fs.closeSync(fd);
    if (created) fs.unlinkSync(place.file);
    throw error;
  }
  const inode = server.inodes.learn(place.parent, place.name, stat);
  if (inode.fd >= 0) fs.closeSync(fd);
  else inode.fd = fd;
  const node = writeEntry(server, place, inode, stat);
  answerOpen(server, request, inode, { node, path: place.path, flags, at: REPLY_BODY + abi.fuse_entry_out.SIZE, created });
}

/**
 * Makes a rollback journal of the spare file, where there is one: a database in journal_mode=DELETE makes one with each transaction, and this way its
 * program need not wait until the main thread has registered it.
 */
function takeSpare(server: Server, request: Request, place: Place, flags: number, mode: number): boolean {
  const { spare } = server;
  if (spare === undefined || server.role !== "primary" || !isJournal(place.path) || lstat(place.file) !== undefined) return false;
  // There a new file has the group of its folder, which the backing file system gives to what is made in it.
  if ((fs.lstatSync(server.inodes.file(place.parent)).mode & S_ISGID) !== 0) return false;
  server.spare = undefined;
  let stat: fs.BigIntStats;
  try {
    fs.renameSync(spare.file, place.file);
  } catch {
    fs.closeSync(spare.fd); // On another file system: then there will be no other.
    return false;
  }
  try {
    stat = adopt(server, request, place, mode);
  } catch (error) {
    fs.closeSync(spare.fd);
    fs.unlinkSync(place.file);
    throw error;
  }
  const inode = server.inodes.learn(place.parent, place.name, stat);
  assert(inode.fd < 0 && inode.opens === 0, "a spare file is nobody's");
  inode.fd = spare.fd;
  inode.backing = spare.backing;
  writeEntry(server, place, inode, stat);
  // Before the reply, so that the main thread knows of it whatever comes next.
  server.post({ kind: "spareTaken", path: place.path, id: inode.id, backing: spare.backing, mode });
  answerOpen(server, request, inode, { node: inode.id, path: place.path, flags, at: REPLY_BODY + abi.fuse_entry_out.SIZE, created: false });
  return true;
}

export function unlink(server: Server, request: Request): void {
  const place = server.place(request, 0);
  server.refuseVirtual(place.path);
  const stat = lstat(place.file);
  if (stat === undefined) {
    if (!request.resent) throw refusal("ENOENT");
    server.reply(request);
    return;
  }
  if (stat.isDirectory()) throw refusal("EISDIR");
  const inode = server.inodes.learn(place.parent, place.name, stat);
  // From here on its attributes are read by descriptor, so nobody meets the moment in which it has no name.
  if (inode.opens > 0) server.inodes.descriptor(inode);
  server.defer({ kind: "unlink", unique: request.unique, id: inode.id, path: place.path, open: inode.opens > 0, opens: server.openCounter });
}

export function rmdir(server: Server, request: Request, granted: boolean): void {
  const place = server.place(request, 0);
  if (mustAsk(server, request, place, granted)) return;
  const stat = lstat(place.file);
  if (stat === undefined && request.resent) {
    server.reply(request);
    return;
  }
  fs.rmdirSync(place.file);
  const inode = stat === undefined ? undefined : server.inodes.find(server.inodes.idOf(stat));
  if (inode !== undefined) server.inodes.unlinked(inode, false);
  server.reply(request);
}

export function rename(server: Server, request: Request, granted: boolean): void {
  renameWith(server, request, granted, abi.fuse_rename_in.SIZE, 0);
}

export function rename2(server: Server, request: Request, granted: boolean): void {
  const flags = request.u32(abi.fuse_rename2_in.flags);
  if ((flags & ~abi.RENAME_NOREPLACE) !== 0) throw refusal("EINVAL");
  renameWith(server, request, granted, abi.fuse_rename2_in.SIZE, flags);
}

function renameWith(server: Server, request: Request, granted: boolean, size: number, flags: number): void {
  const from = server.place(request, size);
  const toNode = request.u64(abi.fuse_rename_in.newdir);
  if (toNode === TRUSTED_DIRECTORY_ID) throw refusal("EPERM");
  const to = server.placeIn(server.inodes.need(toNode), request.name(size, 1));
  server.refuseVirtual(from.path);
  server.refuseVirtual(to.path);
  const stat = lstat(from.file);
  const target = lstat(to.file);
  if (stat === undefined) {
    if (!request.resent || target === undefined) throw refusal("ENOENT");
    server.inodes.learn(to.parent, to.name, target);
    server.reply(request);
    return;
  }
  const noReplace = (flags & abi.RENAME_NOREPLACE) !== 0;
  if (noReplace && target !== undefined) throw refusal("EEXIST");
  const inode = server.inodes.learn(from.parent, from.name, stat);
  const replaced = target === undefined ? undefined : server.inodes.learn(to.parent, to.name, target);
  if (!stat.isDirectory()) {
    if (replaced !== undefined && replaced.opens > 0) server.inodes.descriptor(replaced);
    server.defer({
      kind: "rename", unique: request.unique, id: inode.id, path: from.path, to: to.path, toParent: to.parent.id, toName: to.name, noReplace,
      replaced: replaced === undefined ? undefined : { id: replaced.id, open: replaced.opens > 0 }, opens: server.openCounter,
    });
    return;
  }
  // A directory moves with all paths below it, which only this thread can do between two requests.
  if (!granted) {
    server.ask(request, from.path, to.path);
    return;
  }
  replaceName("", from.file, to.file, undefined);
  if (replaced !== undefined) server.inodes.unlinked(replaced, false);
  server.inodes.renamed(inode, to.parent, to.name);
  server.reply(request);
}

export function readlink(server: Server, request: Request): void {
  const inode = server.inodes.need(request.node);
  const target = fs.readlinkSync(server.inodes.file(inode), "buffer");
  target.copy(server.out, REPLY_BODY);
  server.reply(request, target.length);
}

export function forget(server: Server, request: Request): void {
  server.inodes.forget(request.node, request.u64(abi.fuse_forget_in.nlookup));
}

export function batchForget(server: Server, request: Request): void {
  const count = request.u32(abi.fuse_batch_forget_in.count);
  for (let index = 0; index < count; index++) {
    const at = abi.fuse_batch_forget_in.SIZE + index * abi.fuse_forget_one.SIZE;
    server.inodes.forget(request.u64(at + abi.fuse_forget_one.nodeid), request.u64(at + abi.fuse_forget_one.nlookup));
  }
}

/** Path of a child, for the listing of a directory. */
export function childPath(server: Server, folder: Inode, name: string): string {
  return joinPath(server.inodes.path(folder) ?? "", name);
}

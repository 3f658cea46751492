/**
 * Requests about one file: attributes, OPEN to RELEASE, FSYNC, and reads and writes of the few files that do not pass through.
 *
 * Always holds: every open of a regular file carries the one backing id of its inode, or none at all while any open without one is live.
 * FSYNC is real, done here and now: handing it to another thread costs more than it saves, and answering ENOSYS would make the kernel skip it for
 * ever. For a `-wal` or a `-journal` it is fdatasync, which leaves out nothing but times: SQLite itself takes that where it is built to.
 */
import * as fs from "node:fs";
import { assert } from "../core/assert.ts";
import { splitCompanion } from "../core/mount-hooks.ts";
import { isOwnOpen } from "../core/own-open.ts";
import * as abi from "./abi.ts";
import { applyAttributes, dropPrivileges, readAttributeChange } from "./backing.ts";
import type { Inode, OpenKind } from "./inodes.ts";
import { NO_BACKING, type OpenMode } from "./messages.ts";
import { attributeSeconds, isJournal, isSharedMemory, isWal, isZeroedJournal, JOURNAL_HEADER_SIZE, TRUSTED_DIRECTORY_ID, VIRTUAL_BASE } from "./policy.ts";
import { refusal, type Server } from "./server.ts";
import { trustedDirectoryStat, virtualStat } from "./virtual.ts";
import { REPLY_BODY, writeAttrOut, writeOpenOut, writeU64, type Request } from "./wire.ts";

const O_ACCMODE = 3;
const kindOf = (flags: number): OpenKind => ({ raw: (flags & O_ACCMODE) === fs.constants.O_WRONLY, own: isOwnOpen(flags) });

export function getattr(server: Server, request: Request): void {
  const id = request.node;
  if (id >= VIRTUAL_BASE || id === TRUSTED_DIRECTORY_ID) {
    const stat = id === TRUSTED_DIRECTORY_ID ? trustedDirectoryStat(server) : virtualStat(server);
    writeAttrOut(server.out, REPLY_BODY, stat, { id, links: 1 }, 0);
    server.reply(request, abi.fuse_attr_out.SIZE);
    return;
  }
  answerAttributes(server, request, server.inodes.need(id));
}

function answerAttributes(server: Server, request: Request, inode: Inode): void {
  const stat = server.stat(inode);
  const path = server.inodes.path(inode);
  const seconds = path === undefined || inode.backing === NO_BACKING ? 0 : attributeSeconds(path);
  writeAttrOut(server.out, REPLY_BODY, stat, { id: inode.id, links: server.links(inode, stat) }, seconds);
  server.reply(request, abi.fuse_attr_out.SIZE);
}

export function setattr(server: Server, request: Request): void {
  if (request.node >= TRUSTED_DIRECTORY_ID) throw refusal("EPERM");
  const inode = server.inodes.need(request.node);
  const change = readAttributeChange(request);
  const path = server.inodes.path(inode);
  const file = server.inodes.file(inode);
  // A primary's -shm is cut only by its first opener, to a size that says nothing; everything else that changes a size is told first.
  const told = change.size !== undefined && path !== undefined && !(server.role === "primary" && isSharedMemory(path));
  if (told || change.atime !== undefined || change.mtime !== undefined) {
    server.defer({ kind: "setattr", unique: request.unique, id: inode.id, path, file, change });
    return;
  }
  applyAttributes(file, change, undefined);
  answerAttributes(server, request, inode);
}

export function open(server: Server, request: Request): void {
  const flags = request.u32(abi.fuse_open_in.flags);
  if (request.node >= VIRTUAL_BASE) {
    if ((flags & O_ACCMODE) !== fs.constants.O_RDONLY) throw refusal("EACCES");
    writeOpenOut(server.out, REPLY_BODY, server.newHandle(), abi.FOPEN_DIRECT_IO | abi.FOPEN_NOFLUSH, 0);
    server.reply(request, abi.fuse_open_out.SIZE);
    return;
  }
  const inode = server.inodes.need(request.node);
  const path = server.inodes.path(inode);
  answerOpen(server, request, inode, { node: request.node, path: path ?? "", flags, at: REPLY_BODY, created: false });
}

/** Puts a fuse_open_out into `out` that says what the file may do without us. */
export function writeOpening(out: Buffer, at: number, backing: number, mode: OpenMode): void {
  const passes = backing !== NO_BACKING && mode !== "gated";
  // Reads of a gated one come from the page cache of its own id.
  const flags = abi.FOPEN_NOFLUSH | (passes ? abi.FOPEN_PASSTHROUGH : mode === "wal" ? abi.FOPEN_DIRECT_IO : 0);
  writeOpenOut(out, at, 0, flags, passes ? backing : 0);
}

interface Opening {
  /** The id that is opened: one of those of the inode. */
  readonly node: number;
  readonly path: string;
  readonly flags: number;
  /** Where the fuse_open_out goes, with which the reply ends. */
  readonly at: number;
  readonly created: boolean;
}

/** Counts the open and answers it; or, for the first open of an inode, lets the main thread register the backing file and answer. */
export function answerOpen(server: Server, request: Request, inode: Inode, opening: Opening): void {
  // May throw, so it comes before the count.
  if (inode.backing <= 0) server.inodes.descriptor(inode);
  server.inodes.opened(inode, request.unique, request.resent, kindOf(opening.flags), opening.node);
  server.countOpen();
  const mode: OpenMode = !isWal(opening.path) ? "plain" : server.isGated(opening.path) ? "gated" : "wal";
  if (mode === "gated") server.countCachedOpen(inode.id, opening.node, opening.created);
  const { out } = server;
  const length = opening.at + abi.fuse_open_out.SIZE - REPLY_BODY;
  if (inode.backing === 0) {
    writeOpenOut(out, opening.at, 0, abi.FOPEN_NOFLUSH, 0);
    assert(inode.fd >= 0 && inode.slot >= 0);
    server.defer({
      kind: "open", unique: request.unique, id: inode.id, path: opening.path, slot: inode.slot, fd: inode.fd, at: opening.at, mode, created: opening.created,
      reply: Uint8Array.prototype.slice.call(out, 0, REPLY_BODY + length),
    });
    return;
  }
  writeOpening(out, opening.at, inode.backing, mode);
  server.reply(request, length);
  if (opening.created) server.post({ kind: "created", path: opening.path });
}

export function release(server: Server, request: Request): void {
  const inode = request.node >= VIRTUAL_BASE ? undefined : server.inodes.find(request.node);
  if (inode === undefined) {
    server.contents.delete(request.u64(abi.fuse_release_in.fh));
    server.reply(request);
    return;
  }
  const path = server.inodes.path(inode);
  const { lastRaw, last } = server.inodes.released(inode, request.unique, request.resent, kindOf(request.u32(abi.fuse_release_in.flags)), request.node);
  server.reply(request);
  if (path === undefined) return;
  if (lastRaw) server.post({ kind: "rawWritten", path });
  if (last && splitCompanion(path).companion === undefined) server.post({ kind: "closed", path });
}

export function fsync(server: Server, request: Request): void {
  if (request.node >= VIRTUAL_BASE) {
    server.reply(request);
    return;
  }
  const inode = server.inodes.need(request.node);
  const fd = server.inodes.descriptor(inode);
  const path = server.inodes.path(inode);
  if (path !== undefined && isWal(path)) server.announceWalSync(path);
  const dataOnly = (request.u32(abi.fuse_fsync_in.fsync_flags) & abi.FUSE_FSYNC_FDATASYNC) !== 0;
  if (dataOnly || (path !== undefined && (isWal(path) || isJournal(path)))) fs.fdatasyncSync(fd);
  else fs.fsyncSync(fd);
  if (path !== undefined && isJournal(path) && seesCommit(inode, fd)) {
    server.defer({ kind: "journal", unique: request.unique, id: inode.id, path, header: inode.journalHeader });
    inode.journalHeader = undefined;
    return;
  }
  server.reply(request);
}

/** Whether this fsync of a rollback journal makes a commit durable; remembers the header until then. */
function seesCommit(inode: Inode, fd: number): boolean {
  const header = Buffer.alloc(JOURNAL_HEADER_SIZE);
  if (fs.readSync(fd, header, 0, JOURNAL_HEADER_SIZE, 0) < JOURNAL_HEADER_SIZE) return false;
  if (isZeroedJournal(header)) return true;
  inode.journalHeader = header;
  return false;
}

export function read(server: Server, request: Request): void {
  const offset = request.u64(abi.fuse_read_in.offset);
  const size = Math.min(request.u32(abi.fuse_read_in.size), server.out.length - REPLY_BODY);
  if (request.node >= VIRTUAL_BASE) {
    readVirtual(server, request, offset, size);
    return;
  }
  const fd = server.inodes.descriptor(server.inodes.need(request.node));
  server.reply(request, fs.readSync(fd, server.out, REPLY_BODY, size, offset));
}

function readVirtual(server: Server, request: Request, offset: number, size: number): void {
  const handle = request.u64(abi.fuse_read_in.fh);
  const content = server.contents.get(handle);
  if (content === undefined) {
    server.defer({ kind: "virtual", unique: request.unique, handle, path: server.virtualPath(request.node), offset, size });
    return;
  }
  server.reply(request, content.copy(server.out, REPLY_BODY, Math.min(offset, content.length), offset + size));
}

export function write(server: Server, request: Request): void {
  if (request.node >= TRUSTED_DIRECTORY_ID) throw refusal("EACCES");
  const inode = server.inodes.need(request.node);
  const offset = request.u64(abi.fuse_write_in.offset);
  const data = request.data(abi.fuse_write_in.SIZE, request.u32(abi.fuse_write_in.size));
  if ((request.u32(abi.fuse_write_in.write_flags) & abi.FUSE_WRITE_KILL_SUIDGID) !== 0) dropPrivileges(server.inodes.file(inode));
  const fd = server.inodes.descriptor(inode);
  const path = server.gates === undefined ? undefined : server.inodes.path(inode);
  if (path !== undefined && server.isGated(path)) {
    const deciding = server.gates!.isDeciding(inode.id);
    const commit = server.gates!.judge(inode.id, fd, offset, data);
    // No SQLite does that: its lock for writing is held until the first is decided. The pages that this one writes would be waited for by who decides.
    if (deciding && commit !== undefined) throw refusal("EIO");
    if (commit === "done") return server.defer({ kind: "commitAgain", unique: request.unique, id: inode.id, node: request.node, fd, length: data.length });
    if (commit !== undefined) return server.defer({ kind: "commit", unique: request.unique, id: inode.id, node: request.node, path, fd, commit });
  }
  const written = fs.writeSync(fd, data, 0, data.length, offset);
  writeU64(server.out, written, REPLY_BODY);
  server.reply(request, abi.fuse_write_out.SIZE);
}

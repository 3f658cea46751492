/**
 * Requests about a whole directory or the whole mount: OPENDIR to RELEASEDIR, FSYNCDIR, STATFS.
 *
 * Always holds: a listing is the names as they were at OPENDIR, sorted, so that a position in it keeps its meaning, also for an engine
 * that did not see the OPENDIR and lists the directory anew.
 */
import * as fs from "node:fs";
import * as abi from "./abi.ts";
import { childPath } from "./entries.ts";
import type { Inode } from "./inodes.ts";
import { TRUSTED_DIRECTORY_ID } from "./policy.ts";
import type { DirectoryEntry, Server } from "./server.ts";
import { direntLength, REPLY_BODY, writeDirent, writeOpenOut, writeU64, type Request } from "./wire.ts";

/** dirent.h, d_type. */
const DT_UNKNOWN = 0;
const DT_DIR = 4;
const DT_REG = 8;
const DT_LNK = 10;

function list(server: Server, id: number): DirectoryEntry[] {
  const entries: DirectoryEntry[] = [{ name: ".", type: DT_DIR }, { name: "..", type: DT_DIR }];
  if (id === TRUSTED_DIRECTORY_ID) return entries;
  const folder = server.inodes.need(id);
  const names = new Map<string, number>();
  for (const entry of fs.readdirSync(server.inodes.file(folder), { withFileTypes: true })) {
    names.set(entry.name, entry.isFile() ? DT_REG : entry.isDirectory() ? DT_DIR : entry.isSymbolicLink() ? DT_LNK : DT_UNKNOWN);
  }
  if (server.hidden.size > 0) for (const name of [...names.keys()]) if (server.hidden.has(childPath(server, folder, name))) names.delete(name);
  // The two files of the node itself are shown; the position files of databases would double every listing.
  if (folder === server.inodes.root) for (const name of [".primary", ".lag"]) if (server.isVirtual(name)) names.set(name, DT_REG);
  for (const name of [...names.keys()].sort()) entries.push({ name, type: names.get(name) ?? DT_UNKNOWN });
  return entries;
}

export function opendir(server: Server, request: Request): void {
  // The names are listed at the first READDIR: SQLite opens a directory at every commit with a rollback journal, only to fsync it.
  const handle = server.newHandle();
  writeOpenOut(server.out, REPLY_BODY, handle, 0, 0);
  server.reply(request, abi.fuse_open_out.SIZE);
}

export function readdir(server: Server, request: Request): void {
  const handle = request.u64(abi.fuse_read_in.fh);
  const offset = request.u64(abi.fuse_read_in.offset);
  const size = Math.min(request.u32(abi.fuse_read_in.size), server.out.length - REPLY_BODY);
  // Position 0 is asked for again by rewinddir(3), which promises the names as they are now.
  let entries = offset === 0 ? undefined : server.directories.get(handle);
  if (entries === undefined) {
    entries = list(server, request.node);
    server.directories.set(handle, entries);
  }
  const folder = request.node === TRUSTED_DIRECTORY_ID ? server.inodes.root : server.inodes.need(request.node);
  let at = REPLY_BODY;
  for (let index = offset; index < entries.length; index++) {
    const entry = entries[index];
    if (entry === undefined) break;
    const name = Buffer.from(entry.name);
    if (at + direntLength(name) > REPLY_BODY + size) break;
    const id = entryId(server, folder, entry.name);
    if (id === undefined) continue;
    writeDirent(server.out, at, id, index + 1, entry.type, name);
    at += direntLength(name);
  }
  server.reply(request, at - REPLY_BODY);
}

/** Inode number of an entry; undefined when it is gone by now. */
function entryId(server: Server, folder: Inode, name: string): number | undefined {
  if (name === ".") return folder.id;
  if (name === "..") return folder.parent?.id ?? abi.FUSE_ROOT_ID;
  const path = childPath(server, folder, name);
  if (server.isVirtual(path)) return server.virtualId(path);
  const stat = fs.lstatSync(server.inodes.fileOf(path), { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? undefined : server.inodes.idOf(stat);
}

export function releasedir(server: Server, request: Request): void {
  server.directories.delete(request.u64(abi.fuse_release_in.fh));
  server.reply(request);
}

/** SQLite does this after it has made or removed a journal, so it must reach the disk. */
export function fsyncdir(server: Server, request: Request): void {
  if (request.node !== TRUSTED_DIRECTORY_ID) {
    const fd = fs.openSync(server.inodes.file(server.inodes.need(request.node)), fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
    try {
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  }
  server.reply(request);
}

export function statfs(server: Server, request: Request): void {
  const found = fs.statfsSync(server.filesDir);
  const { out } = server;
  const field = abi.fuse_kstatfs;
  out.fill(0, REPLY_BODY, REPLY_BODY + field.SIZE);
  writeU64(out, found.blocks, REPLY_BODY + field.blocks);
  writeU64(out, found.bfree, REPLY_BODY + field.bfree);
  writeU64(out, found.bavail, REPLY_BODY + field.bavail);
  writeU64(out, found.files, REPLY_BODY + field.files);
  writeU64(out, found.ffree, REPLY_BODY + field.ffree);
  out.writeUInt32LE(found.bsize, REPLY_BODY + field.bsize);
  out.writeUInt32LE(255, REPLY_BODY + field.namelen);
  out.writeUInt32LE(found.bsize, REPLY_BODY + field.frsize);
  server.reply(request, field.SIZE);
}

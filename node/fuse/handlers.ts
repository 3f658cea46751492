/** Which function serves which opcode. A test holds this table and opcodes.ts together. */
import { constants as os } from "node:os";
import * as abi from "./abi.ts";
import * as directories from "./directories.ts";
import * as entries from "./entries.ts";
import * as files from "./files.ts";
import { MAX_WRITE, type Server } from "./server.ts";
import { REPLY_BODY, type Request } from "./wire.ts";

/** Answers one request, or defers, asks or parks it. Throws an error with an errno to refuse. `granted`: the main thread has consented. */
export type Handler = (server: Server, request: Request, granted: boolean) => void;

const refuse = (code: keyof typeof os.errno): Handler => (server, request) => { server.fail(request, -os.errno[code]); };
const accept: Handler = (server, request) => { server.reply(request); };

/** Settles what the connection can do. POSIX locks, BSD locks and write-back caching are left out on purpose: see ARCHITECTURE.md. */
const init: Handler = (server, request) => {
  const major = request.u32(abi.fuse_init_in.major);
  const minor = Math.min(request.u32(abi.fuse_init_in.minor), abi.FUSE_KERNEL_MINOR_VERSION);
  const { out } = server;
  const body = abi.fuse_init_out;
  out.fill(0, REPLY_BODY, REPLY_BODY + body.SIZE);
  const put = (value: number, at: number): void => { out.writeUInt32LE(value >>> 0, REPLY_BODY + at); };
  put(abi.FUSE_KERNEL_VERSION, body.major);
  put(minor, body.minor);
  // An older or newer major number: the kernel sends INIT again with ours, or gives up.
  if (major === abi.FUSE_KERNEL_VERSION) {
    const wanted = abi.FUSE_ASYNC_READ | abi.FUSE_BIG_WRITES | abi.FUSE_PARALLEL_DIROPS | abi.FUSE_MAX_PAGES | abi.FUSE_HANDLE_KILLPRIV_V2 | abi.FUSE_INIT_EXT;
    put(request.u32(abi.fuse_init_in.flags) & wanted, body.flags);
    put(request.u32(abi.fuse_init_in.flags2) & (abi.FUSE2_PASSTHROUGH | abi.FUSE2_HAS_RESEND), body.flags2);
    put(request.u32(abi.fuse_init_in.max_readahead), body.max_readahead);
    put(MAX_WRITE, body.max_write);
    put(1, body.time_gran);
    put(1, body.max_stack_depth);
    out.writeUInt16LE(64, REPLY_BODY + body.max_background);
    out.writeUInt16LE(48, REPLY_BODY + body.congestion_threshold);
    out.writeUInt16LE(MAX_WRITE / 4096, REPLY_BODY + body.max_pages);
  }
  server.inodes.setMinor(minor);
  server.reply(request, body.SIZE);
  server.post({ kind: "ready", minor, registered: server.inodes.registrations() });
};

const interrupt: Handler = (server, request) => { server.interrupt(request.data(abi.fuse_interrupt_in.unique, 8).readBigUInt64LE(0)); };

/** The wake-up that the main thread caused: it has done its work by being read. */
const notifyReply: Handler = () => {};

export const HANDLERS: Readonly<Record<number, Handler>> = {
  1: entries.lookup,
  2: entries.forget,
  3: files.getattr,
  4: files.setattr,
  5: entries.readlink,
  6: entries.symlink,
  8: entries.mknod,
  9: entries.mkdir,
  10: entries.unlink,
  11: entries.rmdir,
  12: entries.rename,
  13: refuse("EPERM"), // LINK: one name per inode
  14: files.open,
  15: files.read,
  16: files.write,
  17: directories.statfs,
  18: files.release,
  20: files.fsync,
  25: accept, // FLUSH
  26: init,
  27: directories.opendir,
  28: directories.readdir,
  29: directories.releasedir,
  30: directories.fsyncdir,
  35: entries.create,
  36: interrupt,
  38: accept, // DESTROY
  41: notifyReply,
  42: entries.batchForget,
  43: refuse("EOPNOTSUPP"), // FALLOCATE
  45: entries.rename2,
};

/**
 * What a FUSE server tells the kernel unasked: forget attributes, forget names, repeat requests, and wake our own thread.
 *
 * Always holds: none of these waits for a lock that an application's system call may hold while it waits for us, except
 * {@link invalidateName}, which therefore never runs on the calling thread, and {@link changedNow}, whose caller makes sure that the FUSE thread can answer
 * whatever holds a page. A notice about something that the kernel does not know is
 * no error.
 */
import * as fs from "node:fs";
import * as abi from "./abi.ts";
import { REPLY_BODY, writeReplyHeader, writeU64 } from "./wire.ts";

function notice(code: number, bodyLength: number): Buffer {
  const message = Buffer.alloc(REPLY_BODY + bodyLength);
  // In a notice the place of the error holds the code, and nothing is asked, so there is no number.
  writeReplyHeader(message, 0n, bodyLength, code);
  return message;
}

/** Unknown to the kernel; or the mount is gone; or not there yet. */
const UNKNOWN: ReadonlySet<string | undefined> = new Set(["ENOENT", "ENODEV", "EPERM", "ENOTCONN"]);

/** False when there was nothing to tell. */
function send(fuseFd: number, message: Buffer): boolean {
  try {
    fs.writeSync(fuseFd, message);
    return true;
  } catch (error) {
    if (!UNKNOWN.has((error as NodeJS.ErrnoException).code)) throw error;
    return false;
  }
}

/** Drops the cached attributes of an inode, not its data: data of files that pass through is not cached here. */
export function invalidateAttributes(fuseFd: number, id: number): void {
  const message = notice(abi.FUSE_NOTIFY_INVAL_INODE, abi.fuse_notify_inval_inode_out.SIZE);
  writeU64(message, id, REPLY_BODY + abi.fuse_notify_inval_inode_out.ino);
  message.writeBigInt64LE(-1n, REPLY_BODY + abi.fuse_notify_inval_inode_out.off);
  send(fuseFd, message);
}

/** Bytes of a backing file that have changed: `length` of them from `offset` on; the last byte is `last`. */
export interface ChangedData {
  readonly offset: number;
  readonly length: number;
  readonly last: number;
}

/**
 * Has the kernel drop the pages that it keeps of these bytes, and know a size of the file that has them in it. The second is said by storing the last byte: the
 * notice to drop makes the kernel ignore an answer that is on its way to it, which may be the one that told the size to a reader.
 */
function dataNotices(id: number, { offset, length, last }: ChangedData): readonly [Buffer, Buffer] {
  const drop = notice(abi.FUSE_NOTIFY_INVAL_INODE, abi.fuse_notify_inval_inode_out.SIZE);
  writeU64(drop, id, REPLY_BODY + abi.fuse_notify_inval_inode_out.ino);
  writeU64(drop, offset, REPLY_BODY + abi.fuse_notify_inval_inode_out.off);
  writeU64(drop, length, REPLY_BODY + abi.fuse_notify_inval_inode_out.len);
  const out = abi.fuse_notify_store_out;
  const store = notice(abi.FUSE_NOTIFY_STORE, out.SIZE + 1);
  writeU64(store, id, REPLY_BODY + out.nodeid);
  writeU64(store, offset + length - 1, REPLY_BODY + out.offset);
  store.writeUInt32LE(1, REPLY_BODY + out.size);
  store.writeUInt8(last, REPLY_BODY + out.SIZE);
  return [drop, store];
}

/** Drops what is not true any more of what the kernel keeps of an inode. False when it does not know it. Waits for pages that are just being read or written. */
export function changedNow(fuseFd: number, id: number, data: ChangedData): boolean {
  const [drop, store] = dataNotices(id, data);
  return send(fuseFd, drop) && send(fuseFd, store);
}

/** The same, by threads of the pool. */
export async function changed(fuseFd: number, id: number, data: ChangedData): Promise<boolean> {
  const [drop, store] = dataNotices(id, data);
  return (await sendLater(fuseFd, drop)) && (await sendLater(fuseFd, store));
}

function sendLater(fuseFd: number, message: Buffer): Promise<boolean> {
  return new Promise((resolve, reject) => {
    fs.write(fuseFd, message, (error) => {
      if (error === null) resolve(true);
      else if (UNKNOWN.has(error.code)) resolve(false);
      else reject(error);
    });
  });
}

/** Makes the kernel ask anew for every name, before its next use. Needs FUSE_INC_EPOCH_MINOR; takes no lock. */
export function expireAllNames(fuseFd: number): void {
  send(fuseFd, notice(abi.FUSE_NOTIFY_INC_EPOCH, 0));
}

/**
 * Drops one name. The kernel takes the lock of the directory for it, which an application may hold that waits for our reply, so the write
 * is left to a thread of the pool; `done` is called when the kernel has done it.
 */
export function invalidateName(fuseFd: number, parent: number, name: string, done: (error: Error | null) => void): void {
  const text = Buffer.from(`${name}\0`);
  const out = abi.fuse_notify_inval_entry_out;
  const message = Buffer.concat([notice(abi.FUSE_NOTIFY_INVAL_ENTRY, out.SIZE), text]);
  message.writeUInt32LE(message.length, abi.fuse_out_header.len);
  writeU64(message, parent, REPLY_BODY + out.parent);
  message.writeUInt32LE(text.length - 1, REPLY_BODY + out.namelen);
  fs.write(fuseFd, message, (error) => {
    done(error !== null && error.code !== "ENOENT" && error.code !== "ENODEV" ? error : null);
  });
}

/** Asks for the requests that an earlier server had read and not answered. Sent before the first read of a new one. */
export function resendUnanswered(fuseFd: number): void {
  send(fuseFd, notice(abi.FUSE_NOTIFY_RESEND, 0));
}

/**
 * Makes the kernel queue a request of its own (zero cached bytes of a regular file are asked for), upon which the thread's read returns.
 * False when the kernel does not know this inode any more, so that nothing was queued.
 */
export function wakeByInode(fuseFd: number, id: number): boolean {
  const out = abi.fuse_notify_retrieve_out;
  const message = notice(abi.FUSE_NOTIFY_RETRIEVE, out.SIZE);
  writeU64(message, id, REPLY_BODY + out.nodeid);
  return send(fuseFd, message);
}

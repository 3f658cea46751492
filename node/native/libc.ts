/**
 * The system calls that Node does not offer: mounting, FUSE backing files, OFD locks, shared maps, times to the nanosecond.
 *
 * Always holds: every call is synchronous and short, and is made from the main thread of a process: this module is never imported by a
 * Worker. An error of the system is thrown the way Node throws its own ({code, errno, syscall, message with the path}). Struct layouts
 * are those of 64-bit Linux (x86-64 and arm64 agree in all that is used here).
 */
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";
import koffi from "koffi";
import { assert } from "../core/assert.ts";

// The process itself is the library: it is linked with libc already, whichever file that is.
export const libc = koffi.load(null);

const cMount = libc.func("int mount(const char*, const char*, const char*, unsigned long, const char*)") as (source: string, target: string, type: string, flags: number, data: string) => number;
const cUmount2 = libc.func("int umount2(const char*, int)") as (target: string, flags: number) => number;
const cIoctl = libc.func("int ioctl(int, unsigned long, void*)") as (fd: number, request: number, argument: Buffer) => number;
const cFcntl = libc.func("int fcntl(int, int, void*)") as (fd: number, command: number, argument: Buffer) => number;
const cFallocate = libc.func("int fallocate(int, int, int64_t, int64_t)") as (fd: number, mode: number, offset: number, length: number) => number;
const cSyncFileRange = libc.func("int sync_file_range(int, int64_t, int64_t, unsigned int)") as (fd: number, offset: number, length: number, flags: number) => number;
const cCachestat = libc.func("syscall", "int64_t", ["int64_t", "int", "void*", "void*", "uint32_t"]) as (number: number, fd: number, range: Buffer, result: Buffer, flags: number) => number;
const cSchedSetattr = libc.func("syscall", "int64_t", ["int64_t", "int", "void*", "uint32_t"]) as (number: number, tid: number, attributes: Buffer, flags: number) => number;
const cMmap = libc.func("void* mmap(void*, size_t, int, int, int, int64_t)") as (at: null, length: number, protection: number, flags: number, fd: number, offset: number) => unknown;
const cMunmap = libc.func("int munmap(void*, size_t)") as (address: unknown, length: number) => number;
const cStatx = libc.func("int statx(int, const char*, int, unsigned int, void*)") as (dir: number, path: string, flags: number, mask: number, result: Buffer) => number;
const cUtimensat = libc.func("int utimensat(int, const char*, void*, int)") as (dir: number, path: string, times: Buffer, flags: number) => number;

const cClockGettime = libc.func("int clock_gettime(int, void*)") as (clock: number, time: Buffer) => number;

/** An error in the shape of Node's own system errors. */
export interface SystemError extends Error {
  code: string;
  /** Negative, as in Node. */
  errno: number;
  syscall: string;
  path?: string;
}

/** The error of the call of libc that was made last. */
export function systemError(syscall: string, path: string): SystemError {
  const errno = koffi.errno();
  const [code, text] = getSystemErrorMap().get(-errno) ?? [`E${errno}`, "unknown error"];
  return Object.assign(new Error(`${code}: ${text}, ${syscall} '${path}'`), { code, errno: -errno, syscall, path });
}

/** Flags of mount(2) and umount2(2) that Sluice uses (linux/mount.h). */
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MNT_DETACH = 2;

/** mount(2). Throws a {@link SystemError}. */
export function mount(source: string, target: string, type: string, flags: number, data: string): void {
  if (cMount(source, target, type, flags, data) !== 0) throw systemError("mount", target);
}

/** umount2(2). Throws a {@link SystemError}, of which EBUSY, EINVAL (not a mount point) and ENOENT are the usual ones. */
export function umount2(target: string, flags: number): void {
  if (cUmount2(target, flags) !== 0) throw systemError("umount2", target);
}

const AT_FDCWD = -100;
const AT_STATX_DONT_SYNC = 0x4000;
/** struct statx: 256 bytes, stx_dev_major u32@136, stx_dev_minor u32@140. */
const statx = Buffer.alloc(256);

/**
 * "major:minor" of the file system that a path lies on, the last link followed; undefined when there is no telling. Asks for nothing else, so the
 * kernel answers by itself: no request goes to the server of the mount, and one that is dead or hangs has an answer too.
 */
export function deviceOf(path: string): string | undefined {
  return cStatx(AT_FDCWD, path, AT_STATX_DONT_SYNC, 0, statx) === 0 ? `${statx.readUInt32LE(136)}:${statx.readUInt32LE(140)}` : undefined;
}

const FUSE_DEV_IOC_BACKING_OPEN = 0x4010e501;
const FUSE_DEV_IOC_BACKING_CLOSE = 0x4004e502;

/**
 * Registers the regular file behind `fd` with the FUSE connection of `fuseFd`; the id that an open reply may carry (1 or more).
 * Throws ELOOP when the file's own file system is stacked (overlayfs), EPERM without CAP_SYS_ADMIN, EOPNOTSUPP when passthrough was not negotiated.
 */
export function backingOpen(fuseFd: number, fd: number): number {
  const map = Buffer.alloc(16);
  map.writeInt32LE(fd, 0);
  const id = cIoctl(fuseFd, FUSE_DEV_IOC_BACKING_OPEN, map);
  if (id < 0) throw systemError("FUSE_DEV_IOC_BACKING_OPEN", `fd ${fd}`);
  assert(id > 0, "the kernel gives backing ids from 1");
  return id;
}

/** Gives an id of {@link backingOpen} back. Opens that are live keep their own reference. */
export function backingClose(fuseFd: number, id: number): void {
  const argument = Buffer.alloc(4);
  argument.writeUInt32LE(id, 0);
  if (cIoctl(fuseFd, FUSE_DEV_IOC_BACKING_CLOSE, argument) < 0) throw systemError("FUSE_DEV_IOC_BACKING_CLOSE", `id ${id}`);
}

/** Reserves the blocks of a file up to `size`, so that writing them allocates nothing. False where the file system cannot; throws ENOSPC. */
export function reserve(fd: number, size: number): boolean {
  if (size === 0 || cFallocate(fd, 0, 0, size) === 0) return true;
  const errno = koffi.errno();
  if (errno === constants.errno.ENOSPC || errno === constants.errno.EDQUOT) throw systemError("fallocate", `fd ${fd}`);
  return false;
}

const SYNC_FILE_RANGE_WRITE = 2;

/** Starts to write out what of a file is not on the disk yet, and does not wait for it. Only a hint: errors are those of a later fsync. */
export function startWriteOut(fd: number): void {
  cSyncFileRange(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

const SYS_CACHESTAT = 451;

/** How many pages of 4 KiB of a file lie in the page cache; undefined before Linux 6.5. */
export function cachedPages(fd: number): number | undefined {
  // struct cachestat_range: off u64, len u64 (0: to the end); struct cachestat: five u64, nr_cache first.
  const result = Buffer.alloc(40);
  return Number(cCachestat(SYS_CACHESTAT, fd, Buffer.alloc(16), result, 0)) === 0 ? Number(result.readBigUInt64LE(0)) : undefined;
}

const SYS_SCHED_SETATTR: Partial<Record<NodeJS.Architecture, number>> = { x64: 314, arm64: 274 };
/** struct sched_attr: size u32@0, policy u32@4 (0: SCHED_OTHER), flags u64@8, nice i32@16, priority u32@20, runtime u64@24, deadline u64@32, period u64@40. */
const SCHED_ATTR_SIZE = 48;

/**
 * sched_setattr(2) for the calling thread and those that it starts from now on. `sliceNs`: how long it runs at a time (0.1 to 100 ms; 0: the system's
 * default); one with short slices that wakes up comes before one with longer slices that is running; heeded since Linux 6.12. False where it is not
 * allowed, and then nothing has changed.
 */
export function scheduleThread({ sliceNs, nice }: { readonly sliceNs: number; readonly nice: number }): boolean {
  const number = SYS_SCHED_SETATTR[process.arch];
  if (number === undefined) return false;
  const attributes = Buffer.alloc(SCHED_ATTR_SIZE);
  attributes.writeUInt32LE(SCHED_ATTR_SIZE, 0);
  attributes.writeInt32LE(nice, 16);
  attributes.writeBigUInt64LE(BigInt(sliceNs), 24);
  return Number(cSchedSetattr(number, 0, attributes, 0)) === 0;
}

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
/** l_type of struct flock. */
const LOCK_TYPES = { read: 0, write: 1, unlock: 2 } as const;

/** struct flock: l_type i16@0, l_whence i16@2 (0 = from the start), l_start i64@8, l_len i64@16, l_pid i32@24 (0 for OFD locks). */
const flock = Buffer.alloc(32);

function fillFlock(kind: keyof typeof LOCK_TYPES, start: number, length: number): Buffer {
  assert(Number.isSafeInteger(start) && start >= 0, "lock start");
  assert(Number.isSafeInteger(length) && length >= 0, "lock length");
  flock.fill(0);
  flock.writeInt16LE(LOCK_TYPES[kind], 0);
  flock.writeBigInt64LE(BigInt(start), 8);
  flock.writeBigInt64LE(BigInt(length), 16);
  return flock;
}

/**
 * Takes, converts or releases an OFD lock (fcntl F_OFD_SETLK) without waiting; false when another descriptor holds a conflicting one.
 * `length` 0 means to the end of the file. The lock belongs to the open file description, so it survives fork and ends with its last close.
 */
export function ofdTryLock(fd: number, kind: keyof typeof LOCK_TYPES, start: number, length: number): boolean {
  if (cFcntl(fd, F_OFD_SETLK, fillFlock(kind, start, length)) === 0) return true;
  const errno = koffi.errno();
  if (errno === constants.errno.EAGAIN || errno === constants.errno.EACCES) return false;
  throw systemError("fcntl(F_OFD_SETLK)", `fd ${fd}`);
}

export interface LockHolder {
  readonly kind: "unlocked" | "read" | "write";
  /** The process that holds the lock in the way; -1 when that is an OFD lock, 0 when there is none. */
  readonly pid: number;
}

/** What stands in the way of such a lock now (fcntl F_OFD_GETLK). Locks of the same description never do. */
export function ofdQuery(fd: number, kind: "read" | "write", start: number, length: number): LockHolder {
  const lock = fillFlock(kind, start, length);
  if (cFcntl(fd, F_OFD_GETLK, lock) !== 0) throw systemError("fcntl(F_OFD_GETLK)", `fd ${fd}`);
  const type = lock.readInt16LE(0);
  if (type === LOCK_TYPES.unlock) return { kind: "unlocked", pid: 0 };
  return { kind: type === LOCK_TYPES.write ? "write" : "read", pid: lock.readInt32LE(24) };
}

const PROT_READ_WRITE = 1 | 2;
const MAP_SHARED = 1;

export interface SharedMap {
  /** Atomics work on views of it. Never used after `unmap`: the memory is gone then. */
  readonly buffer: ArrayBuffer;
  unmap(): void;
}

/**
 * mmap(2) of `length` bytes from `offset` (a multiple of the page size), shared, for reading and writing. A file that is cut below the
 * map kills the process that touches the lost part (SIGBUS), so the caller must hold what keeps it from being cut.
 */
export function mapShared(fd: number, length: number, offset = 0): SharedMap {
  assert(length > 0, "map length");
  const address = cMmap(null, length, PROT_READ_WRITE, MAP_SHARED, fd, offset);
  if (BigInt.asIntN(64, koffi.address(address)) === -1n) throw systemError("mmap", `fd ${fd}`);
  let mapped = true;
  return {
    buffer: koffi.view(address, length),
    unmap() {
      assert(mapped, "unmapped twice");
      mapped = false;
      if (cMunmap(address, length) !== 0) throw systemError("munmap", `fd ${fd}`);
    },
  };
}

const AT_SYMLINK_NOFOLLOW = 0x100;
const UTIME_NOW = 0x3fffffffn;
const UTIME_OMIT = 0x3ffffffen;

/** A time of a file: nanoseconds since 1970, the time of the call, or left as it is. */
export type FileTime = bigint | "now" | "omit";

/** utimensat(2), symbolic links not followed: Node's own utimes cuts to microseconds, which `cp -p` and rsync notice. */
export function setTimes(path: string, atime: FileTime, mtime: FileTime): void {
  const times = Buffer.alloc(32);
  for (const [at, time] of [[0, atime], [16, mtime]] as const) {
    if (time === "now" || time === "omit") {
      times.writeBigInt64LE(time === "now" ? UTIME_NOW : UTIME_OMIT, at + 8);
    } else {
      const nanoseconds = ((time % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
      times.writeBigInt64LE((time - nanoseconds) / 1_000_000_000n, at);
      times.writeBigInt64LE(nanoseconds, at + 8);
    }
  }
  if (cUtimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) !== 0) throw systemError("utimensat", path);
}

const CLOCK_BOOTTIME = 7;
/** struct timespec: seconds i64@0, nanoseconds i64@8. */
const timespec = Buffer.alloc(16);

/** Milliseconds since the machine was started, the time that it slept included; the same for all its processes. */
export function bootTimeMs(): number {
  assert(cClockGettime(CLOCK_BOOTTIME, timespec) === 0, "CLOCK_BOOTTIME is there since Linux 2.6.39");
  return Number(timespec.readBigInt64LE(0)) * 1e3 + Number(timespec.readBigInt64LE(8)) / 1e6;
}

/** Identifies this run of the kernel: what was recorded under another id (mounts, pids, locks) no longer exists. */
export function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
}

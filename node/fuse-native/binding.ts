/**
 * The npm package fuse-native as this driver uses it: libfuse 2 in threads of its own, one call of a JavaScript function per request.
 *
 * Always holds: a result is a count or 0, or a negative errno. Known faults of the package (2.2.6) that callers must live with: it does not
 * say which process, user or group asks; CREATE comes without flags; UTIMENS hands over the access time twice and no modification time; times are whole
 * milliseconds and inode numbers 32 bits; extended attributes, locks and notifications do not exist.
 */
import { createRequire } from "node:module";

export type Done = (result: number) => void;

/** What the package reads of a stat; times in ms. */
export interface Attributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly nlink: number;
  readonly ino: number;
  readonly rdev: number;
  readonly blksize: number;
  readonly blocks: number;
  readonly atime: number;
  readonly mtime: number;
  readonly ctime: number;
}

export interface FileSystemStatus {
  readonly bsize: number;
  readonly frsize: number;
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
  readonly favail: number;
  readonly namemax: number;
}

/** Paths begin with a slash. A handle is what open or create has answered. */
export interface Operations {
  getattr(path: string, done: (result: number, attributes?: Attributes) => void): void;
  readdir(path: string, done: (result: number, names?: string[]) => void): void;
  readlink(path: string, done: (result: number, target?: string) => void): void;
  statfs(path: string, done: (result: number, status?: FileSystemStatus) => void): void;
  open(path: string, flags: number, done: (result: number, handle?: number) => void): void;
  create(path: string, mode: number, done: (result: number, handle?: number) => void): void;
  read(path: string, handle: number, buffer: Buffer, length: number, position: number, done: Done): void;
  write(path: string, handle: number, buffer: Buffer, length: number, position: number, done: Done): void;
  fsync(path: string, datasync: number, handle: number, done: Done): void;
  release(path: string, handle: number, done: Done): void;
  truncate(path: string, size: number, done: Done): void;
  ftruncate(path: string, handle: number, size: number, done: Done): void;
  fsyncdir(path: string, datasync: number, handle: number, done: Done): void;
  utimens(path: string, atime: number, mtime: number, done: Done): void;
  chmod(path: string, mode: number, done: Done): void;
  chown(path: string, uid: number, gid: number, done: Done): void;
  mknod(path: string, mode: number, device: number, done: Done): void;
  unlink(path: string, done: Done): void;
  rename(from: string, to: string, done: Done): void;
  link(from: string, to: string, done: Done): void;
  symlink(target: string, path: string, done: Done): void;
  mkdir(path: string, mode: number, done: Done): void;
  rmdir(path: string, done: Done): void;
}

interface Fuse {
  _fuseOptions(): string;
  mount(done: (error: Error | null | undefined) => void): void;
}

type FuseConstructor = new (mountPoint: string, operations: Operations, options: { readonly timeout: false }) => Fuse;

/** Loads the package and with it libfuse.so.2. Throws when either is missing, or made for another machine. */
export function loadPackage(): FuseConstructor {
  return createRequire(import.meta.url)("fuse-native") as FuseConstructor;
}

/** Mounts and serves from now on, in this process. `options` are those of libfuse 2, with commas between. */
export function mount(mountPoint: string, operations: Operations, options: string): Promise<void> {
  const FuseNative = loadPackage();
  // A request may wait for an engine that is being started again: no time limit.
  const fuse = new FuseNative(mountPoint, operations, { timeout: false });
  // The package writes options only when they are true, so a timeout of 0 needs this way.
  fuse._fuseOptions = () => `-o${options}`;
  return new Promise((resolve, reject) => {
    fuse.mount((error) => (error ? reject(error) : resolve()));
  });
}

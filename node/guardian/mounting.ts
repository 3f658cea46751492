/**
 * What the guardian needs to know and do about the mount point. The FUSE side provides it; the guardian does not know it.
 */

/** A program that still holds a file of a mount. */
export interface Holder {
  readonly pid: number;
  readonly command: string;
  /** What it holds: paths, "working directory", maps. At most a few. */
  readonly what: readonly string[];
}

export type MountPointState = "free" | "absent" | "notEmpty" | "deadMount" | "liveMount" | "notDirectory";

/** A process that serves the mount, with a driver under which the engine does not. */
export interface MountServer {
  readonly pid: number;
  /** How it ended. The mount is dead then. */
  readonly ended: Promise<string>;
  /** Ends it; resolves when it is gone. */
  end(): Promise<void>;
}

export interface Mounting {
  /** Opens /dev/fuse and mounts; the descriptor keeps the connection alive. Throws a system error. */
  mount(mountPoint: string): number;
  /** "detached": programs still hold files, so the mount left the name space only. */
  unmount(mountPoint: string): "unmounted" | "detached";
  inspect(mountPoint: string): MountPointState;
  /**
   * Where the guardian opens the file at this path below the mount, so that it never waits for the lock of a directory: a system call of an
   * application that waits for the engine may hold that lock while the engine waits for the guardian.
   */
  trustedPath(mountPoint: string, path: string): string;
  /** What the guardian opens it with, where that is not "r+". */
  readonly trustedFlags?: number;
  /** "major:minor" of the newest mount at this path, asked of the kernel and not of the server, which need not answer yet. */
  device(mountPoint: string): string | undefined;
  /** Programs that hold files of a dead or detached mount; with `device` also of one that has left the name space. */
  holders(mountPoint: string, device: string | undefined): readonly Holder[];
  /** Removes a mount whose server is gone. */
  clean(mountPoint: string): void;
}

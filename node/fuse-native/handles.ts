/**
 * The open files of the mount, and the names under which libfuse keeps those that have lost theirs.
 *
 * Always holds: a handle is the number of a descriptor of the backing file. libfuse gives a file that loses its name while it is open another
 * one (`.fuse_hidden…`); such a ghost exists here only: in the backing folder the name is really gone, and the open descriptors keep the content.
 */
import * as fs from "node:fs";

export interface Handle {
  readonly fd: number;
  /** Changes when the file is renamed. */
  path: string;
  readonly writeOnly: boolean;
  /** Opened by guardian or engine; see OWN_OPEN_FLAGS. */
  readonly own: boolean;
  /** Of a virtual file, as it was at the open. */
  readonly content: Buffer | undefined;
}

const HIDDEN_NAME = /(^|\/)\.fuse_hidden[0-9a-f]{16,}$/;

export class Handles {
  readonly #handles = new Map<number, Handle>();
  readonly #ghosts = new Set<string>();
  /** Names that the engine took from open files, and the ghosts that these files become. */
  readonly #leaving = new Map<string, string>();
  #nextGhost = 1;

  add(handle: Handle): number {
    this.#handles.set(handle.fd, handle);
    return handle.fd;
  }

  get(fd: number): Handle | undefined {
    return this.#handles.get(fd);
  }

  /** Closes; says whether it was the last of the programs' handles on its path, and the last that wrote only. */
  release(fd: number): { handle: Handle; last: boolean; lastRaw: boolean } | undefined {
    const handle = this.#handles.get(fd);
    if (handle === undefined) return undefined;
    this.#handles.delete(fd);
    fs.closeSync(fd);
    const rest = this.at(handle.path);
    if (rest.length === 0) this.#ghosts.delete(handle.path);
    const others = rest.filter(({ own }) => !own);
    return { handle, last: !handle.own && others.length === 0, lastRaw: !handle.own && handle.writeOnly && !others.some(({ writeOnly }) => writeOnly) };
  }

  at(path: string): Handle[] {
    return [...this.#handles.values()].filter((handle) => handle.path === path);
  }

  /** A descriptor that stands for a path which the backing folder does not have (any more). */
  ghostFd(path: string): number | undefined {
    return this.#ghosts.has(path) || this.#leaving.has(path) ? this.at(path)[0]?.fd : undefined;
  }

  isGhost(path: string): boolean {
    return this.#ghosts.has(path);
  }

  /** Whether this rename is libfuse's way to remove an open file. */
  isHiding(from: string, to: string): boolean {
    return HIDDEN_NAME.test(to) && this.at(from).length > 0;
  }

  /** The open files at `path` live on as `ghost`. */
  hide(path: string, ghost: string): void {
    this.#ghosts.add(ghost);
    for (const handle of this.at(path)) handle.path = ghost;
  }

  /** A file or folder has a new name. */
  moved(from: string, to: string): void {
    for (const handle of this.#handles.values()) {
      if (handle.path === from) handle.path = to;
      else if (handle.path.startsWith(`${from}/`)) handle.path = to + handle.path.slice(from.length);
    }
  }

  /**
   * The engine has replaced or removed the file at `path` in the backing folder. Programs that have the old one open keep it; but libfuse
   * and the kernel know it by its name and would take the new file for the same one, with its cached pages and locks. Only a rename that
   * comes through the kernel parts them: returns the ghost's path that the engine must rename `path` to, undefined when nothing is to be done.
   */
  leave(path: string, current: number | undefined): string | undefined {
    const stale = this.at(path).some(({ fd, content }) => content === undefined && fs.fstatSync(fd).ino !== current);
    if (!stale) return undefined;
    const folder = path.slice(0, path.lastIndexOf("/") + 1);
    const ghost = `${folder}.fuse_hidden${(this.#nextGhost++).toString(16).padStart(20, "0")}`;
    this.#leaving.set(path, ghost);
    return ghost;
  }

  /** Whether a rename is the one that leave() asked for; then it is done, in this table. */
  left(path: string, to: string, current: number | undefined): boolean {
    if (this.#leaving.get(path) !== to) return false;
    this.#leaving.delete(path);
    this.#ghosts.add(to);
    for (const handle of this.at(path)) if (handle.content === undefined && fs.fstatSync(handle.fd).ino !== current) handle.path = to;
    return true;
  }
}

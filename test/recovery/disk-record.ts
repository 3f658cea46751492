/**
 * A record of everything that was done to a data folder, and what the disk holds after a crash at any point of it.
 *
 * Always holds: after the death of a process the disk holds all that was done before (`afterKill`). After a loss of power it holds, as ext4
 * promises, all that was synced; changes of names and sizes after the last sync as a prefix in their order, because they share one journal;
 * and of the data written after its file's last sync any blocks, in any combination (`afterPowerLoss`, drawn from a seed).
 * Content belongs to files, not to names: what is renamed takes its unsynced data along.
 */
import * as fs from "node:fs";
import { dirname, join, relative } from "node:path";
import { setRecorder, type DiskChange } from "../../node/io/files.ts";
import type { Random } from "../support/random.ts";

/** Paths are relative to the folder; files are numbered, because names change. */
type Change =
  | { readonly op: "create"; readonly path: string; readonly file: number }
  | { readonly op: "resize"; readonly file: number; readonly size: number }
  | { readonly op: "write"; readonly file: number; readonly data: Buffer; readonly position: number }
  | { readonly op: "unlink"; readonly path: string }
  | { readonly op: "rename"; readonly from: string; readonly to: string }
  | { readonly op: "mkdir"; readonly path: string }
  | { readonly op: "sync"; readonly file: number }
  | { readonly op: "syncFolder"; readonly path: string };

export interface CrashState {
  readonly folders: ReadonlySet<string>;
  readonly contents: ReadonlyMap<string, Buffer>;
}

const BLOCK = 4096;
const WAL_HEADER = 32;

export class DiskRecord {
  readonly #root: string;
  /** What is not recorded: caches that are mapped into memory. */
  readonly #ignore: RegExp;
  readonly changes: Change[] = [];
  readonly #names = new Map<string, number>();
  readonly #contents = new Map<number, Buffer>();
  #nextFile = 1;

  /** Records from now on what the seam does below `root`, which must be empty. */
  constructor(root: string, ignore = /-shm$/) {
    this.#root = root;
    this.#ignore = ignore;
    setRecorder((change) => this.#take(change));
  }

  stop(): void {
    setRecorder(undefined);
  }

  #relative(path: string): string | undefined {
    const name = relative(this.#root, path);
    return name.startsWith("..") || this.#ignore.test(name) ? undefined : name;
  }

  #fileOf(fd: number): number | undefined {
    const path = this.#relative(fs.readlinkSync(`/proc/self/fd/${fd}`));
    if (path === undefined || path.endsWith(" (deleted)")) return undefined;
    return this.#names.get(path) ?? this.#create(path);
  }

  #create(path: string): number {
    const file = this.#nextFile++;
    this.#names.set(path, file);
    this.changes.push({ op: "create", path, file });
    return file;
  }

  #take(change: DiskChange): void {
    if ("fd" in change) {
      const file = this.#fileOf(change.fd);
      if (file === undefined) return;
      if (change.op === "write") this.changes.push({ op: "write", file, data: Buffer.from(change.data), position: change.position });
      else if (change.op === "truncate") this.changes.push({ op: "resize", file, size: change.size });
      else this.changes.push({ op: "sync", file });
      return;
    }
    if (change.op === "rename") {
      const [from, to] = [this.#relative(change.from), this.#relative(change.to)];
      const file = from === undefined ? undefined : this.#names.get(from);
      if (from === undefined || to === undefined || file === undefined) return;
      this.#names.delete(from);
      this.#names.set(to, file);
      this.changes.push({ op: "rename", from, to });
      return;
    }
    const path = this.#relative(change.path);
    if (path === undefined) return;
    if (change.op === "open") {
      const known = this.#names.get(path);
      if (known === undefined) this.#create(path);
      else if (change.emptied) this.changes.push({ op: "resize", file: known, size: 0 });
    } else if (change.op === "unlink") {
      if (this.#names.delete(path)) this.changes.push({ op: "unlink", path });
    } else {
      this.changes.push({ op: change.op, path });
    }
  }

  /** Notes what a program did to files past the seam, by what is different now: SQLite writes directly. `synced`: it has synced them. */
  noteFiles(paths: readonly string[], synced: boolean): void {
    for (const path of paths) {
      const full = join(this.#root, path);
      const now = fs.existsSync(full) ? fs.readFileSync(full) : undefined;
      const known = this.#names.get(path);
      if (now === undefined) {
        if (known !== undefined) {
          this.#names.delete(path);
          this.changes.push({ op: "unlink", path });
        }
        continue;
      }
      const file = known ?? this.#create(path);
      const before = this.#contents.get(file) ?? Buffer.alloc(0);
      // SQLite syncs the header of a WAL that begins anew before it writes the first frame over old ones: else frames of two generations could
      // be there together, the old ones valid again (its ticket ff5be73dee).
      if (synced && path.endsWith("-wal") && before.length > 0 && now.length > 0 && !now.subarray(0, WAL_HEADER).equals(before.subarray(0, WAL_HEADER))) {
        this.changes.push({ op: "write", file, data: now.subarray(0, WAL_HEADER), position: 0 }, { op: "sync", file });
      }
      for (let at = 0; at < now.length; at += BLOCK) {
        const data = now.subarray(at, at + BLOCK);
        if (!data.equals(before.subarray(at, at + BLOCK))) this.changes.push({ op: "write", file, data, position: at });
      }
      if (now.length < before.length) this.changes.push({ op: "resize", file, size: now.length });
      this.#contents.set(file, now);
      if (synced) this.changes.push({ op: "sync", file });
    }
  }

  /** What is there when the process dies after `count` changes. */
  afterKill(count: number): CrashState {
    return this.#build(count, count, () => true);
  }

  /** What may be there when the machine dies after `count` changes. */
  afterPowerLoss(count: number, random: Random): CrashState {
    let names = 0;
    const syncedUpTo = new Map<number, number>();
    for (let index = 0; index < count; index++) {
      const change = this.changes[index]!;
      if (change.op === "sync") syncedUpTo.set(change.file, index);
      if (change.op === "sync" || change.op === "syncFolder") names = index + 1;
    }
    const kept = names + random.below(count - names + 1);
    const chance = random.pick([0, 0.3, 0.7, 0.95]);
    return this.#build(count, kept, (index, file) => index < (syncedUpTo.get(file) ?? -1) || random.chance(chance));
  }

  /** Names as after `names` changes; of the data up to `count` what `keeps` says, asked for each block. */
  #build(count: number, names: number, keeps: (index: number, file: number) => boolean): CrashState {
    const contents = new Map<number, Buffer>();
    const placed = new Map<string, number>();
    const folders = new Set<string>();
    for (let index = 0; index < count; index++) {
      const change = this.changes[index]!;
      const named = index < names;
      switch (change.op) {
        case "create":
          contents.set(change.file, Buffer.alloc(0));
          if (named) placed.set(change.path, change.file);
          break;
        case "write": {
          let content = contents.get(change.file) ?? Buffer.alloc(0);
          for (let at = 0; at < change.data.length; ) {
            const position = change.position + at;
            const length = Math.min(change.data.length - at, BLOCK - (position % BLOCK));
            if (keeps(index, change.file)) {
              if (content.length < position + length) content = Buffer.concat([content, Buffer.alloc(position + length - content.length)]);
              change.data.copy(content, position, at, at + length);
            }
            at += length;
          }
          contents.set(change.file, content);
          break;
        }
        case "resize": {
          if (!named && !keeps(index, change.file)) break;
          const content = contents.get(change.file) ?? Buffer.alloc(0);
          contents.set(change.file, content.length >= change.size ? Buffer.from(content.subarray(0, change.size)) : Buffer.concat([content, Buffer.alloc(change.size - content.length)]));
          break;
        }
        case "unlink":
          if (named) placed.delete(change.path);
          break;
        case "rename": {
          const file = named ? placed.get(change.from) : undefined;
          if (file === undefined) break;
          placed.delete(change.from);
          placed.set(change.to, file);
          break;
        }
        case "mkdir":
          if (named) folders.add(change.path);
          break;
        case "sync": case "syncFolder":
          break;
      }
    }
    return { folders, contents: new Map([...placed].map(([path, file]) => [path, contents.get(file)!])) };
  }
}

/** Writes a state into an empty folder. */
export function restore(state: CrashState, root: string): void {
  for (const folder of state.folders) fs.mkdirSync(join(root, folder), { recursive: true });
  for (const [path, content] of state.contents) {
    fs.mkdirSync(dirname(join(root, path)), { recursive: true });
    fs.writeFileSync(join(root, path), content);
  }
}

/**
 * When to look for commits that nobody announces: the clock of WAL capture.
 *
 * Always holds: after a commit, the database is looked at within some 25 milliseconds, whatever state the clock is in. Quiet databases cost
 * nothing: an inotify watch on the `-wal` wakes the clock at the first write. A busy database has no watch, because each event would cost its
 * writer a wake-up per commit; a timer polls it until it has been quiet for a while: each millisecond, or less often while so many commits come
 * that a look costs the writers more processor time than its promptness is worth to readers elsewhere. Then most looks happen when a writer
 * waits for its disk anyway, because the mount tells when a `-wal` is fsynced; what is captured there, the checkpoint need not wait for.
 * Between them the `-wal` of a single writer is written out bit by bit, so that little is left for it to wait for when it fsyncs.
 */
import { watch, type FSWatcher } from "node:fs";
import { CAPTURE_QUIET_POLLS } from "../core/limits.ts";
import type { Primary } from "./primary.ts";

/** Immediate looks after a wake-up: frames are written a few µs before the commit is published. */
const SPINS = 40;
const POLL_MS = 1;
/** So many commits for each millisecond since the last look, some looks in a row, make the next ones wait HEAVY_POLL_MS. */
const HEAVY_COMMITS_PER_MS = 1;
const HEAVY_STREAK = 8;
const HEAVY_POLL_MS = 20;
/** A look while a writer waits for its disk is worth it when the last capture is so long ago. A look with news takes a millisecond of processor on two nodes. */
const SYNCING_GAP_MS = 14;
/** Between two starts of writing out a heavily written `-wal`. A single writer fsyncs it after some thousand frames, which is each 15 ms at full speed. */
const WRITE_OUT_MS = 2;
/** So many fsyncs between two announcements are of several writers, whose checkpoints follow upon each other: they leave little to write out. */
const CROWDED_SYNCS = 3;
/** A `-wal` that was not fsynced for so long is not written out: with `synchronous=OFF` nobody waits for it. */
const WRITE_OUT_SYNCED_MS = 500;
/** From a write to the database file to the look at it, and to the next look where the first could not tell. */
const FILE_PAUSE_MS = 20;
const FILE_LATER_MS = 250;
/** Looks with news closer together than this, several times in a row, make a database busy: 200 commits a second do not. */
const BUSY_GAP_MS = 2.2;
const BUSY_STREAK = 6;

/** Events of the watch while the timer looks anyway; after so many it is taken away, because each costs the writer time. A commit of three pages makes six. */
const IDLE_EVENTS_MAX = 16;

interface Watched {
  readonly primary: Primary;
  watcher: FSWatcher | undefined;
  fileWatcher: FSWatcher | undefined;
  fileTimer: NodeJS.Timeout | undefined;
  busy: boolean;
  idleEvents: number;
  spinning: boolean;
  quietPolls: number;
  streak: number;
  lastCommitMs: number;
  lookedMs: number;
  /** When a program was last heard to fsync the `-wal`. */
  syncedMs: number;
  /** Commits captured until the last look. */
  commits: number;
  denseStreak: number;
  heavy: boolean;
  /** Several programs write at once. */
  crowded: boolean;
}

export class CaptureClock {
  readonly #watched = new Map<string, Watched>();
  readonly #report: (message: string, error: unknown) => void;
  #timer: NodeJS.Timeout | undefined;
  #writeOut: NodeJS.Timeout | undefined;

  constructor(report: (message: string, error: unknown) => void) {
    this.#report = report;
  }

  add(primary: Primary): void {
    if (this.#watched.has(primary.database.name)) return;
    const entry: Watched = { primary, watcher: undefined, fileWatcher: undefined, fileTimer: undefined, busy: false, idleEvents: 0, spinning: false, quietPolls: 0, streak: 0, lastCommitMs: 0, lookedMs: 0, syncedMs: -Infinity, commits: primary.stats.commits, denseStreak: 0, heavy: false, crowded: false };
    this.#watched.set(primary.database.name, entry);
    this.#arm(entry);
    this.#watchFile(entry);
  }

  remove(name: string): void {
    const entry = this.#watched.get(name);
    if (entry === undefined) return;
    this.#watched.delete(name);
    entry.watcher?.close();
    entry.fileWatcher?.close();
    clearTimeout(entry.fileTimer);
  }

  /** The `-wal` or the database file was created or replaced: watch the new one. */
  renew(name: string): void {
    const entry = this.#watched.get(name);
    if (entry === undefined) return;
    entry.watcher?.close();
    entry.watcher = undefined;
    if (!entry.busy) this.#arm(entry);
    this.#watchFile(entry);
  }

  /** A writer of a heavily written database waits for its disk now: a look costs it nothing. */
  lookWhileSyncing(name: string, syncs: number): void {
    const entry = this.#watched.get(name);
    if (entry === undefined) return;
    entry.syncedMs = performance.now();
    entry.crowded = syncs >= CROWDED_SYNCS;
    if (!entry.heavy) return;
    if (!entry.crowded) this.#writeOut ??= setInterval(() => this.#startWriteOut(), WRITE_OUT_MS);
    if (entry.syncedMs - entry.primary.capturedMs < SYNCING_GAP_MS) return;
    this.#look(entry);
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#schedule();
  }

  /** The database file may have changed while nobody looked. */
  lookAtFile(name: string): void {
    const entry = this.#watched.get(name);
    if (entry !== undefined) this.#checkFileIn(entry, 0);
  }

  close(): void {
    for (const name of [...this.#watched.keys()]) this.remove(name);
    clearTimeout(this.#timer);
    clearInterval(this.#writeOut);
  }

  #startWriteOut(): void {
    const now = performance.now();
    let any = false;
    for (const { heavy, crowded, syncedMs, primary } of this.#watched.values()) {
      if (crowded || now - syncedMs > WRITE_OUT_SYNCED_MS) continue;
      any = true;
      if (heavy) primary.wal.startWriteOut();
    }
    if (any) return;
    clearInterval(this.#writeOut);
    this.#writeOut = undefined;
  }

  #arm(entry: Watched): void {
    if (entry.watcher === undefined) {
      try {
        entry.watcher = watch(entry.primary.database.paths.wal, { persistent: false }, () => this.#wake(entry));
        entry.watcher.on("error", () => this.#unwatch(entry));
      } catch {
        // No -wal yet; the mount tells when it is created, and renew() comes back here.
      }
    }
    // What was committed between the last look and the watch.
    if (this.#look(entry)) this.#poll(entry);
  }

  #unwatch(entry: Watched): void {
    entry.watcher?.close();
    entry.watcher = undefined;
  }

  #wake(entry: Watched): void {
    if (entry.busy || entry.spinning) {
      if (++entry.idleEvents > IDLE_EVENTS_MAX) this.#unwatch(entry);
      return;
    }
    if (entry.primary.sync !== undefined) {
      // Its commits announce themselves; each event would wake the thread that they wait for. The timer looks for those that could not.
      this.#unwatch(entry);
      return this.#poll(entry);
    }
    entry.idleEvents = 0;
    entry.spinning = true;
    let left = SPINS;
    const spin = (): void => {
      if (!this.#watched.has(entry.primary.database.name)) return;
      if (this.#look(entry)) left = 0;
      else if (--left > 0) return void setImmediate(spin);
      entry.spinning = false;
      // The commit may come later than the spins: poll for a moment. A streak of quick commits stays with polling.
      this.#poll(entry);
    };
    spin();
  }

  #look(entry: Watched): boolean {
    // What a checkpoint has had captured since the last look is news as well.
    const isCaptured = entry.primary.capturedMs > entry.lookedMs;
    entry.lookedMs = performance.now();
    try {
      if (!entry.primary.tryFlush() && !isCaptured) {
        // A writer in its checkpoint commits nothing for a moment; it takes several such looks to call the database calm.
        entry.denseStreak = Math.max(0, entry.denseStreak - HEAVY_STREAK / 4);
        entry.heavy = entry.denseStreak >= HEAVY_STREAK;
        return false;
      }
    } catch (error) {
      this.#report(`Capture of "${entry.primary.database.name}" failed and is tried again`, error);
      return false;
    }
    const now = performance.now();
    const dense = entry.primary.stats.commits - entry.commits >= HEAVY_COMMITS_PER_MS * (now - entry.lastCommitMs);
    entry.commits = entry.primary.stats.commits;
    entry.denseStreak = dense ? Math.min(entry.denseStreak + 1, 2 * HEAVY_STREAK) : 0;
    entry.heavy = entry.denseStreak >= HEAVY_STREAK;
    entry.streak = entry.heavy || now - entry.lastCommitMs < BUSY_GAP_MS ? entry.streak + 1 : 0;
    entry.lastCommitMs = now;
    entry.lookedMs = now;
    return true;
  }

  #poll(entry: Watched): void {
    entry.busy = true;
    entry.quietPolls = 0;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#timer !== undefined) return;
    let ms = HEAVY_POLL_MS;
    for (const entry of this.#watched.values()) if (entry.busy) ms = Math.min(ms, this.#restMs(entry));
    this.#timer = setTimeout(() => this.#tick(), Math.max(POLL_MS, ms));
  }

  /** How long the next look at a busy database can wait. What a checkpoint has just had captured counts as a look. */
  #restMs({ heavy, lookedMs, primary }: Watched): number {
    return heavy || primary.sync !== undefined ? HEAVY_POLL_MS - (performance.now() - Math.max(lookedMs, primary.capturedMs)) : 0;
  }

  #tick(): void {
    this.#timer = undefined;
    let any = false;
    for (const entry of this.#watched.values()) {
      if (!entry.busy) continue;
      if (this.#restMs(entry) > POLL_MS) {
        any = true;
        continue;
      }
      if (this.#look(entry)) entry.quietPolls = 0;
      else entry.quietPolls++;
      if (entry.streak >= BUSY_STREAK && entry.watcher !== undefined) this.#unwatch(entry);
      // With its watch in place a database may leave the timer at once; without, only after a quiet time.
      if (entry.quietPolls > (entry.watcher === undefined ? CAPTURE_QUIET_POLLS : 1)) {
        entry.busy = false;
        entry.streak = 0;
        this.#arm(entry);
      }
      any ||= entry.busy;
    }
    if (any) this.#schedule();
  }

  /** Journal modes without a signal show only as writes to the database file. Not urgent: looked at when the writes pause. */
  #watchFile(entry: Watched): void {
    entry.fileWatcher?.close();
    try {
      entry.fileWatcher = watch(entry.primary.database.paths.database, { persistent: false }, () => {
        // One event is enough until the look: a checkpoint makes one for each page, and each would wake this thread.
        entry.fileWatcher?.close();
        entry.fileWatcher = undefined;
        this.#checkFileIn(entry, FILE_PAUSE_MS);
      });
      entry.fileWatcher.on("error", () => undefined);
    } catch {
      entry.fileWatcher = undefined; // The file is gone; the store removes the database.
    }
  }

  #checkFileIn(entry: Watched, ms: number): void {
    entry.fileTimer ??= setTimeout(() => {
      entry.fileTimer = undefined;
      if (!this.#watched.has(entry.primary.database.name)) return;
      // Before the look, so that what comes after it is told.
      if (entry.fileWatcher === undefined) this.#watchFile(entry);
      entry.primary.checkFile().then(
        (found) => found === "later" && this.#checkFileIn(entry, FILE_LATER_MS),
        (error: unknown) => this.#report(`Look at "${entry.primary.database.name}" failed`, error),
      );
    }, ms);
  }
}

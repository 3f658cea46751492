/**
 * One database on a node that follows: stores what the primary sends, applies it, keeps the fence.
 *
 * Always holds: a transaction is verified (file checksum, position before, checksum after) and stored before it is applied, in this order, in
 * the database's turn. What does not fit is refused by POSITION_MISMATCH and nothing is changed: the caller takes a snapshot. A database
 * appears to applications complete and fenced, or not at all.
 */
import fs from "node:fs";
import { setImmediate as nextTick, setTimeout as sleep } from "node:timers/promises";
import { ARENA, CHECKSUM_FLAG, pageChecksumAt } from "../core/checksums.ts";
import { files } from "../io/files.ts";
import { WAL_DMS_LOCK } from "../sqlite/lock-bytes.ts";
import { decodeLtx, decodeLtxFile } from "../ltx/decoder.ts";
import type { LtxHeader } from "../ltx/header.ts";
import type { LtxTrailer } from "../ltx/trailer.ts";
import type { MountControl } from "../core/mount-hooks.ts";
import { AppError } from "../../proto/errors.ts";
import { formatHex16, formatPosition, type Position } from "../../proto/position.ts";
import type { Database } from "./database.ts";
import { judgeTransaction, type EpochHistory } from "./epoch-history.ts";
import type { PageSums } from "./page-sums.ts";
import { locksOf } from "./locks.ts";
import { giveOwnership, ownershipOf, type Ownership } from "./ownership.ts";
import { PageSums as Sums } from "./page-sums.ts";
import { pausing } from "./primary.ts";
import { Replica, type PageSource } from "./replica.ts";
import { repairBytes } from "./room.ts";
import { SumList } from "./sum-list.ts";
import { LogOutput, type LogEntry } from "./tx-log.ts";
import type { WalPoint } from "./wal-capture.ts";
import { Turn } from "./turn.ts";

/** What a follower needs from outside the store. */
export interface FollowerHost {
  /** Asks the guardian to bring the fence of a database to a level (the table is in guardian/fences.ts); resolves when it holds. */
  fence(name: string, level: "off" | "ready" | "write" | "exclusive" | "follow"): Promise<void>;
  hide(path: string): Promise<void>;
  reveal(path: string): void;
  invalidateAttributes(path: string): void;
  invalidateEntry(path: string): void;
  /** The node has written to a file: see MountControl. */
  dropCached: MountControl["dropCached"];
  /** Opens a file through the mount, so that locks asked on it are those of the applications. */
  openOnMount(path: string): Promise<number>;
  report(message: string, error: unknown): void;
}

/** How long to wait for the last reader of a rollback-mode database before looking again whether a WAL is in use. */
const EXCLUSIVE_MS = 200;
/** A loss of power takes what was not synced yet: seconds of transactions. */
const ENTRIES_LOOKED_AT = 10_000;
/** Pages of one transaction up to this size stay in memory; more are spooled to a file. */
const PAGES_IN_MEMORY_BYTES = 8 << 20;
/** So many bytes of pages of a proposal stay in memory until it is confirmed. */
const PROPOSAL_KEPT_BYTES = 256 << 10;

export class Follower {
  readonly database: Database;
  readonly turn = new Turn();
  readonly #host: FollowerHost;
  #replica: Replica | undefined;
  /** What was read of the proposal that was stored last. */
  #proposal: { readonly ltx: Buffer; readonly header: LtxHeader; readonly trailer: LtxTrailer; readonly sums: SumList; readonly pages: PageSpool } | undefined;
  healed = 0;
  damaged = 0;

  constructor(database: Database, host: FollowerHost) {
    this.database = database;
    this.#host = host;
  }

  get replica(): Replica | undefined {
    return this.#replica;
  }

  /**
   * Takes up a database that is on disk: builds or takes over its wal-index, applies the newest stored transaction again (it may not have been
   * published), has the fence taken, lets applications see it.
   */
  async attach(options: { live: boolean }): Promise<void> {
    const { database } = this;
    if (database.deleted) return;
    if (!fs.existsSync(database.paths.database)) {
      // Whatever comes next would be laid over nothing.
      database.distrust ??= "its file is gone";
      return;
    }
    // The files may be ahead of what is left of the log: the newest transaction in it must not be laid over them.
    if (database.log.lostEnd) database.distrust ??= "the end of the log was damaged";
    // Nor over files of which it is not known what they hold: after a loss of power they may be ahead of the log. See resolveDistrust.
    const behind = database.distrust === undefined && database.pendingInstall === undefined;
    const replica = Replica.open(database.paths, { pageSize: this.#pageSizeOnDisk(), live: options.live });
    this.#replica = replica;
    this.#watchReplica();
    const newest = database.log.newest;
    // A transaction is there as a whole or not at all, so a sample of its pages tells; a large one is not applied again at every start.
    if (behind && newest !== undefined && newest.max === database.position.txid && replica.pageSize === database.pageSize && this.#newestMissing() !== undefined) await this.#applyStored(newest.min);
    const missing = options.live || database.distrust !== undefined ? undefined : this.#newestMissing();
    if (missing !== undefined) database.distrust = `${missing} is not what the log says; the end of the WAL may be lost`;
    await this.#finishPlace();
  }

  /**
   * Takes up a database that this node wrote until now. Its fence is at "write", all of it is captured, and applications may have it open. Where
   * they use its WAL, that WAL goes on; else the WAL is made while nobody reads, and everything that is opened from then on uses it. `waited` resolves
   * when a program waits for that.
   */
  async attachDemoted(waited: Promise<void>): Promise<void> {
    const { database } = this;
    const { name, paths } = database;
    if (database.deleted || !fs.existsSync(paths.database)) return;
    let isWaited = false;
    void waited.then(() => (isWaited = true));
    // Who reads a database in WAL mode must open its -wal, and waits for us to make it, with a lock that "exclusive" would wait for in vain.
    const needNotBeAlone = (): boolean => isWaited && this.#isInWalMode();
    const inUse = (): boolean => {
      const shm = fs.statSync(paths.shm, { throwIfNoEntry: false });
      return shm !== undefined && locksOf(shm.ino).some(({ start, end }) => start <= WAL_DMS_LOCK.start && end >= WAL_DMS_LOCK.start);
    };
    let live = inUse();
    for (let attempt = 0; !live && !needNotBeAlone(); attempt++) {
      const alone = this.#host.fence(name, "exclusive").then(() => true, () => false);
      if (await Promise.race([alone, sleep(EXCLUSIVE_MS, false), ...(isWaited ? [] : [waited.then(() => false)])])) break;
      await this.#host.fence(name, "write");
      await alone;
      live = inUse();
      if (attempt === 50) this.#host.report(`"${name}" waits for a reader to end before this node can follow with it`, undefined);
    }
    if (live) await this.#host.fence(name, "follow");
    // Whoever opens the new wal-index before the fence is there takes it for one that he has to make himself.
    else for (const suffix of ["-wal", "-shm"]) await this.#host.hide(`${name}${suffix}`);
    this.#replica = Replica.open(paths, { pageSize: this.#pageSizeOnDisk(), live });
    this.#watchReplica();
    if ((files.sizeOf(paths.journal) ?? 0) > 0) {
      // A writer died in the middle of a transaction. With a WAL beside it nobody would roll it back, so what the file holds is not known.
      database.distrust = "a transaction was left unfinished in the file";
      database.setAside(paths.journal, "its writer died, and this node follows now");
    }
    await this.#finishPlace();
  }

  /** By the file itself: that is what SQLite goes by where there is no WAL. */
  #isInWalMode(): boolean {
    const head = Buffer.alloc(20);
    const fd = files.open("follower:header", this.database.paths.database, "r");
    try {
      return files.read("follower:header", fd, head, 0, head.length, 0) === head.length && head[18] === 2;
    } finally {
      fs.closeSync(fd);
    }
  }

  /** Ends this side, for a node that is about to write: where the WAL stands, when nothing is being applied any more. The fence stays. */
  async release(): Promise<WalPoint | undefined> {
    return this.turn.run(async () => {
      const point = await this.#replica?.release();
      this.#replica = undefined;
      return point;
    });
  }

  #watchReplica(): void {
    const replica = this.#replica!;
    replica.onFileChange = () => this.#host.invalidateAttributes(this.database.name);
    replica.onFrames = (data) => this.#host.dropCached(`${this.database.name}-wal`, data);
    replica.onError = (error) => this.#host.report(`Checkpoint of "${this.database.name}" failed and is tried again`, error);
  }

  /** What of the newest log entries is not in the files. */
  #newestMissing(): string | undefined {
    const { database } = this;
    const replica = this.#replica!;
    if (replica.pageCount !== database.sums.pageCount) return "the size";
    for (const pgno of database.newestPages()) {
      replica.readPage(pgno, 0);
      if (pageChecksumAt(pgno, 0, replica.pageSize) !== database.sums.get(pgno)) return `page ${pgno}`;
    }
    return undefined;
  }

  #pageSizeOnDisk(): number {
    if (this.database.pageSize !== 0) return this.database.pageSize;
    throw new AppError("CORRUPT_FILE", [this.database.paths.database, "its page size is not known"]);
  }

  async #applyStored(min: number): Promise<void> {
    const entry = this.database.log.entryAt(min);
    if (entry === undefined) return;
    const pages = new PageSpool(this.database.paths.log, this.database.pageSize);
    try {
      const { header } = this.database.log.decode(entry, (pgno, page) => pages.add(pgno, page));
      if (header.commit > 0) await pausing(this.#replica!.appendSteps(pages, header.commit));
    } finally {
      pages.close();
    }
  }

  /** Applies a whole LTX file that the primary sent, from memory or (a big one) from a file. `ownership` is for a database that begins with it. */
  async apply(ltx: Buffer | { path: string; size: number }, epoch: number, ownership?: Ownership, history?: EpochHistory): Promise<void> {
    await this.turn.run(() => this.#apply(ltx, epoch, ownership, history));
  }

  async #apply(ltx: Buffer | { path: string; size: number }, epoch: number, ownership: Ownership | undefined, history: EpochHistory | undefined): Promise<void> {
    const { database } = this;
    const position = database.position;
    // A proposal that is confirmed has been read already.
    const read = this.#proposal?.ltx === ltx ? this.#proposal : undefined;
    let pages: PageSpool | undefined = read?.pages;
    const sums = read?.sums ?? new SumList();
    this.#proposal = undefined;
    const onPage = (pgno: number, page: Buffer, offset: number): void => {
      pages ??= new PageSpool(database.paths.log, page.length);
      sums.push(pgno, pageChecksumAt(pgno, offset, page.length));
      pages.add(pgno, page);
    };
    const fd = Buffer.isBuffer(ltx) ? undefined : files.open("apply:received", ltx.path, "r");
    try {
      const { header, trailer } = read ?? (Buffer.isBuffer(ltx)
        ? decodeLtx(ltx, onPage)
        : decodeLtxFile((buffer, offset) => files.read("apply:received", fd!, buffer, 0, buffer.length, offset), ltx.size, onPage));
      if (database.distrust !== undefined) throw this.#mismatch(header, database.distrust);
      const verdict = judgeTransaction({ history: database.epochs, txid: position.txid, epoch: position.epoch }, { epoch, maxTxid: header.maxTxid }, history);
      if (verdict === "known") return; // Sent again after a reconnection.
      if (verdict === "stale") throw new AppError("STALE_EPOCH", [`the sender of transactions ${formatHex16(header.minTxid)} to ${formatHex16(header.maxTxid)} of "${database.name}"`, epoch, position.epoch]);
      if (verdict === "diverged") throw this.#mismatch(header, "this node has others in their place");
      this.#checkFits(header, position);
      const checksum = this.#checksumAfter(header, sums);
      if (checksum !== trailer.postApplyChecksum) {
        throw this.#mismatch(header, `the result would have checksum ${formatHex16(checksum)} instead of ${formatHex16(trailer.postApplyChecksum)}`);
      }
      if (history !== undefined) database.adoptHistory(history, header.maxTxid);
      this.#store(ltx, header);
      const next: Position = { epoch, txid: header.maxTxid, checksum };
      if (header.commit === 0) await this.#remove();
      else if (this.#replica === undefined) await this.#create(pages!, header, ownership);
      else await this.#append(pages, header);
      database.adopt(next, { pageSize: header.pageSize, pageCount: header.commit, pages: sums }, history);
    } finally {
      pages?.close();
      if (fd !== undefined) fs.closeSync(fd);
    }
  }

  /** Stores a proposal without showing it. Throws POSITION_MISMATCH when it does not follow what is here, or was refused before all of it had come. */
  async prepare(ltx: Buffer, epoch: number, serial: number): Promise<void> {
    await this.turn.run(() => {
      const { database } = this;
      const sums = new SumList();
      // Kept while they are few: in a moment they are confirmed, most likely.
      let pages: PageSpool | undefined = new PageSpool(database.paths.log, database.pageSize);
      const { header, trailer } = decodeLtx(ltx, (pgno, page, offset) => {
        sums.push(pgno, pageChecksumAt(pgno, offset, page.length));
        if (pages !== undefined && sums.count * page.length <= PROPOSAL_KEPT_BYTES) pages.add(pgno, page);
        else pages = undefined;
      });
      this.#proposal = undefined;
      if (database.distrust !== undefined) throw this.#mismatch(header, database.distrust);
      if (serial <= database.tail.refused) throw this.#mismatch(header, "it was refused");
      if (header.minTxid !== database.position.txid + 1) throw this.#mismatch(header, "it does not follow");
      this.#checkFits(header, database.position);
      if (this.#checksumAfter(header, sums) !== trailer.postApplyChecksum) throw this.#mismatch(header, "the result would have another checksum");
      database.tail.store({ epoch, txid: header.maxTxid, serial, preApplyChecksum: header.preApplyChecksum, checksum: trailer.postApplyChecksum, ltx });
      if (pages !== undefined && header.pageSize === database.pageSize) this.#proposal = { ltx, header, trailer, sums, pages };
    });
  }

  /** Publishes the proposal of this serial. False when it is not here: then the transaction itself is wanted. */
  async confirm(serial: number, ownership?: Ownership, history?: EpochHistory): Promise<boolean> {
    return this.turn.run(async () => {
      const tail = this.database.tail.after(this.database.position);
      if (tail?.serial !== serial) return false;
      await this.#apply(tail.ltx, tail.epoch, ownership, history);
      return true;
    });
  }

  /** `epoch`: of the primary that says so. One that did not make the proposal cannot know whether it was acknowledged. */
  async rewind(serial: number, epoch: number): Promise<void> {
    await this.turn.run(() => {
      this.database.keepOvertaken(epoch);
      this.database.tail.rewind(serial);
    });
  }

  /** The node is about to be the primary: what it has stored is published, unless it is known to be refused. Returns whether something was. */
  async settle(refused: number): Promise<boolean> {
    return this.turn.run(async () => {
      const tail = this.database.tail.after(this.database.position);
      if (tail === undefined) return false;
      if (tail.serial <= refused) {
        this.database.tail.rewind(refused);
        return false;
      }
      // A primary that was elected since went on from the same place without it.
      if (tail.epoch < this.database.position.epoch) {
        this.database.keepOvertaken(this.database.position.epoch);
        return false;
      }
      await this.#apply(tail.ltx, tail.epoch, undefined, undefined);
      return true;
    });
  }

  #mismatch(header: LtxHeader, reason: string): AppError {
    return new AppError("POSITION_MISMATCH", [`transactions ${formatHex16(header.minTxid)} to ${formatHex16(header.maxTxid)}`, this.database.name, `${formatPosition(this.database.position)} (${reason})`]);
  }

  #checkFits(header: LtxHeader, position: Position): void {
    if (header.minTxid > position.txid + 1) throw this.#mismatch(header, "transactions between are missing");
    if (header.minTxid === position.txid + 1 && position.txid > 0 && header.preApplyChecksum !== position.checksum) throw this.#mismatch(header, "the histories differ");
  }

  #checksumAfter(header: LtxHeader, sums: Iterable<readonly [number, bigint]>): bigint {
    const known = this.database.sums;
    const resized = this.database.pageSize !== 0 && this.database.pageSize !== header.pageSize;
    let xor = resized ? 0n : known.checksum;
    for (const [pgno, sum] of sums) xor ^= sum ^ (resized ? 0n : known.get(pgno));
    if (!resized) for (let pgno = header.commit + 1; pgno <= known.pageCount; pgno++) xor ^= known.get(pgno);
    return xor | CHECKSUM_FLAG;
  }

  #store(ltx: Buffer | { path: string }, header: LtxHeader): void {
    const { log, position } = this.database;
    if (header.minTxid <= position.txid) {
      // A merged file that begins before our position holds the later parts of the log too.
      log.supersede(header.minTxid);
    }
    if (Buffer.isBuffer(ltx)) {
      const output = new LogOutput(log, header.minTxid, header.maxTxid);
      output.add(ltx);
      output.commit();
    } else {
      const { path, commit } = log.begin(header.minTxid, header.maxTxid);
      files.rename("apply:received", ltx.path, path);
      commit();
    }
  }

  async #append(pages: PageSpool | undefined, header: LtxHeader): Promise<void> {
    const replica = this.#replica!;
    if (header.pageSize !== replica.pageSize) await this.#resize(header.pageSize);
    const source: PageSource = pages ?? { count: 0, pgno: () => 0, copy: () => undefined };
    await pausing(replica.appendSteps(source, header.commit));
  }

  /** The primary vacuumed to another page size: waits until no reader is in a snapshot. */
  async #resize(pageSize: number): Promise<void> {
    for (let attempt = 0; !(await this.#replica!.resize(pageSize)); attempt++) {
      if (attempt === 1000) this.#host.report(`"${this.database.name}" waits for a reader to end before its page size can change`, undefined);
      await new Promise((resolve) => setTimeout(resolve, Math.min(50, 1 + attempt)));
    }
  }

  /** A database that applications could not see until now. */
  async #create(pages: PageSpool, header: LtxHeader, ownership: Ownership | undefined): Promise<void> {
    const staging = `${this.database.paths.log}/create.part`;
    const fd = files.open("follower:create", staging, "w+", 0o644);
    try {
      files.truncate("follower:create", fd, header.commit * header.pageSize);
      for (let index = 0; index < pages.count; index++) {
        pages.copy(index, 0);
        files.write("follower:create", fd, ARENA, 0, header.pageSize, (pages.pgno(index) - 1) * header.pageSize);
      }
      // Else a loss of power may leave the name, and zeroes below it.
      await files.fdatasync("follower:create", fd);
    } finally {
      fs.closeSync(fd);
    }
    if (ownership !== undefined) giveOwnership(staging, ownership);
    await this.#place(staging, header.pageSize);
  }

  async #place(staging: string, pageSize: number): Promise<void> {
    const { paths, name } = this.database;
    for (const suffix of ["", "-wal", "-shm"]) await this.#host.hide(`${name}${suffix}`);
    files.mkdir("follower:place", paths.database.slice(0, paths.database.lastIndexOf("/")), 0o755);
    const existing = fs.statSync(paths.database, { throwIfNoEntry: false });
    const owned = ownershipOf(paths.database);
    if (owned !== undefined) giveOwnership(staging, owned);
    if (existing !== undefined && existing.size > 0) this.#host.report(`"${name}" was here as a local file and is set aside`, undefined);
    if (existing !== undefined && existing.size > 0) files.rename("follower:local", paths.database, `${paths.database}.local-${Date.now()}`);
    for (const path of [paths.wal, paths.shm, paths.journal]) files.unlink("follower:place", path);
    files.rename("follower:place", staging, paths.database);
    this.#replicaIsFresh(pageSize);
    await this.#finishPlace();
  }

  #replicaIsFresh(pageSize: number): void {
    this.#replica = Replica.open(this.database.paths, { pageSize, live: false });
    this.#watchReplica();
  }

  async #finishPlace(): Promise<void> {
    const { name } = this.database;
    await this.#host.fence(name, "follow");
    this.#replica!.setLockFd(await this.#host.openOnMount(`${name}-shm`));
    for (const suffix of ["", "-wal", "-shm"]) {
      this.#host.invalidateEntry(`${name}${suffix}`);
      this.#host.reveal(`${name}${suffix}`);
    }
  }

  /** The primary deleted the database. Programs that have it open keep their file, as everywhere. */
  async #remove(): Promise<void> {
    const { paths, name } = this.database;
    this.#replica?.close();
    this.#replica = undefined;
    await this.#host.fence(name, "off");
    for (const [path, suffix] of [[paths.database, ""], [paths.wal, "-wal"], [paths.shm, "-shm"], [paths.journal, "-journal"]] as const) {
      files.unlink("follower:remove", path);
      this.#host.invalidateEntry(`${name}${suffix}`);
    }
  }

  /**
   * Replaces the content by a verified snapshot that lies in a file. Where the database is open, the pages that differ become one transaction,
   * so that readers see the old state or the new one; else the file takes its place. The old history goes aside, but for what is also the new
   * one's (`keepLogTo`). `anew`: nothing that is here is trusted; the old files are kept and every page is written.
   */
  async installSnapshot(snapshot: { path: string; sums: PageSums; pageSize: number; position: Position; history?: EpochHistory; keepLogTo?: number; anew?: boolean }): Promise<void> {
    await this.turn.run(async () => {
      const { database } = this;
      const { sums, pageSize, position } = snapshot;
      if (snapshot.anew === true) await this.#keepCopies();
      database.beginInstall(position, pageSize, snapshot.history, snapshot.keepLogTo);
      if (this.#replica === undefined) {
        if (sums.pageCount > 0) await this.#place(snapshot.path, pageSize);
      } else if (sums.pageCount === 0) {
        await this.#remove();
      } else {
        if (pageSize !== this.#replica.pageSize) await this.#resize(pageSize);
        const whole = snapshot.anew === true || database.distrust !== undefined || pageSize !== database.pageSize;
        const fd = files.open("snapshot:install", snapshot.path, "r");
        try {
          await this.#appendDiffering(sums, whole, (pgno, offset) => void files.read("snapshot:install", fd, ARENA, offset, pageSize, (pgno - 1) * pageSize));
        } finally {
          fs.closeSync(fd);
        }
      }
      database.adoptSnapshot(position, pageSize, sums);
      this.#copied.clear();
    });
  }

  /** What a repair is about to write, by what is here. `whole`: bytes of the database that comes. */
  repairBytes(whole: number, sharesBlocks: boolean): number {
    const { paths } = this.database;
    const [database = 0, wal = 0, here = 0] = [paths.database, paths.wal, `${paths.log}/snapshot.part`].map((path) => files.sizeOf(path));
    const replaced = (this.#copied.has(paths.database) ? 0 : database) + (this.#copied.has(paths.wal) ? 0 : wal);
    return repairBytes({ replaced, whole, here, wal, open: this.#replica !== undefined }, sharesBlocks);
  }

  /** Programs have these files open, so their content is replaced and not the files. The WAL first: a checkpoint may be carrying it into the database. */
  async #keepCopies(): Promise<void> {
    const { database } = this;
    for (const path of [database.paths.wal, database.paths.database, `${database.paths.log}/state.json`, `${database.paths.log}/checksums`]) {
      if (this.#copied.has(path)) continue;
      await database.keepCopy(path, "replaced by `sluice repair --from peer`");
      this.#copied.add(path);
    }
  }

  /** Of a repair that a full disk has interrupted: they are not copied again. */
  readonly #copied = new Set<string>();

  /** Goes to a verified state of the primary of which only the pages are at hand that differ from what is here: one transaction, as above. */
  async installRewind(rewind: { position: Position; sums: PageSums; history: EpochHistory; keepLogTo: number; copy(pgno: number, offset: number): void }): Promise<void> {
    await this.turn.run(async () => {
      const { database } = this;
      database.beginInstall(rewind.position, database.pageSize, rewind.history, rewind.keepLogTo);
      await this.#appendDiffering(rewind.sums, false, rewind.copy);
      database.adoptSnapshot(rewind.position, database.pageSize, rewind.sums);
    });
  }

  /** Appends the pages that differ from what is here as one transaction. */
  async #appendDiffering(sums: PageSums, whole: boolean, copy: (pgno: number, offset: number) => void): Promise<void> {
    const { database } = this;
    const numbers: number[] = [];
    for (const pgno of database.allPages(sums.pageCount, this.#replica!.pageSize)) if (whole || sums.get(pgno) !== database.sums.get(pgno)) numbers.push(pgno);
    await pausing(this.#replica!.appendSteps({ count: numbers.length, pgno: (index) => numbers[index]!, copy: (index, offset) => copy(numbers[index]!, offset) }, sums.pageCount));
  }

  /** The whole database leaves this node: the primary's history does not have it. */
  async leave(): Promise<void> {
    await this.turn.run(() => this.#remove());
  }

  /** The checksums of what readers see now, page by page. */
  async scan(): Promise<PageSums> {
    const replica = this.#replica!;
    const sums = new Sums();
    let done = 0;
    for (const pgno of this.database.allPages(replica.pageCount, replica.pageSize)) {
      replica.readPage(pgno, 0);
      sums.set(pgno, pageChecksumAt(pgno, 0, replica.pageSize));
      if (++done % 512 === 0) await nextTick();
    }
    sums.resize(replica.pageCount);
    return sums;
  }

  /** After distrust: reads everything. True when the content is what a known position says, or the log leads there from it; else a snapshot is needed. */
  async resolveDistrust(): Promise<boolean> {
    return this.turn.run(async () => {
      const { database } = this;
      if (database.distrust === undefined) return true;
      if (this.#replica === undefined) return false;
      let sums = await this.scan();
      const missing = database.pendingInstall === undefined && sums.checksum !== database.position.checksum ? await this.#entriesAfter(sums.checksum) : undefined;
      if (missing !== undefined && this.#replica.pageSize === database.pageSize) {
        for (const { min } of missing) await this.#applyStored(min);
        sums = await this.scan();
      }
      const match = [database.position, database.pendingInstall].find((position) => position !== undefined && position.checksum === sums.checksum);
      if (match === undefined) return false;
      if (match === database.pendingInstall) database.adoptSnapshot(match, this.#replica.pageSize, sums);
      else database.adoptScan(sums, this.#replica.pageSize, match);
      return true;
    });
  }

  /** What of the log leads from a state to the position; undefined when that state is not one that the newest entries know. */
  async #entriesAfter(checksum: bigint): Promise<readonly LogEntry[] | undefined> {
    const { log, position } = this.database;
    if (log.newest?.max !== position.txid) return undefined;
    try {
      for (let index = log.entries.length - 1; index >= Math.max(0, log.entries.length - ENTRIES_LOOKED_AT); index--) {
        const entry = log.entries[index]!;
        if (log.decode(entry).header.preApplyChecksum === checksum) return log.entries.slice(index);
        if (log.entries[index - 1]?.max !== entry.min - 1) return undefined;
        await nextTick();
      }
      return undefined;
    } catch {
      return undefined; // One of them is damaged: it goes aside when it is asked for.
    }
  }

  /** Somebody has written into the `-wal`: it is to be begun anew as soon as no reader is in the way. */
  #walSuspect = false;

  /** Whether `findDamage` has something to look at. */
  get needsLook(): boolean {
    return this.#replica !== undefined && (this.#walSuspect || this.#replica.wasTouched());
  }

  /** Pages whose content is not what their checksum says: somebody wrote past SQLite's locks, or the disk lost something. */
  async findDamage(): Promise<number[]> {
    return this.turn.run(async () => {
      if (this.#replica === undefined || this.database.distrust !== undefined) return [];
      if (!this.#replica.indexIsIntact()) {
        this.damaged++;
        this.healed++;
        this.#replica.repairIndex();
      }
      if (!this.#walSuspect && this.#replica.walWasTouched()) {
        this.#walSuspect = true;
        this.damaged++;
      }
      const sums = await this.scan();
      const damaged: number[] = [];
      for (const pgno of this.database.allPages(this.database.sums.pageCount, this.database.pageSize)) if (sums.get(pgno) !== this.database.sums.get(pgno)) damaged.push(pgno);
      this.damaged += damaged.length;
      if (damaged.length > 0) return damaged;
      this.#replica.acceptTouch();
      // What readers see is right; what a recovery would read is right only in a WAL of our own making.
      if (this.#walSuspect && (await this.#replica.renewWal())) {
        this.#walSuspect = false;
        this.healed++;
      }
      return damaged;
    });
  }

  /** Puts right pages back as frames of a transaction that changes nothing. Pages that do not match their checksum are left out; returns how many were put back. */
  async heal(pages: ReadonlyMap<number, Buffer>): Promise<number> {
    return this.turn.run(async () => {
      const { database } = this;
      const good: [number, Buffer][] = [];
      for (const [pgno, page] of pages) {
        ARENA.set(page, 0);
        if (page.length === database.pageSize && pageChecksumAt(pgno, 0, page.length) === database.sums.get(pgno)) good.push([pgno, page]);
      }
      if (good.length > 0) await pausing(this.#replica!.appendSteps({ count: good.length, pgno: (index) => good[index]![0], copy: (index, offset) => void ARENA.set(good[index]![1], offset) }, database.sums.pageCount));
      this.healed += good.length;
      this.#replica!.acceptTouch();
      return good.length;
    });
  }

  close(): void {
    this.#replica?.close();
    this.#replica = undefined;
  }
}

/** The pages of one transaction on their way from a decoder to the WAL: in memory, or in a file when there are many. */
class PageSpool implements PageSource {
  readonly #pageSize: number;
  readonly #path: string;
  readonly #numbers: number[] = [];
  #chunks: Buffer[] = [];
  #fd: number | undefined;

  constructor(folder: string, pageSize: number) {
    this.#pageSize = pageSize;
    this.#path = `${folder}/apply.spool`;
  }

  get count(): number {
    return this.#numbers.length;
  }

  add(pgno: number, page: Buffer): void {
    const index = this.#numbers.push(pgno) - 1;
    if (this.#fd === undefined && this.#numbers.length * this.#pageSize <= PAGES_IN_MEMORY_BYTES) {
      this.#chunks.push(Buffer.from(page));
      return;
    }
    if (this.#fd === undefined) {
      this.#fd = files.open("apply:spool", this.#path, "w+", 0o600);
      this.#chunks.forEach((chunk, at) => files.write("apply:spool", this.#fd!, chunk, 0, this.#pageSize, at * this.#pageSize));
      this.#chunks = [];
    }
    files.write("apply:spool", this.#fd, page, 0, this.#pageSize, index * this.#pageSize);
  }

  pgno(index: number): number {
    return this.#numbers[index]!;
  }

  copy(index: number, offset: number): void {
    if (this.#fd === undefined) ARENA.set(this.#chunks[index]!, offset);
    else files.read("apply:spool", this.#fd, ARENA, offset, this.#pageSize, index * this.#pageSize);
  }

  close(): void {
    if (this.#fd === undefined) return;
    fs.closeSync(this.#fd);
    files.unlink("apply:spool", this.#path);
    this.#fd = undefined;
  }
}

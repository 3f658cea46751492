/**
 * The states of a database that its transaction log leads through, one after the other, as files that SQLite reads.
 *
 * Always holds: the log itself is only read. The node soon merges what it has captured; so the recorder gives each file of the log a second name from
 * the start, and the walk takes the narrowest entry there is for each TXID. Each state is a whole database file, out of WAL mode, so that
 * reading it makes no other files.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { decodeLtx } from "../../node/ltx/decoder.ts";
import { parseLtxFileName } from "../../node/ltx/file-name.ts";
import { readSegment, SEGMENT_SUFFIX } from "../../node/store/log-segment.ts";
import { databasePaths } from "../../node/store/names.ts";

const LOOK_MS = 20;

interface Kept {
  readonly min: number;
  readonly max: number;
  readonly path: string;
  readonly at: number;
  readonly size: number;
}

export class LogRecorder {
  readonly #log: string;
  readonly #folder: string;
  readonly #timer: NodeJS.Timeout;
  readonly #seen = new Set<string>();

  /** Keeps what the log of database `name` in the data folder holds from now on in `folder`, on the same file system. */
  constructor(data: string, name: string, folder: string) {
    this.#log = databasePaths(data, name).log;
    this.#folder = folder;
    fs.mkdirSync(folder, { recursive: true });
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    this.#look();
  }

  #look(): void {
    if (!fs.existsSync(this.#log)) return;
    for (const name of fs.readdirSync(this.#log)) {
      if (this.#seen.has(name) || !(name.endsWith(SEGMENT_SUFFIX) || parseLtxFileName(name) !== undefined)) continue;
      try {
        fs.linkSync(join(this.#log, name), join(this.#folder, name));
        this.#seen.add(name);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error; // Merged this very moment.
      }
    }
  }

  #entries(): Kept[] {
    const entries: Kept[] = [];
    for (const name of this.#seen) {
      const path = join(this.#folder, name);
      const range = parseLtxFileName(name);
      if (range !== undefined) {
        entries.push({ min: range.minTxid, max: range.maxTxid, path, at: 0, size: fs.statSync(path).size });
        continue;
      }
      const fd = fs.openSync(path, "r");
      for (const record of readSegment(fd).records) entries.push({ ...record, path });
      fs.closeSync(fd);
    }
    return entries.sort((a, b) => a.max - b.max || b.min - a.min);
  }

  /** Ends the recording and calls back with the last TXID of each entry; the file at `path` holds the database as it was then. Returns how many. */
  walk(path: string, onState: (txid: number) => void): number {
    clearInterval(this.#timer);
    this.#look();
    const fd = fs.openSync(path, "w+");
    let reached = 0;
    let states = 0;
    let size = 0;
    try {
      for (const entry of this.#entries()) {
        // A merged entry leads to its end from any state within it.
        if (entry.max <= reached || entry.min > reached + 1) continue;
        const content = Buffer.alloc(entry.size);
        const file = fs.openSync(entry.path, "r");
        fs.readSync(file, content, 0, entry.size, entry.at);
        fs.closeSync(file);
        const pages: [number, Buffer][] = [];
        const { header } = decodeLtx(content, (pgno, page) => void pages.push([pgno, Buffer.from(page)]));
        if (header.pageSize !== size) fs.ftruncateSync(fd, 0);
        size = header.pageSize;
        for (const [pgno, page] of pages) {
          if (pgno === 1) page.fill(1, 18, 20);
          fs.writeSync(fd, page, 0, page.length, (pgno - 1) * size);
        }
        fs.ftruncateSync(fd, header.commit * size);
        reached = entry.max;
        states++;
        onState(reached);
      }
    } finally {
      fs.closeSync(fd);
    }
    return states;
  }

  close(): void {
    clearInterval(this.#timer);
  }
}

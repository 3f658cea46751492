/**
 * What clients asked and were answered, one record a request: the evidence that the checker judges.
 *
 * Always holds: a record is written when its request has ended, however it ended; times are those of one clock, this process's. A write whose
 * answer is not a success is `unknown`: it may or may not have been executed, and both are allowed.
 */
import * as fs from "node:fs";

interface Asked {
  /** The session: one client with one cookie jar. */
  readonly session: string;
  /** The database that it writes and reads, always the same one. */
  readonly db: string;
  /** The node whose proxy was asked. */
  readonly through: string;
  /** ms since the beginning of the run. */
  readonly begin: number;
  readonly end: number;
}

export interface WriteRecord extends Asked {
  readonly op: "write";
  /** The entry: numbered by its session, never sent twice. */
  readonly n: number;
  /** `twice`: the entry was there already, although the client had sent it only once. */
  readonly outcome: "ok" | "unknown" | "twice";
  /** The node whose application committed it, and the database's position before and after, as that application read them. */
  readonly node?: string;
  readonly before?: string;
  readonly after?: string;
  /** Whether the answer set the cookie. Without it (its engine was just being restarted) the proxy promises nothing about later reads. */
  readonly marked?: boolean;
  readonly note?: string;
}

export interface ReadRecord extends Asked {
  readonly op: "read";
  readonly outcome: "ok" | "failed";
  readonly node?: string;
  /** For each session that was asked for, the entries that were seen. */
  readonly seen?: Readonly<Record<string, readonly number[]>>;
  readonly note?: string;
}

export type HistoryRecord = WriteRecord | ReadRecord;

/** What there is of a database at the end, when everything has been mended and is at rest. */
export interface FinalState {
  /** For each node: its position and a digest of the whole database as SQLite reads it. */
  readonly nodes: readonly { readonly name: string; readonly position: string; readonly digest: string }[];
  /** All entries, by session; the same on each node if the digests are. */
  readonly entries: Readonly<Record<string, readonly number[]>>;
  /** Entries that are listed in some node's `diverged/`, by session. */
  readonly diverged: Readonly<Record<string, readonly number[]>>;
}

/** Takes records and appends each to a file as a line of JSON, so that a failure leaves them. */
export class History {
  readonly records: HistoryRecord[] = [];
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  add(record: HistoryRecord): void {
    this.records.push(record);
    fs.appendFileSync(this.path, `${JSON.stringify(record)}\n`);
  }
}

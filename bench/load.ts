/**
 * A program that uses SQLite as an application does, and counts: the load of the bench. Run as a process of its own by loader.ts.
 *
 * Always holds: it knows nothing of Sluice. Orders come over the IPC channel; between orders it holds its database open and idles in the
 * kernel. Times are CLOCK_MONOTONIC, which all processes of a machine share.
 */
import { randomBytes } from "node:crypto";
import Database from "better-sqlite3";
import { Random } from "../test/support/random.ts";
import type { LoadOrder, LoadReport, LoadSettings } from "./loader.ts";

const ROW_BYTES = 100;
/** Bodies are windows into random bytes, so that no compression flatters the log. */
const POOL = randomBytes(1 << 16);
const WRITE_SHARE = 0.3;

const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6;
/** Blocks this thread; finer than a timer. */
const PAUSE = new Int32Array(new SharedArrayBuffer(4));
const sleepUntil = (atMs: number): void => {
  for (let left = atMs - nowMs(); left > 0; left = atMs - nowMs()) Atomics.wait(PAUSE, 0, 0, left);
};

let db: Database.Database | undefined;
let settings: LoadSettings;
let random: Random;
let bodies = 0;

const body = (): Buffer => {
  bodies = (bodies + 37) % (POOL.length - ROW_BYTES);
  return POOL.subarray(bodies, bodies + ROW_BYTES);
};

function open(): Database.Database {
  const opened = new Database(settings.path, { timeout: 120_000 });
  if (settings.journalMode !== undefined) opened.pragma(`journal_mode = ${settings.journalMode}`);
  opened.pragma(`synchronous = ${settings.synchronous ?? "normal"}`);
  if (settings.autoCheckpoint !== undefined) opened.pragma(`wal_autocheckpoint = ${settings.autoCheckpoint}`);
  return opened;
}

/** Prepares the database once, and answers one step of the work. The number that a step returns is what counts. */
function stepOf(on: Database.Database): () => number {
  const insert = on.prepare("INSERT INTO t(body) VALUES (?)");
  switch (settings.work) {
    case "insert":
      return () => (insert.run(body()), 1);
    case "insertTen": {
      const ten = on.transaction(() => {
        for (let i = 0; i < 10; i++) insert.run(body());
      });
      return () => (ten.immediate(), 1);
    }
    case "mixed": {
      const select = on.prepare("SELECT body FROM t WHERE id = ?");
      const count = (on.prepare("SELECT max(id) AS n FROM t").get() as { n: number }).n;
      return () => {
        if (random.next() < WRITE_SHARE) insert.run(body());
        else select.get(1 + random.below(count));
        return 1;
      };
    }
    case "read": {
      const select = on.prepare("SELECT body FROM t WHERE id = ?");
      const count = settings.rows!;
      return () => {
        if (select.get(1 + random.below(count)) === undefined) throw new Error("a row is missing");
        return 1;
      };
    }
  }
}

function run(order: Extract<LoadOrder, { type: "run" }>): LoadReport {
  // Point reads are asked for right after opening: each run has a connection of its own.
  if (settings.work === "read") {
    db?.close();
    db = open();
  }
  const step = stepOf(db!);
  sleepUntil(order.atMs);
  const startedAt = nowMs();
  const end = startedAt + (order.ms ?? Number.POSITIVE_INFINITY);
  const limit = order.count ?? Number.POSITIVE_INFINITY;
  let done = 0;
  let at = startedAt;
  while (at < end && done < limit) {
    for (let i = 0; i < 4 && done < limit; i++) done += step();
    at = nowMs();
  }
  if (settings.work === "read") {
    db!.close();
    db = undefined;
  }
  return { type: "done", done, elapsedMs: at - startedAt };
}

/** Commits at a steady pace; answers when each row was committed. */
function pace(order: Extract<LoadOrder, { type: "pace" }>): LoadReport {
  const insert = db!.prepare("INSERT INTO t(body) VALUES (?)");
  const times: [number, number][] = [];
  for (let i = 0; i * order.everyMs < order.ms; i++) {
    sleepUntil(order.atMs + i * order.everyMs);
    const id = Number(insert.run(body()).lastInsertRowid);
    times.push([id, nowMs()]);
  }
  return { type: "times", times };
}

/** Looks without pause until `ms` have passed; answers when each row was first seen. */
function observe(order: Extract<LoadOrder, { type: "observe" }>): LoadReport {
  const newest = db!.prepare("SELECT max(id) AS n FROM t").pluck();
  const times: [number, number][] = [];
  let seen = Number(newest.get() ?? 0);
  process.send!({ type: "done", done: seen, elapsedMs: 0 } satisfies LoadReport);
  for (let at = nowMs(); at < order.untilMs; at = nowMs()) {
    const id = Number(newest.get() ?? 0);
    if (id === seen) {
      if (order.pauseMs > 0) Atomics.wait(PAUSE, 0, 0, order.pauseMs);
      continue;
    }
    const when = nowMs();
    for (let each = seen + 1; each <= id; each++) times.push([each, when]);
    seen = id;
  }
  return { type: "times", times };
}

process.on("message", (order: LoadOrder) => {
  switch (order.type) {
    case "open":
      settings = order.settings;
      random = new Random(order.settings.seed);
      db = open();
      if (settings.work !== "read") db.exec("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body BLOB)");
      process.send!({ type: "done", done: 0, elapsedMs: 0 } satisfies LoadReport);
      return;
    case "run":
      return void process.send!(run(order));
    case "pace":
      return void process.send!(pace(order));
    case "observe":
      return void process.send!(observe(order));
    case "close":
      db?.close();
      process.disconnect();
  }
});

/**
 * The lease in a file of one machine: the contract, and what can happen to a file.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import Database from "better-sqlite3";
import type { LeaseConfig } from "../../node/core/config.ts";
import { LocalStore } from "../../node/lease/local.ts";
import { bootId, bootTimeMs } from "../../node/native/libc.ts";
import { isAppError } from "../../proto/errors.ts";
import { Program } from "../support/programs.ts";
import { Random, seedOfRun } from "../support/random.ts";
import { contract, type RawAccess } from "./contract.ts";
import { memberOf } from "./members.ts";

const options = { ttlMs: 60_000, minEpoch: 1, deadlineMs: 20_000 };

/** A folder with a lease file in it, and a client; all are gone afterwards. */
async function withFile(body: (path: string, open: () => LocalStore) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "lease-"));
  const stores: LocalStore[] = [];
  const path = join(folder, "l.db");
  try {
    await body(path, () => {
      const store = new LocalStore(path);
      stores.push(store);
      return store;
    });
  } finally {
    for (const store of stores) await store.close();
    rmSync(folder, { recursive: true });
  }
}

function rawAccess(path: string): RawAccess {
  const within = <T>(work: (db: Database.Database) => T): T => {
    const db = new Database(path, { timeout: 10_000 });
    try {
      return work(db);
    } finally {
      db.close();
    }
  };
  return {
    async write(name, content) {
      within((db) => {
        if (name === "lease") db.prepare("INSERT OR REPLACE INTO lease VALUES (1, CAST(? AS TEXT), ?, 60000, ?)").run(content, bootId(), bootTimeMs() + 50_000);
        else if (name === "member") db.prepare("INSERT OR REPLACE INTO member VALUES ('raw', CAST(? AS TEXT), ?, ?)").run(content, bootId(), bootTimeMs() + 50_000);
        else db.prepare("INSERT OR REPLACE INTO setting VALUES (?, CAST(? AS TEXT))").run(name, content);
      });
    },
    async read(name) {
      const [column, table, where] = name === "lease" ? ["entry", "lease", "1"] : name === "member" ? ["entry", "member", "node_id = 'raw'"] : ["value", "setting", `name = '${name}'`];
      return within((db) => (db.prepare(`SELECT CAST(${column} AS BLOB) AS content FROM ${table} WHERE ${where}`).get() as { content: Buffer | null } | undefined)?.content ?? undefined);
    },
    async remove(name) {
      within((db) => db.exec(name === "lease" ? "DELETE FROM lease" : name === "member" ? "DELETE FROM member WHERE node_id = 'raw'" : `DELETE FROM setting WHERE name = '${name}'`));
    },
    pathOf: () => path,
  };
}

contract({
  name: "local", ttlMs: 1_000,
  cannot: { slow: "there is no connection that could be slow: the tests below lock the file, and make it slow, instead" },
  async start() {
    const folder = mkdtempSync(join(tmpdir(), "lease-"));
    const place = join(folder, "shared");
    mkdirSync(place);
    const path = join(place, "l.db");
    const settings: LeaseConfig = { type: "local", local: { path }, ttlMs: 10_000, candidate: true, promote: "auto" };
    return {
      settings, raw: rawAccess(path),
      open: async () => new LocalStore(path),
      kill: async () => renameSync(place, `${place}.away`),
      restart: async () => renameSync(`${place}.away`, place),
      wipe: async () => ["", "-wal", "-shm"].forEach((suffix) => rmSync(path + suffix, { force: true })),
      close: async () => rmSync(folder, { recursive: true }),
    };
  },
});

test("local: while another process keeps the file locked, calls end at their deadlines, the event loop goes on, and nothing is acquired later", async () => {
  await withFile(async (path, open) => {
    const store = open();
    const held = (await store.acquire(memberOf(1), options))!;
    const program = new Program();
    try {
      await program.run(({ Database, kept }, path) => {
        kept["db"] = new Database(path);
        kept["db"].exec("BEGIN IMMEDIATE");
      }, path);
      let turns = 0;
      const ticking = setInterval(() => turns++, 1);
      await assert.rejects(store.renew(held, { ttlMs: 60_000, deadlineMs: 300 }), (error) => isAppError(error, "LEASE_STORE_UNAVAILABLE") && /another process held its lock/.test(error.message));
      clearInterval(ticking);
      assert.ok(turns > 10, `the event loop went round ${turns} times`);
      assert.equal((await store.read(1_000))?.token, held.token, "reading needs no lock");
      await assert.rejects(store.release(held, 200), (error) => isAppError(error, "LEASE_STORE_UNAVAILABLE"));
      await assert.rejects(store.acquire(memberOf(2), { ...options, deadlineMs: 200 }), (error) => isAppError(error, "LEASE_STORE_UNAVAILABLE"));
      // A process that dies with the lock lets go of it.
      await program.kill();
      assert.equal(await store.renew(held, { ttlMs: 60_000, deadlineMs: 20_000 }), true);
      await store.release(held, 20_000);
      await sleep(300);
      assert.equal(await store.read(1_000), undefined);
    } finally {
      await program.end();
    }
  });
});

test("local: an acquisition is answered in time, or it does not stand", async () => {
  const seed = seedOfRun();
  console.log(`SEED=${seed}`);
  const random = new Random(seed);
  await withFile(async (_, open) => {
    const [store, other] = [open(), open()];
    await other.read(20_000);
    let [late, inTime] = [0, 0];
    for (let round = 0; round < 400 && (late < 20 || inTime < 20); round++) {
      // From far too short to enough, on a logarithmic scale.
      const held = await store.acquire(memberOf(1), { ...options, deadlineMs: 0.02 * 10 ** (random.next() * 4) }).catch((error: unknown) => void assert.ok(isAppError(error, "LEASE_STORE_UNAVAILABLE"), String(error)));
      if (held === undefined) late++;
      else inTime++;
      if (held !== undefined) await store.release(held, 20_000);
      let next;
      for (let tries = 0; next === undefined && tries < 500; tries++) next = (await other.acquire(memberOf(2), options)) ?? void (await sleep(5));
      assert.ok(next !== undefined, "the lease is free again, long before its TTL");
      await other.release(next, 20_000);
    }
    assert.ok(late > 0 && inTime > 0, `${late} late, ${inTime} in time`);
  });
});

test("local: what another boot of the machine wrote has expired, and its epoch still counts", async () => {
  await withFile(async (path, open) => {
    const store = open();
    const held = (await store.acquire(memberOf(1), options))!;
    await store.register(memberOf(1), { memberTtlMs: 60_000, deadlineMs: 20_000 });
    const db = new Database(path, { timeout: 10_000 });
    db.exec("UPDATE lease SET boot = '6d2ad6b9-0000-4000-8000-000000000000', expires_at = 1e12; UPDATE member SET boot = 'x'");
    db.close();
    assert.equal(await store.read(1_000), undefined);
    assert.deepEqual(await store.members(1_000), []);
    assert.equal(await store.renew(held, { ttlMs: 60_000, deadlineMs: 20_000 }), false);
    assert.equal((await store.acquire(memberOf(2), options))?.epoch, held.epoch + 1);
  });
});

test("local: a lease that would outlive its TTL by far is refused, and stays", async () => {
  await withFile(async (path, open) => {
    const store = open();
    await store.acquire(memberOf(1), options);
    const db = new Database(path, { timeout: 10_000 });
    for (const [ttl, expires] of [[10_000, 1e12], [-1, 0], [1e300, 1e308]] as const) {
      db.prepare("UPDATE lease SET ttl_ms = ?, expires_at = ?").run(ttl, expires);
      await assert.rejects(store.acquire(memberOf(2), options), (error) => isAppError(error, "LEASE_STORE_CORRUPT") && error.message.includes(path), `${ttl} ${expires}`);
    }
    db.close();
  });
});

test("local: a file that is no lease file is refused by name and left as it is", async () => {
  const others: readonly (readonly [string, (path: string) => void, RegExp])[] = [
    ["random bytes", (path) => writeFileSync(path, randomBytes(20_000)), /damaged, or no SQLite database/],
    ["a text", (path) => writeFileSync(path, "hello\n".repeat(1_000)), /damaged, or no SQLite database/],
    ["another program's database", (path) => new Database(path).exec("CREATE TABLE users (name)").close(), /the database of another program/],
    ["another program's id", (path) => new Database(path).exec("PRAGMA application_id = 7; CREATE TABLE lease (entry)").close(), /the database of another program/],
    ["a later release", (path) => new Database(path).exec(`PRAGMA application_id = ${0x536c754c}; PRAGMA user_version = 2; CREATE TABLE lease (entry)`).close(), /schema has version 2/],
  ];
  for (const [what, make, reason] of others) {
    await withFile(async (path, open) => {
      make(path);
      const before = readFileSync(path);
      const store = open();
      for (const call of [() => store.read(1_000), () => store.acquire(memberOf(1), options), () => store.clusterId("a".repeat(16), 1_000)]) {
        await assert.rejects(call(), (error) => isAppError(error, "LEASE_STORE_CORRUPT") && reason.test(error.message) && error.message.includes(path) && /move it away/.test(error.message), what);
      }
      assert.deepEqual(readFileSync(path), before, what);
    });
  }
});

test("local: a folder that does not exist is named", async () => {
  const store = new LocalStore("/nonexistent/l.db");
  await assert.rejects(store.read(500), (error) => isAppError(error, "LEASE_STORE_UNAVAILABLE") && error.message.includes("/nonexistent"));
  await store.close();
});

test("local: kill -9 in the middle of its work leaves a lease that others can use, and no epoch twice", async () => {
  await withFile(async (path, open) => {
    const store = open();
    let last = 0;
    for (let round = 0; round < 5; round++) {
      const program = new Program();
      await program.run(async ({ kept, say }, url, path, self) => {
        const { LocalStore } = (await import(url)) as typeof import("../../node/lease/local.ts");
        const store = new LocalStore(path);
        void kept;
        void (async () => {
          for (;;) {
            const held = await store.acquire(self, { ttlMs: 400, minEpoch: 1, deadlineMs: 20_000 });
            if (held === undefined) continue;
            say(String(held.epoch));
            await store.renew(held, { ttlMs: 400, deadlineMs: 20_000 });
            await store.release(held, 20_000);
          }
        })();
      }, new URL("../../node/lease/local.ts", import.meta.url).href, path, memberOf(1));
      while (program.lines.length < 5) await sleep(5);
      await program.kill();
      const epochs = program.lines.map(Number);
      let next;
      while (next === undefined) next = (await store.acquire(memberOf(2), options)) ?? void (await sleep(10));
      for (const epoch of [...epochs, next.epoch]) {
        assert.ok(epoch > last, `${epoch} after ${last}`);
        last = epoch;
      }
      await store.release(next, 20_000);
      await program.end();
    }
  });
});

/**
 * What every lease store keeps, as tests that run against each of them.
 *
 * Always holds: a store that cannot do something says so in its `cannot` with the reason, which is printed in the place of the test. The
 * stores are real, several clients of one store are what several nodes are, and racing nodes are processes.
 *
 * | | static | local | etcd | consul |
 * |---|---|---|---|---|
 * | acquire, renew, release, watch | yes, within one process | yes | yes | yes |
 * | race, expiry, transfer, epochs over restarts, members, cluster id, electorate, outage, garbage, lost memory | no: nothing is stored | yes | yes | yes |
 * | answers after the deadline | no: nothing is asked | by a locked and a slow file | by a delaying relay | by a delaying relay |
 */
import assert from "node:assert/strict";
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import type { LeaseConfig } from "../../node/core/config.ts";
import type { Electorate, Held, LeaseStore, Member } from "../../node/lease/lease.ts";
import { isAppError } from "../../proto/errors.ts";
import { memberOf } from "./members.ts";

/** One empty store. */
export interface Place {
  /** For other processes. */
  readonly settings: LeaseConfig;
  /** A client of it, as each node has one. */
  open(): Promise<LeaseStore>;
  /** A client whose every exchange takes this long while `slow` holds; the store itself is as fast as ever. */
  openSlow?(): Promise<{ readonly store: LeaseStore; setDelay(ms: number): Promise<void> }>;
  /** Takes the store away the hard way; and back, with what it had kept. */
  kill?(): Promise<void>;
  restart?(): Promise<void>;
  /** Takes away all that the store knows, as a restore from nothing does. */
  wipe?(): Promise<void>;
  readonly raw?: RawAccess;
  close(): Promise<void>;
}

export type RawName = "lease" | "epoch" | "cluster-id" | "electorate" | "member";

/** Past the store: what another program may do to it. */
export interface RawAccess {
  write(name: RawName, content: Buffer): Promise<void>;
  read(name: RawName): Promise<Buffer | undefined>;
  remove(name: RawName): Promise<void>;
  /** How an operator finds it: the error must name it. */
  pathOf(name: RawName): string;
}

export type Ability = "race" | "expire" | "transfer" | "members" | "clusterId" | "outage" | "slow" | "garbage" | "forget" | "epochs";

export interface Subject {
  readonly name: string;
  /** The shortest TTL that the store keeps. */
  readonly ttlMs: number;
  readonly cannot?: Partial<Record<Ability, string>>;
  /** Why nothing can be tested, or false. */
  readonly skip?: string | false;
  start(): Promise<Place>;
}

/** Generous: a machine that is busy must not make a test fail. */
const LONG_MS = 30_000;
const TTL_MS = 60_000;
/** Within which a store is called unreachable. */
const SHORT_MS = 1_500;

async function until<T>(what: string, ask: () => Promise<T | undefined | false>, limitMs = 120_000): Promise<T> {
  for (const end = performance.now() + limitMs; performance.now() < end; await sleep(20)) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
  }
  assert.fail(`${what}: not within ${limitMs} ms`);
}

const isUnavailable = (error: unknown): boolean => isAppError(error, "LEASE_STORE_UNAVAILABLE");

/** So many facts at once: most of them wait for leases to end. */
const CONCURRENCY = 3;

export function contract(subject: Subject): void {
  describe("the contract", { concurrency: CONCURRENCY }, () => facts(subject));
}

function facts(subject: Subject): void {
  const [a, b, c] = [memberOf(1), memberOf(2), memberOf(3)];
  const acquireOptions = { ttlMs: TTL_MS, minEpoch: 1, deadlineMs: LONG_MS };

  /** A test with a store of its own, and as many clients as it asks for. */
  const fact = (text: string, needs: Ability | undefined, body: (place: Place, open: () => Promise<LeaseStore>) => Promise<void>): void => {
    const reason = needs === undefined ? undefined : subject.cannot?.[needs];
    if (reason !== undefined) return void console.log(`Not for ${subject.name}: ${text} (${reason})`);
    test(`${subject.name}: ${text}`, { skip: subject.skip ?? false }, async () => {
      const place = await subject.start();
      const clients: LeaseStore[] = [];
      try {
        await body(place, async () => {
          const client = await place.open();
          clients.push(client);
          return client;
        });
      } finally {
        for (const client of clients) await client.close();
        await place.close();
      }
    });
  };

  const acquired = async (store: LeaseStore, self = a, more: Partial<typeof acquireOptions> = {}): Promise<Held> => {
    const held = await store.acquire(self, { ...acquireOptions, ...more });
    assert.ok(held !== undefined, `${self.name} acquires`);
    assert.deepEqual(held.holder, self);
    assert.ok(held.token.includes(self.nodeId) && held.epoch >= 1);
    return held;
  };
  const holderIs = async (store: LeaseStore, held: Held | undefined): Promise<void> => {
    const read = await store.read(LONG_MS);
    assert.deepEqual(read && { ...read, remainingMs: 0 }, held && { ...held, remainingMs: 0 });
  };

  fact("nobody holds it at first; who acquires it holds it, and everybody reads so", undefined, async (_, open) => {
    const one = await open();
    assert.equal(await one.read(LONG_MS), undefined);
    const held = await acquired(one);
    assert.equal(held.epoch, 1);
    await holderIs(one, held);
    assert.equal(await one.acquire(b, acquireOptions), undefined);
    assert.equal(await one.acquire(a, acquireOptions), undefined, "nor does the holder acquire it a second time");
    if (subject.cannot?.race === undefined) {
      const other = await open();
      await holderIs(other, held);
      assert.equal(await other.acquire(b, acquireOptions), undefined);
    }
  });

  fact("of eight racing processes one acquires, in each of 20 rounds, with a greater epoch each time", "race", async (place) => {
    const racers: ChildProcess[] = Array.from({ length: 8 }, (_, index) => fork(new URL("./racer.ts", import.meta.url), [JSON.stringify(place.settings), String(index + 1)], { execArgv: ["--no-warnings"] }));
    try {
      const answer = async (racer: ChildProcess): Promise<{ held?: Held; error?: string }> => (await once(racer, "message"))[0] as { held?: Held; error?: string };
      const ask = (racer: ChildProcess, what: string): Promise<{ held?: Held; error?: string }> => {
        const answered = answer(racer);
        racer.send(what);
        return answered;
      };
      await Promise.all(racers.map(answer));
      let last = 0;
      for (let round = 1; round <= 20; round++) {
        const answers = await Promise.all(racers.map((racer) => ask(racer, "acquire")));
        assert.deepEqual(answers.flatMap(({ error }) => error ?? []), []);
        const winners = answers.flatMap(({ held }, index) => (held === undefined ? [] : [{ held, index }]));
        assert.equal(winners.length, 1, `round ${round}: ${JSON.stringify(winners)}`);
        const { held, index } = winners[0]!;
        assert.equal(held.holder.nodeId, memberOf(index + 1).nodeId);
        assert.ok(held.epoch > last, `round ${round}: epoch ${held.epoch} after ${last}`);
        last = held.epoch;
        assert.equal((await ask(racers[index]!, "release")).error, undefined);
      }
    } finally {
      for (const racer of racers) racer.kill("SIGKILL");
    }
  });

  fact("a renewal keeps it past its TTL; also by a restarted process that has only read it", undefined, async (_, open) => {
    const canExpire = subject.cannot?.expire === undefined;
    const one = await open();
    // Where this machine lets a whole TTL pass between two renewals, nothing is shown, and it begins anew.
    await until("a lease to be renewed in time", async () => {
      const held = await acquired(one, a, { ttlMs: subject.ttlMs });
      const end = performance.now() + (canExpire ? 2.5 * subject.ttlMs : 0);
      let [renewer, mine, sentMs] = [one, held, performance.now()];
      const isLate = (): boolean => canExpire && performance.now() - sentMs >= subject.ttlMs;
      do {
        const askedMs = performance.now();
        const renewed = await renewer.renew(mine, { ttlMs: subject.ttlMs, deadlineMs: LONG_MS });
        if (isLate()) break;
        assert.equal(renewed, true);
        sentMs = askedMs;
        const other = await one.acquire(b, acquireOptions);
        if (isLate()) {
          if (other !== undefined) await one.release(other, LONG_MS);
          break;
        }
        assert.equal(other, undefined);
        if (canExpire) {
          renewer = await open();
          const read = await renewer.read(LONG_MS);
          if (isLate()) break;
          assert.equal(read?.token, held.token);
          mine = read!;
        }
        await sleep(subject.ttlMs / 5);
      } while (performance.now() < end);
      const isShown = !isLate() && performance.now() >= end;
      if (isShown) await holderIs(one, held);
      await one.release(held, LONG_MS);
      return isShown;
    });
  });

  fact("a longer TTL in a renewal holds from then on", "expire", async (_, open) => {
    const [one, other] = [await open(), await open()];
    const held = await until("a renewal in time", async () => {
      const held = await acquired(one, a, { ttlMs: subject.ttlMs });
      return await one.renew(held, { ttlMs: TTL_MS, deadlineMs: LONG_MS }) ? held : undefined;
    });
    for (const end = performance.now() + 3 * subject.ttlMs; performance.now() < end; await sleep(subject.ttlMs / 5)) assert.equal(await other.acquire(b, acquireOptions), undefined);
    assert.equal(await one.renew(held, { ttlMs: subject.ttlMs, deadlineMs: LONG_MS }), true);
  });

  fact("without renewal it expires, not before its TTL; then its former holder cannot renew, release or hand it over", "expire", async (_, open) => {
    const [one, other] = [await open(), await open()];
    const sentAt = performance.now();
    const held = await acquired(one, a, { ttlMs: subject.ttlMs });
    const next = await until("the lease expires", () => other.acquire(b, acquireOptions));
    assert.ok(performance.now() - sentAt >= subject.ttlMs, `taken after ${performance.now() - sentAt} ms`);
    assert.ok(next.epoch > held.epoch);
    assert.equal(await one.renew(held, { ttlMs: TTL_MS, deadlineMs: LONG_MS }), false);
    assert.equal(await one.transfer(held, c.nodeId, { reserveMs: 1_000, deadlineMs: LONG_MS }), false);
    await one.release(held, LONG_MS);
    await holderIs(one, next);
  });

  fact("expired and not taken by anybody, it is not renewed either", "expire", async (_, open) => {
    const one = await open();
    const held = await acquired(one, a, { ttlMs: subject.ttlMs });
    await until("the lease expires", async () => (await one.read(LONG_MS)) === undefined);
    assert.equal(await one.renew(held, { ttlMs: TTL_MS, deadlineMs: LONG_MS }), false);
    assert.ok((await acquired(one)).epoch > held.epoch);
  });

  fact("after a release the next acquisition succeeds at once, and a late release takes nothing from its holder", "epochs", async (_, open) => {
    const [one, other] = [await open(), await open()];
    let last = 0;
    for (let round = 0; round < 3; round++) {
      const held = await acquired(one, a);
      assert.ok(held.epoch > last);
      await one.release(held, LONG_MS);
      assert.equal(await other.read(LONG_MS), undefined);
      assert.equal(await one.renew(held, { ttlMs: TTL_MS, deadlineMs: LONG_MS }), false);
      const next = await acquired(other, b);
      assert.ok(next.epoch > held.epoch);
      await one.release(held, LONG_MS);
      await holderIs(one, next);
      assert.equal(await other.renew(next, { ttlMs: TTL_MS, deadlineMs: LONG_MS }), true);
      await other.release(next, LONG_MS);
      last = next.epoch;
    }
  });

  fact("a handoff lets only the named node in, for the time of the reservation", "transfer", async (_, open) => {
    const [one, two, three] = [await open(), await open(), await open()];
    const held = await acquired(one, a);
    assert.equal(await one.transfer(held, b.nodeId, { reserveMs: LONG_MS, deadlineMs: LONG_MS }), true);
    assert.equal(await one.renew(held, { ttlMs: TTL_MS, deadlineMs: LONG_MS }), false);
    assert.equal(await one.transfer(held, c.nodeId, { reserveMs: LONG_MS, deadlineMs: LONG_MS }), false);
    await one.release(held, LONG_MS);
    for (const store of [one, two, three]) await holderIs(store, { ...held, reservedFor: b.nodeId });
    assert.equal(await three.acquire(c, acquireOptions), undefined);
    assert.equal(await one.acquire(a, acquireOptions), undefined);
    const next = await acquired(two, b);
    assert.ok(next.epoch > held.epoch);
    await holderIs(three, next);
    assert.equal(next.reservedFor, undefined);
  });

  fact("a reservation that nobody uses ends, and then anybody may have the lease", "transfer", async (_, open) => {
    const [one, three] = [await open(), await open()];
    const held = await acquired(one, a);
    assert.equal(await one.transfer(held, b.nodeId, { reserveMs: 700, deadlineMs: LONG_MS }), true);
    const next = await until("the reservation ends", () => three.acquire(c, acquireOptions));
    assert.ok(next.epoch > held.epoch);
    await holderIs(one, next);
  });

  fact("epochs grow over restarts of the clients, and are at least what a node asks for", "epochs", async (_, open) => {
    let last = 0;
    for (const minEpoch of [1, 1, 5, 2, 7]) {
      const store = await open();
      const held = await until("the lease is given", () => store.acquire(a, { ...acquireOptions, ttlMs: subject.ttlMs, minEpoch }));
      assert.ok(held.epoch > last && held.epoch >= minEpoch, `${held.epoch} after ${last}, at least ${minEpoch}`);
      last = held.epoch;
      await store.release(held, LONG_MS);
      await store.close();
    }
    assert.equal(last, 7);
  });

  fact("a store that has lost its memory gives nothing out for one TTL, and then a greater epoch than all before", "forget", async (place, open) => {
    const one = await open();
    const held = await acquired(one, a, { ttlMs: subject.ttlMs, minEpoch: 1 });
    const second = await (async () => {
      await one.release(held, LONG_MS);
      return acquired(one, a, { ttlMs: subject.ttlMs });
    })();
    await place.wipe!();
    const wipedAt = performance.now();
    assert.equal(await one.renew(second, { ttlMs: subject.ttlMs, deadlineMs: LONG_MS }), false);
    const other = await open();
    const next = await until("the lease is given out again", () => other.acquire(b, { ...acquireOptions, ttlMs: subject.ttlMs, minEpoch: second.epoch + 1 }));
    assert.ok(performance.now() - wipedAt >= subject.ttlMs);
    assert.ok(next.epoch > second.epoch);
  });

  fact("a watch tells of each holder, and of nobody", undefined, async (_, open) => {
    const shared = subject.cannot?.race !== undefined;
    const one = await open();
    const watcher = shared ? one : await open();
    const seen: (string | undefined)[] = [];
    const errors: unknown[] = [];
    const end = watcher.watch((held) => void seen.push(held && `${held.holder.name} ${held.reservedFor ?? ""}`.trim()), (error) => void errors.push(error));
    const sees = (...expected: (string | undefined)[]): Promise<true> => until(`the watch has told ${JSON.stringify(expected)}, not ${JSON.stringify(seen)}`, async () => seen.length >= expected.length);
    await sees(undefined);
    const first = await acquired(one, a, { ttlMs: TTL_MS });
    await sees(undefined, "n1");
    assert.equal(await one.renew(first, { ttlMs: TTL_MS, deadlineMs: LONG_MS }), true);
    await one.release(first, LONG_MS);
    const expected = [undefined, "n1", undefined];
    await sees(...expected);
    if (subject.cannot?.transfer === undefined) {
      const second = await acquired(one, b);
      await sees(...expected, "n2");
      assert.equal(await one.transfer(second, c.nodeId, { reserveMs: LONG_MS, deadlineMs: LONG_MS }), true);
      await sees(...expected, "n2", "n2 0000000000000003");
      // Kept until it was told of, then left to expire.
      const third = await acquired(one, c, { ttlMs: subject.ttlMs });
      await until("the watch tells of n3", async () => seen.at(-1) === "n3" || !(await one.renew(third, { ttlMs: subject.ttlMs, deadlineMs: LONG_MS })));
      await sees(...expected, "n2", "n2 0000000000000003", "n3", undefined);
      expected.push("n2", "n2 0000000000000003", "n3", undefined);
    }
    end();
    await one.acquire(a, acquireOptions);
    await sleep(300);
    assert.deepEqual(seen, expected);
    assert.deepEqual(errors, []);
  });

  fact("members are who has registered of late, each with its newest facts", "members", async (_, open) => {
    const [one, two] = [await open(), await open()];
    assert.deepEqual(await one.members(LONG_MS), []);
    await one.register(a, { memberTtlMs: TTL_MS, deadlineMs: LONG_MS });
    await one.register(a, { memberTtlMs: TTL_MS, deadlineMs: LONG_MS });
    // As nodes do it: again and again.
    const both = (first: Member): Promise<true> => until(`${first.advertise} and b to be members`, async () => {
      await two.register(b, { memberTtlMs: subject.ttlMs, deadlineMs: LONG_MS });
      return isDeepStrictEqual(await two.members(LONG_MS), [first, b]);
    });
    await both(a);
    const moved = memberOf(1, { advertise: "10.9.9.9:7001", candidate: false });
    await one.register(moved, { memberTtlMs: TTL_MS, deadlineMs: LONG_MS });
    await both(moved);
    await until("b is forgotten", async () => (await one.members(LONG_MS)).length === 1);
    assert.deepEqual(await two.members(LONG_MS), [moved]);
    await two.register(b, { memberTtlMs: TTL_MS, deadlineMs: LONG_MS });
    assert.deepEqual(await one.members(LONG_MS), [moved, b]);
  });

  fact("who counts is changed by whoever knows what stands there, by one of several at once, and stays", "clusterId", async (_, open) => {
    const clients = [await open(), await open(), await open()];
    const [one, two] = clients as [LeaseStore, LeaseStore, LeaseStore];
    assert.equal(await one.electorate(LONG_MS), undefined);
    const of = (revision: number, ...nodes: readonly (typeof a)[]): Electorate => ({ epoch: 1, revision, nodes: nodes.map(({ nodeId, name }) => ({ nodeId, name })) });
    assert.equal(await one.setElectorate(of(7, a), of(8, b), LONG_MS), false, "it says that something stands there");
    assert.equal(await one.setElectorate(undefined, of(1, a), LONG_MS), true);
    assert.equal(await two.setElectorate(undefined, of(1, b), LONG_MS), false, "it does not know what stands there");
    assert.deepEqual(await two.electorate(LONG_MS), of(1, a));
    const raced = await Promise.all(clients.map((client, index) => client.setElectorate(of(1, a), of(2 + index, a, b), LONG_MS)));
    assert.equal(raced.filter(Boolean).length, 1, "one of them");
    assert.deepEqual(await (await open()).electorate(LONG_MS), of(2 + raced.indexOf(true), a, b));
  });

  fact("of several cluster ids that are proposed at once the first one wins, for ever", "clusterId", async (_, open) => {
    const clients = [await open(), await open(), await open(), await open()];
    const ids = await Promise.all(clients.map((client, index) => client.clusterId(`${index + 1}`.repeat(16), LONG_MS)));
    assert.equal(new Set(ids).size, 1, ids.join(" "));
    assert.match(ids[0]!, /^[1-4]{16}$/);
    assert.equal(await (await open()).clusterId("f".repeat(16), LONG_MS), ids[0]);
  });

  fact("while the store is away every call says so within its deadline; when it is back, all goes on", "outage", async (place, open) => {
    const [one, other] = [await open(), await open()];
    const held = await acquired(one, a, { ttlMs: 600_000 });
    const id = await one.clusterId("a".repeat(16), LONG_MS);
    const told: string[] = [];
    const end = other.watch((lease) => void told.push(lease?.holder.name ?? "nobody"), () => void told.push("error"));
    await until("the watch begins", async () => told.includes("n1"));
    await place.kill!();
    const calls: readonly (() => Promise<unknown>)[] = [
      () => one.read(SHORT_MS), () => one.renew(held, { ttlMs: TTL_MS, deadlineMs: SHORT_MS }), () => other.acquire(b, { ...acquireOptions, deadlineMs: SHORT_MS }),
      () => one.release(held, SHORT_MS), () => one.transfer(held, b.nodeId, { reserveMs: 1_000, deadlineMs: SHORT_MS }), () => one.register(a, { memberTtlMs: TTL_MS, deadlineMs: SHORT_MS }),
      () => one.members(SHORT_MS), () => other.clusterId("b".repeat(16), SHORT_MS),
    ];
    for (const call of calls) {
      const sentAt = performance.now();
      await assert.rejects(call(), isUnavailable, call.toString());
      assert.ok(performance.now() - sentAt < SHORT_MS + 5_000, `${call.toString()} took ${performance.now() - sentAt} ms`);
    }
    await until("the watch says that something is wrong", async () => told.includes("error"));
    await place.restart!();
    await until("the watch is back", async () => told.at(-1) === "n1");
    // What it kept is still so: the holder was not forgotten, nor was it given away.
    assert.equal(await until("the store answers", () => other.acquire(b, { ...acquireOptions, deadlineMs: SHORT_MS }).then((got) => ({ got }), () => undefined)).then(({ got }) => got), undefined);
    assert.equal(await one.renew(held, { ttlMs: TTL_MS, deadlineMs: LONG_MS }), true);
    assert.equal(await other.clusterId("b".repeat(16), LONG_MS), id);
    await one.release(held, LONG_MS);
    const next = await acquired(other, b);
    assert.ok(next.epoch > held.epoch);
    end();
  });

  fact("an answer after the deadline is no success: the lease that it took is given back", "slow", async (place, open) => {
    const other = await open();
    const { store, setDelay } = await place.openSlow!();
    try {
      assert.equal(await store.read(LONG_MS), undefined);
      // Each delay lets another part of the acquisition be the one that is late.
      for (const delayMs of [150, 250, 400, 1_200]) {
        await setDelay(delayMs);
        await assert.rejects(store.acquire(a, { ...acquireOptions, deadlineMs: 500 }), isUnavailable, `delay ${delayMs}`);
        // TTL_MS has by far not passed then.
        const next = await until("the lease is free again", () => other.acquire(b, acquireOptions), TTL_MS / 2);
        await sleep(3 * delayMs);
        await holderIs(other, next);
        await assert.rejects(store.read(Math.min(delayMs, 100)), isUnavailable);
        await assert.rejects(store.renew(next, { ttlMs: TTL_MS, deadlineMs: 100 }), isUnavailable, "a late renewal is no renewal");
        await other.release(next, LONG_MS);
      }
      await setDelay(0);
      const held = await until("it is fast again", () => store.acquire(a, { ...acquireOptions, deadlineMs: 5_000 }).catch(() => undefined));
      await holderIs(other, held);
    } finally {
      await store.close();
    }
  });

  const goodLease = { sluice: 1, epoch: 3, token: `${a.nodeId}-3-x`, holder: a };
  const garbage: readonly (readonly [RawName, string | Buffer])[] = [
    ["lease", Buffer.from([0xff, 0x00, 0x80, 0xfe, 0x0a, 0xc3])], ["lease", ""], ["lease", "{}"], ["lease", "[1,2,3]"], ["lease", "null"], ["lease", '{"hostname":"a","advertise-url":"http://a:20202"}'],
    ["lease", JSON.stringify({ ...goodLease, epoch: -1 })], ["lease", JSON.stringify({ ...goodLease, epoch: 1e300 })], ["lease", JSON.stringify({ ...goodLease, epoch: 2 ** 53 })], ["lease", JSON.stringify({ ...goodLease, epoch: 3.5 })],
    ["lease", JSON.stringify({ ...goodLease, epoch: "3" })], ["lease", JSON.stringify({ ...goodLease, sluice: 2 })], ["lease", JSON.stringify({ ...goodLease, token: "x" })], ["lease", JSON.stringify({ ...goodLease, holder: { name: "a" } })],
    ["lease", JSON.stringify({ ...goodLease, reservation: { nodeId: "b", ms: 1 } })], ["lease", JSON.stringify({ ...goodLease, reservation: { nodeId: b.nodeId, ms: -5 } })],
    ["epoch", "-1"], ["epoch", "99999999999999999999"], ["epoch", "9007199254740993"], ["epoch", "eleven"], ["epoch", ""], ["epoch", Buffer.from([0, 255, 128])],
    ["electorate", "{}"], ["electorate", '{"sluice":1,"epoch":1,"revision":1,"nodes":[{"nodeId":"x","name":"a"}]}'],
    ["cluster-id", "no"], ["cluster-id", Buffer.from([0, 255, 128])],
  ];

  fact("what is not ours is refused by name, stays where it is, and keeps nobody else's lease from being read", "garbage", async (place, open) => {
    const raw = place.raw!;
    const store = await open();
    const held = await acquired(store, a);
    await store.clusterId("c".repeat(16), LONG_MS);
    await store.release(held, LONG_MS);
    for (const [name, content] of garbage) {
      const bytes = Buffer.isBuffer(content) ? content : Buffer.from(content);
      const before = await raw.read(name);
      await raw.write(name, bytes);
      const isCorrupt = (error: unknown): boolean => isAppError(error, "LEASE_STORE_CORRUPT") && error.message.includes(raw.pathOf(name)) && /; if no other program/.test(error.message);
      const why = `${name}: ${bytes.toString("latin1")}`;
      if (name === "electorate") {
        await assert.rejects(store.electorate(LONG_MS), isCorrupt, why);
        await assert.rejects(store.setElectorate(undefined, { epoch: 1, revision: 1, nodes: [] }, LONG_MS), isCorrupt, why);
      } else if (name === "cluster-id") await assert.rejects(store.clusterId("d".repeat(16), LONG_MS), isCorrupt, why);
      else await assert.rejects(store.acquire(b, acquireOptions), isCorrupt, why);
      if (name === "lease") {
        await assert.rejects(store.read(LONG_MS), isCorrupt, why);
        await store.release(held, LONG_MS).catch((error: unknown) => assert.ok(isCorrupt(error)));
        await store.renew(held, { ttlMs: TTL_MS, deadlineMs: LONG_MS }).then((renewed) => assert.equal(renewed, false), (error: unknown) => assert.ok(isCorrupt(error)));
      }
      assert.deepEqual(await raw.read(name), bytes, `${why} is still there`);
      if (before === undefined) await raw.remove(name);
      else await raw.write(name, before);
    }
    await store.register(b, { memberTtlMs: TTL_MS, deadlineMs: LONG_MS });
    await raw.write("member", Buffer.from("something else"));
    assert.deepEqual(await store.members(LONG_MS), [b]);
    assert.deepEqual(await raw.read("member"), Buffer.from("something else"));
  });

  after(() => {
    if (subject.skip) console.error(`\n*** ${subject.name}: ${subject.skip}\n`);
  });
}

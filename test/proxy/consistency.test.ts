/** Each client reads its own writes: cookies, waits and forwards, with a stand-in engine (see support.ts for what that cannot show). */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startNode, until, type NodeOptions, type StandInState, type TestNode } from "./support.ts";

async function pair(t: TestContext, follower: NodeOptions = {}, primary: NodeOptions = {}): Promise<{ a: TestNode; b: TestNode }> {
  const a = await startNode(t, { name: "a", role: "primary", positions: { "app.db": { epoch: 1, txid: 9 } }, ...primary });
  const b = await startNode(t, { name: "b", role: "follower", primary: { name: "a", proxy: a.proxy.url }, ...follower });
  return { a, b };
}

const nodeOf = (response: Response): string | null => response.headers.get("sluice-node");
const read = (node: TestNode, cookie: string): Promise<Response> => fetch(node.proxy.url, { headers: { cookie } });

test("a read whose position is there is served at once, a read ahead of it waits until it is there", async (t) => {
  const { b } = await pair(t, { maxLagMs: 60_000 });
  assert.equal(nodeOf(await read(b, "__txid=1&app.db:1.5")), "b");
  assert.equal(b.engine.waits, 0);
  let done = false;
  const waiting = read(b, "__txid=1&app.db:1.7").finally(() => (done = true));
  await until("the wait", () => b.engine.waits === 1);
  assert.equal(done, false);
  const count = b.app.seen.length;
  b.engine.set({ positions: { "app.db": { epoch: 1, txid: 6 } } });
  assert.equal(b.app.seen.length, count, "6 is not 7");
  b.engine.set({ positions: { "app.db": { epoch: 1, txid: 7 } } });
  const response = await waiting;
  assert.equal(nodeOf(response), "b");
  assert.equal(response.headers.get("sluice-txid"), "app.db=1/7");
  assert.equal(b.app.seen.at(-1)!.headers.cookie, undefined, "the application does not see the cookie");
});

test("a read that waited in vain is forwarded to the primary, and refused when there is none", async (t) => {
  const { a, b } = await pair(t, { maxLagMs: 100 });
  const forwarded = await read(b, "__txid=1&app.db:1.9; s=1");
  assert.equal(nodeOf(forwarded), "a");
  assert.equal(a.app.seen.at(-1)!.headers.cookie, "s=1");
  assert.equal(forwarded.headers.get("set-cookie"), null, "the primary has it, so the cookie is right");
  const { primary: _primary, ...rest } = b.engine.state;
  b.engine.state = rest;
  b.engine.set({});
  const refused = await until("the primary to be forgotten", async () => {
    const response = await read(b, "__txid=1&app.db:1.9");
    return response.status === 503 ? response : undefined;
  });
  assert.match(await refused.text(), /No primary is known/);
  assert.ok(refused.headers.has("retry-after"));
});

test("POST, 303, GET on a follower shows the write, through the cookie alone", async (t) => {
  const { a, b } = await pair(t, { maxLagMs: 60_000, positions: { "app.db": { epoch: 1, txid: 9 } } });
  let written = 9;
  a.app.handler = (_request, response) => void response.writeHead(303, { Location: `/after-${++written}` }).end();
  a.engine.onFlush = () => a.engine.set({ positions: { "app.db": { epoch: 1, txid: written } } });
  for (let i = 0; i < 5; i++) {
    const write = await fetch(b.proxy.url, { method: "POST", redirect: "manual", body: "x" });
    const cookie = write.headers.getSetCookie()[0]!.split(";")[0]!;
    assert.equal(cookie, `__txid=1&app.db:1.${written.toString(16)}`);
    const before = b.engine.waits;
    const get = fetch(b.proxy.url + write.headers.get("location"), { headers: { cookie } });
    await until("the wait", () => b.engine.waits > before);
    b.engine.set({ positions: { "app.db": { epoch: 1, txid: written } } });
    assert.equal(nodeOf(await get), "b");
  }
});

test("a cookie of an older epoch is reached whatever its TXID, one of a newer epoch is not", async (t) => {
  const { b } = await pair(t, { positions: { "app.db": { epoch: 2, txid: 3 } }, epoch: 2, maxLagMs: 50 }, { epoch: 3 });
  assert.equal(nodeOf(await read(b, "__txid=1&app.db:1.ffff")), "b");
  assert.equal(nodeOf(await read(b, "__txid=1&app.db:3.1")), "a");
});

test("forged and broken cookies are never an error and never wait longer than maxLag", async (t) => {
  const { a, b } = await pair(t, { maxLagMs: 150 });
  for (const cookie of ["__txid=", "__txid=x", "__txid=1&app.db", "__txid=1&app.db:zz.1", `__txid=${"9".repeat(4_000)}`, "__txid=1&%ff:1.1", '__txid="1"']) {
    const waits = b.engine.waits;
    assert.equal(nodeOf(await read(b, cookie)), "b", cookie.slice(0, 30));
    assert.equal(b.engine.waits, waits);
  }
  for (const cookie of ["__txid=1&app.db:1fffffffffffff.1fffffffffffff", "__txid=1&no-such.db:1.1"]) {
    const begun = performance.now();
    const response = await read(b, cookie);
    // Generous: what matters is that it ends although the position never comes.
    assert.ok(performance.now() - begun < 10_000);
    assert.equal(nodeOf(response), "a");
    // The primary knows that nobody will ever get there, and gives the client a position that exists.
    assert.equal(response.headers.getSetCookie()[0]?.split(";")[0], "__txid=1&app.db:1.9");
  }
  assert.equal(a.engine.waits, 0, "the primary never waits");
});

test("while the engine is away, reads without a cookie are served; with one they wait for it, and writes are held", async (t) => {
  const { proxy, engine, app } = await startNode(t, { maxLagMs: 60_000, holdMs: 60_000 });
  engine.stop();
  await until("the proxy to notice", async () => (await fetch(proxy.url)).headers.get("sluice-txid") === null);
  assert.equal((await fetch(proxy.url)).status, 200);
  const count = app.seen.length;
  const reading = fetch(proxy.url, { headers: { cookie: "__txid=1&app.db:1.5" } });
  const writing = fetch(proxy.url, { method: "POST", body: "x" });
  await until("both to wait", () => (proxy.metrics()?.waits.started ?? 0) >= 1 && (proxy.metrics()?.holds.now ?? 0) >= 1);
  assert.equal(app.seen.length, count);
  await engine.start();
  assert.equal((await reading).headers.get("sluice-txid"), "app.db=1/5");
  assert.equal((await writing).headers.getSetCookie()[0]?.split(";")[0], "__txid=1&app.db:1.5");
});

test("an engine that stays away makes writes and reads with a cookie 503 after maxLag", async (t) => {
  const { proxy, engine, app } = await startNode(t, { maxLagMs: 100 });
  engine.stop();
  await until("the proxy to notice", async () => (await fetch(proxy.url)).headers.get("sluice-txid") === null);
  const count = app.seen.length;
  for (const init of [{ method: "POST", body: "x" }, { headers: { cookie: "__txid=1&app.db:1.5" } }]) {
    const response = await fetch(proxy.url, init);
    assert.equal(response.status, 503);
    assert.match(await response.text(), /does not know its role/);
  }
  assert.equal(app.seen.length, count);
});

test("the response to a write arrives, without a cookie, when the engine dies before the flush", async (t) => {
  const { proxy, engine, app } = await startNode(t, { maxLagMs: 200 });
  app.handler = (_request, response) => {
    engine.stop();
    response.end("written");
  };
  const response = await fetch(proxy.url, { method: "POST", body: "x" });
  assert.equal(await response.text(), "written");
  assert.deepEqual([response.status, response.headers.get("set-cookie"), response.headers.get("sluice-node")], [200, null, "a"]);
});

test("a write is no success when its node lost the lease meanwhile and somebody else is the primary; a handoff, a lease of its own or a failure of the application change nothing", async (t) => {
  const b = { name: "b", proxy: "http://127.0.0.1:1" };
  const cases: readonly [what: string, change: Partial<StandInState>, application: number, client: number][] = [
    ["another primary", { role: "follower", epoch: 2, primary: b }, 201, 502],
    ["another primary, and the application saw its write fail", { role: "follower", epoch: 2, primary: b }, 503, 503],
    ["a handoff", { role: "follower", epoch: 2, primary: b, drain: 7 }, 201, 201],
    ["the next lease is this node's own", { role: "primary", epoch: 2 }, 201, 201],
    ["another node had the lease in between", { role: "primary", epoch: 3 }, 201, 502],
  ];
  for (const [what, change, application, client] of cases) {
    const { proxy, engine, app } = await startNode(t, { name: "a", maxLagMs: 1_500 });
    // Before the response goes out, and known to the proxy then: the flush is answered after the state was sent.
    engine.onFlush = () => {
      engine.set(change);
      return sleep(100);
    };
    app.handler = (_request, response) => void response.writeHead(application).end();
    const response = await fetch(proxy.url, { method: "POST", body: "x" });
    assert.equal(response.status, client, what);
    if (client === 502) assert.match(await response.text(), /lost the lease[^]*not known/);
    assert.equal(app.seen.length, 1, what);
  }
});

test("an idempotent write whose node lost the lease is sent to the new primary, body and all", async (t) => {
  const b = await startNode(t, { name: "b", role: "primary", epoch: 2 });
  const a = await startNode(t, { name: "a" });
  a.engine.onFlush = () => {
    a.engine.set({ role: "follower", epoch: 2, primary: { name: "b", proxy: b.proxy.url } });
    return sleep(100);
  };
  b.app.handler = (_request, response) => void response.writeHead(201).end("by b");
  const response = await fetch(a.proxy.url, { method: "PUT", body: "the whole" });
  assert.deepEqual([response.status, await response.text(), response.headers.get("sluice-node")], [201, "by b", "b"]);
  assert.deepEqual([a.app.seen, b.app.seen].map((seen) => seen.map(({ method, body }) => [method, body])), [[["PUT", "the whole"]], [["PUT", "the whole"]]]);
});

test("many writes at once share flushes, and each gets a position that covers it", async (t) => {
  const { proxy, engine, app } = await startNode(t);
  let written = 5;
  app.handler = (_request, response) => void response.end(String(++written));
  engine.onFlush = async () => {
    const captured = written;
    await new Promise((resolve) => setTimeout(resolve, 20));
    engine.set({ positions: { "app.db": { epoch: 1, txid: Math.max(captured, engine.state.positions["app.db"]!.txid) } } });
  };
  const flushes = engine.flushes;
  await Promise.all(Array.from({ length: 60 }, async () => {
    const response = await fetch(proxy.url, { method: "POST", body: "x" });
    const txid = Number(await response.text());
    const covered = Number.parseInt(/app\.db:1\.([0-9a-f]+)/.exec(response.headers.getSetCookie()[0]!)![1]!, 16);
    assert.ok(covered >= txid, `${covered} covers ${txid}`);
  }));
  assert.ok(engine.flushes - flushes < 60, `${engine.flushes - flushes} flushes`);
});

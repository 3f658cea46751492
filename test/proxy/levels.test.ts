/** Levels of consistency, replays, clients without cookies, what caches and logs see (see support.ts for what a stand-in engine cannot show). */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { startNode, until, type NodeOptions, type TestNode } from "./support.ts";

async function pair(t: TestContext, follower: NodeOptions = {}, primary: NodeOptions = {}): Promise<{ a: TestNode; b: TestNode }> {
  const a = await startNode(t, { name: "a", role: "primary", positions: { "app.db": { epoch: 1, txid: 9 } }, ...primary });
  const b = await startNode(t, { name: "b", role: "follower", primary: { name: "a", proxy: a.proxy.url }, ...follower });
  return { a, b };
}

const nodeOf = (response: Response): string | null => response.headers.get("sluice-node");
const txidCookie = (response: Response): string | undefined => response.headers.getSetCookie().find((cookie) => cookie.startsWith("__txid="))?.split(";")[0];

test("a strong read asks the primary after it came, and is answered here once this node is there", async (t) => {
  const { b } = await pair(t, { maxLagMs: 60_000 });
  b.engine.askPrimary = async () => ({ "app.db": { epoch: 1, txid: 7 } });
  const read = fetch(b.proxy.url, { headers: { "sluice-consistency": "strong" } });
  await until("the wait", () => b.engine.waits === 1);
  assert.deepEqual([b.engine.asks, b.app.seen.length], [1, 0]);
  b.engine.set({ positions: { "app.db": { epoch: 1, txid: 7 } } });
  assert.deepEqual([nodeOf(await read), (await read).headers.get("sluice-txid")], ["b", "app.db=1/7"]);
  await until("it to be counted", () => b.proxy.metrics()?.waitReasons["strong"] === 1);
});

test("strong reads that come while the primary is being asked share the question after that one", async (t) => {
  const { b } = await pair(t, { maxLagMs: 60_000 });
  const answers: ((positions: Record<string, { epoch: number; txid: number }>) => void)[] = [];
  b.engine.askPrimary = () => new Promise((resolve) => answers.push(resolve));
  const strong = (): Promise<Response> => fetch(b.proxy.url, { headers: { "sluice-consistency": "strong" } });
  const first = strong();
  await until("the first question", () => b.engine.asks === 1);
  let early = false;
  const later = [strong(), strong(), strong()].map((read) => read.then((response) => ((early ||= answers.length < 2), response)));
  await until("all to run", () => b.proxy.metrics()?.active === 4);
  answers[0]!({ "app.db": { epoch: 1, txid: 5 } });
  assert.equal(nodeOf(await first), "b");
  await until("the second question", () => b.engine.asks === 2);
  answers[1]!({ "app.db": { epoch: 1, txid: 5 } });
  for (const read of later) assert.equal(nodeOf(await read), "b");
  assert.deepEqual([early, b.engine.asks], [false, 2]);
});

test("a strong read that gets no answer in time goes to the primary; there it is an ordinary read", async (t) => {
  const { a, b } = await pair(t, { maxLagMs: 150 });
  const read = await fetch(b.proxy.url, { headers: { "sluice-consistency": "strong" } });
  assert.equal(nodeOf(read), "a");
  assert.equal((await fetch(a.proxy.url, { headers: { "sluice-consistency": "strong" } })).headers.get("sluice-node"), "a");
  assert.equal(a.engine.asks, 0, "the primary asks nobody");
});

test("an eventual read never waits, whatever its cookie says, and gets no cookie that says better", async (t) => {
  const { b } = await pair(t, { maxLagMs: 60_000 });
  const read = await fetch(b.proxy.url, { headers: { "sluice-consistency": "eventual", cookie: "__txid=1&app.db:1.9" } });
  assert.deepEqual([nodeOf(read), read.headers.get("sluice-txid"), txidCookie(read), b.engine.waits], ["b", "app.db=1/5", undefined, 0]);
});

test("a level that nobody knows is refused instead of weakened", async (t) => {
  const { proxy, app } = await startNode(t);
  for (const level of ["Strong", "linearizable", "", "strong, strong"]) {
    const response = await fetch(proxy.url, { headers: { "sluice-consistency": level } });
    assert.equal(response.status, 400, level);
    assert.match(await response.text(), /none of eventual, session and strong/);
  }
  assert.equal(app.seen.length, 0);
});

test("a rule sets the level, picks the databases that count, and takes paths out of cookies", async (t) => {
  const rules = [{ path: "/account", consistency: "strong" }, { path: "/stats/*", consistency: "eventual" }, { path: "/app/*", databases: ["app.db"] }, { path: "/feed", cookie: false }] as const;
  const { a, b } = await pair(t, { maxLagMs: 60_000, rules, positions: { "app.db": { epoch: 1, txid: 9 }, "log.db": { epoch: 1, txid: 1 } } }, { rules });
  const cookie = "__txid=1&log.db:1.ff&app.db:1.9";
  const get = (path: string): Promise<Response> => fetch(b.proxy.url + path, { headers: { cookie } });
  for (const path of ["/stats/x", "/app/x", "/feed"]) assert.equal(nodeOf(await get(path)), "b", path);
  assert.equal(b.engine.waits, 0);
  b.engine.askPrimary = async () => ({ "app.db": { epoch: 1, txid: 9 } });
  assert.equal(nodeOf(await get("/account")), "b");
  assert.deepEqual([b.engine.asks, b.engine.waits], [1, 0]);
  const waiting = get("/other");
  await until("the other path to wait for log.db", () => b.engine.waits === 1);
  b.engine.set({ positions: { "app.db": { epoch: 1, txid: 9 }, "log.db": { epoch: 1, txid: 255 } } });
  assert.equal(nodeOf(await waiting), "b");
  assert.equal(txidCookie(await fetch(`${a.proxy.url}/feed`, { method: "POST", body: "x" })), undefined);
  assert.equal(txidCookie(await fetch(`${a.proxy.url}/else`, { method: "POST", body: "x" })), "__txid=1&app.db:1.9");
});

test("a response with a cookie is private, whatever the application said of caches", async (t) => {
  const { proxy, app } = await startNode(t);
  app.handler = (_request, response) => void response.writeHead(200, { "Cache-Control": "public, s-maxage=60, max-age=60" }).end("ok");
  assert.equal((await fetch(proxy.url, { method: "POST", body: "x" })).headers.get("cache-control"), "max-age=60, private");
  assert.equal((await fetch(proxy.url)).headers.get("cache-control"), "public, s-maxage=60, max-age=60", "a read sets no cookie");
});

test("the cookie is called, placed and protected as configured", async (t) => {
  const cookie = { name: "pos", domain: "example.org", secure: true, sameSite: "strict", maxAgeMs: 60_000 };
  const { a, b } = await pair(t, { config: { cookie }, maxLagMs: 60_000 }, { config: { cookie } });
  const write = await fetch(b.proxy.url, { method: "POST", body: "x" });
  assert.deepEqual(write.headers.getSetCookie(), ["pos=1&app.db:1.9; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Domain=example.org; Secure"]);
  const waiting = fetch(b.proxy.url, { headers: { cookie: "pos=1&app.db:1.9; __txid=theirs" } });
  await until("the wait", () => b.engine.waits === 1);
  b.engine.set({ positions: { "app.db": { epoch: 1, txid: 9 } } });
  await waiting;
  assert.equal(b.app.seen.at(-1)!.headers.cookie, "__txid=theirs");
  assert.equal(a.app.seen.length, 1);
});

test("an application on a follower hands a GET that writes to the primary, and the client sees only the primary's answer", async (t) => {
  const { a, b } = await pair(t);
  b.app.handler = (_request, response) => void response.writeHead(409, { "Sluice-Replay": "primary", "Set-Cookie": "no=1" }).end("x".repeat(200_000));
  a.app.handler = (_request, response, seen) => void response.end(`a ${seen.method} ${seen.body}`);
  const read = await fetch(`${b.proxy.url}/visit`);
  assert.deepEqual([read.status, await read.text(), nodeOf(read)], [200, "a GET ", "a"]);
  // It may have written, so its client gets the position.
  assert.deepEqual(read.headers.getSetCookie(), ["__txid=1&app.db:1.9; Path=/; Max-Age=300; HttpOnly; SameSite=Lax"]);
  assert.equal(read.headers.get("sluice-replay"), null);
  await until("it to be counted", () => b.proxy.metrics()?.replays === 1);
});

test("a replay takes the body along, and says so when it is longer than what is kept", async (t) => {
  const { a, b } = await pair(t, { rules: [{ path: "/*", to: "auto" }], limits: { keptBodyBytes: 10_000 } });
  b.app.handler = (_request, response) => void response.writeHead(409, { "Sluice-Replay": "primary" }).end();
  a.app.handler = (_request, response, seen) => void response.end(`a ${seen.body.length}`);
  const short = await fetch(`${b.proxy.url}/q`, { method: "OPTIONS", body: "x".repeat(9_000) });
  assert.equal(await short.text(), "a 9000");
  const long = await fetch(`${b.proxy.url}/q`, { method: "OPTIONS", body: "x".repeat(100_000) });
  assert.equal(long.status, 502);
  assert.match(await long.text(), /longer than what is kept/);
  assert.equal(a.app.seen.length, 1);
});

test("a replay on the primary means nothing, and is held while there is no primary", async (t) => {
  const a = await startNode(t, { name: "a", role: "primary" });
  a.app.handler = (_request, response) => void response.writeHead(200, { "Sluice-Replay": "primary" }).end("a");
  assert.equal(await (await fetch(a.proxy.url)).text(), "a");
  const b = await startNode(t, { name: "b", role: "follower", holdMs: 60_000 });
  b.app.handler = (_request, response) => void response.writeHead(409, { "Sluice-Replay": "primary" }).end();
  const read = fetch(b.proxy.url);
  await until("it to be held", () => b.proxy.metrics()?.holds.now === 1);
  b.engine.set({ primary: { name: "a", proxy: a.proxy.url } });
  assert.equal(nodeOf(await read), "a");
});

test("a client without cookies reads its own writes through the same node, known by a field or by its address", async (t) => {
  for (const [clients, headers] of [["header:Authorization", { authorization: "Bearer one" }], ["address", {}]] as const) {
    const { b } = await pair(t, { config: { clients }, maxLagMs: 60_000 });
    assert.equal((await fetch(b.proxy.url, { method: "POST", body: "x", headers })).status, 200);
    if (clients !== "address") assert.equal(nodeOf(await fetch(b.proxy.url, { headers: { authorization: "Bearer two" } })), "b", "another client does not wait");
    const reading = fetch(b.proxy.url, { headers });
    await until("the wait", () => b.engine.waits === 1);
    b.engine.set({ positions: { "app.db": { epoch: 1, txid: 9 } } });
    assert.equal(nodeOf(await reading), "b");
    await until("the table to be counted", () => b.proxy.metrics()?.clients === 1);
  }
});

test("of two writes at once the one that is answered last takes nothing from what its client has to see", async (t) => {
  const { proxy, engine, app } = await startNode(t, { config: { clients: "header:X-User" }, maxLagMs: 60_000 });
  const headers = { "x-user": "one" };
  let txid = 5;
  engine.onFlush = () => engine.set({ positions: { "app.db": { epoch: 1, txid } } });
  app.handler = (_request, response) => {
    txid++;
    response.end("written");
  };
  // The first waits for a follower that does not come, the second for nobody.
  const first = fetch(proxy.url, { method: "POST", body: "x", headers: { ...headers, "sluice-ack": "1" } });
  await until("the wait for a follower", () => engine.replicaWaits === 1);
  const second = await fetch(proxy.url, { method: "POST", body: "y", headers });
  assert.match(txidCookie(second)!, /app\.db:1\.7/);
  engine.replicate(1);
  assert.match(txidCookie(await first)!, /app\.db:1\.7/);
  // This node is a follower now that lacks the second write.
  engine.set({ role: "follower", positions: { "app.db": { epoch: 1, txid: 6 } } });
  app.handler = (_request, response) => void response.end("read");
  const reading = fetch(proxy.url, { headers });
  await until("the read to wait", () => engine.waits === 1);
  engine.set({ positions: { "app.db": { epoch: 1, txid: 7 } } });
  assert.equal((await reading).status, 200);
});

test("with clients: none nobody is told a position and nobody waits", async (t) => {
  const { proxy, engine } = await startNode(t, { config: { clients: "none" } });
  assert.equal(txidCookie(await fetch(proxy.url, { method: "POST", body: "x" })), undefined);
  assert.equal((await fetch(proxy.url, { headers: { cookie: "__txid=1&app.db:1.ff" } })).status, 200);
  assert.equal(engine.waits, 0);
});

test("Server-Timing says on request what took the time", async (t) => {
  const { b } = await pair(t, { maxLagMs: 60_000 });
  assert.equal((await fetch(b.proxy.url)).headers.get("server-timing"), null);
  assert.match((await fetch(b.proxy.url, { headers: { "sluice-timing": "1" } })).headers.get("server-timing")!, /^sluice;desc="local read", upstream;dur=\d+\.\d$/);
  const waiting = fetch(b.proxy.url, { headers: { "sluice-timing": "1", cookie: "__txid=1&app.db:1.6" } });
  await until("the wait", () => b.engine.waits === 1);
  b.engine.set({ positions: { "app.db": { epoch: 1, txid: 6 } } });
  assert.match((await waiting).headers.get("server-timing")!, /^sluice;desc="local read", wait;dur=\d+\.\d, upstream;dur=\d+\.\d$/);
});

test("the access log has every request at 1 and none at 0, with decision, node and times", async (t) => {
  const all = await startNode(t, { level: "info", config: { accessLog: 1 } });
  await fetch(`${all.proxy.url}/logged`, { method: "POST", body: "x" });
  const line = await until("the line", () => all.proxy.output.join("").split("\n").find((candidate) => candidate.includes('"/logged"')));
  const entry = JSON.parse(line) as Record<string, unknown>;
  assert.deepEqual([entry["method"], entry["status"], entry["decision"], entry["reason"], entry["node"], entry["client"]], ["POST", 200, "local", "primary", "a", "127.0.0.1"]);
  assert.match(String(entry["id"]), /^[0-9a-f]+-[0-9a-z]+$/);
  assert.ok(Number(entry["upstreamMs"]) >= 0 && Number(entry["ms"]) >= Number(entry["upstreamMs"]));
  const none = await startNode(t, { level: "info" });
  await fetch(`${none.proxy.url}/silent`);
  await until("the request to be counted", () => (none.proxy.metrics()?.requests["local"]?.["200"] ?? 0) >= 1);
  assert.ok(!none.proxy.output.join("").includes('"/silent"'));
});

test("the counters tell requests by node and their latency, and rates of the last seconds", async (t) => {
  const { b } = await pair(t);
  for (let i = 0; i < 5; i++) await fetch(b.proxy.url);
  await fetch(b.proxy.url, { method: "POST", body: "x" });
  const metrics = await until("the counters", () => {
    const now = b.proxy.metrics();
    return (now?.nodes["a"] ?? 0) >= 1 && (now?.nodes["b"] ?? 0) >= 5 && now;
  });
  const observed = metrics.latency["local"]!.counts.reduce((sum, count) => sum + count, 0);
  assert.equal(observed, metrics.nodes["b"]);
  assert.equal(metrics.latency["forward"]!.counts.reduce((sum, count) => sum + count, 0), 1);
  await until("a connection to the primary's proxy to be counted", () => b.proxy.metrics()?.pool["peerConnected"] === 1);
  await until("a rate", () => Object.keys(b.proxy.metrics()?.rates ?? {}).includes("local"));
});

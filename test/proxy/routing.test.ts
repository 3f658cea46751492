/** Who answers a request: with a real proxy process for each node and a stand-in engine (see support.ts for what that cannot show). */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { startNode, until, type NodeOptions, type TestNode } from "./support.ts";

/** Primary "a" and follower "b". */
async function pair(t: TestContext, follower: NodeOptions = {}): Promise<{ a: TestNode; b: TestNode }> {
  const a = await startNode(t, { name: "a", role: "primary" });
  const b = await startNode(t, { name: "b", role: "follower", primary: { name: "a", proxy: a.proxy.url }, ...follower });
  return { a, b };
}

const txidCookie = (response: Response): string => response.headers.getSetCookie().find((cookie) => cookie.startsWith("__txid="))?.split(";")[0] ?? "";

test("a follower answers reads itself and sends writes to the primary, bodies and all", async (t) => {
  const { a, b } = await pair(t);
  a.app.handler = (_request, response, seen) => void response.writeHead(201, { "X-App": "a", "Set-Cookie": "s=1" }).end(`a got ${seen.body}`);
  b.app.handler = (_request, response) => void response.end("b");

  for (const method of ["GET", "HEAD", "OPTIONS"]) {
    const read = await fetch(`${b.proxy.url}/x`, { method });
    assert.equal(read.headers.get("sluice-node"), "b");
    assert.equal(read.headers.get("sluice-txid"), "app.db=1/5");
    assert.equal(read.headers.get("set-cookie"), null);
  }
  assert.equal(a.app.seen.length, 0);

  a.engine.onFlush = () => a.engine.set({ positions: { "app.db": { epoch: 1, txid: 6 } } });
  const reads = b.app.seen.length;
  for (const method of ["POST", "PUT", "PATCH", "DELETE"]) {
    const write = await fetch(`${b.proxy.url}/notes?x=1`, { method, body: "hello" });
    assert.equal(write.status, 201);
    assert.equal(await write.text(), "a got hello");
    assert.equal(write.headers.get("sluice-node"), "a");
    assert.equal(write.headers.get("sluice-txid"), "app.db=1/6");
    assert.equal(write.headers.get("x-app"), "a");
    assert.deepEqual(write.headers.getSetCookie(), ["s=1", "__txid=1&app.db:1.6; Path=/; Max-Age=300; HttpOnly; SameSite=Lax"]);
  }
  assert.equal(b.app.seen.length, reads);
  assert.deepEqual(a.app.seen.map(({ method, url, body }) => [method, url, body]), ["POST", "PUT", "PATCH", "DELETE"].map((method) => [method, "/notes?x=1", "hello"]));
});

test("the primary answers everything itself; a write's position is flushed before its head is sent", async (t) => {
  const { proxy, engine, app } = await startNode(t);
  let writes = 0;
  app.handler = (request, response) => {
    if (request.method === "POST") writes++;
    response.end("ok");
  };
  engine.onFlush = () => engine.set({ positions: { "app.db": { epoch: 1, txid: 5 + writes }, "old.db": { epoch: 1, txid: 1 } } });
  const flushes = engine.flushes;
  assert.equal((await fetch(proxy.url)).headers.get("set-cookie"), null);
  assert.equal(engine.flushes, flushes, "a read flushes nothing");
  const write = await fetch(proxy.url, { method: "POST", body: "x" });
  assert.equal(txidCookie(write), "__txid=1&app.db:1.6&old.db:1.1");
  assert.equal(write.headers.get("sluice-txid"), "app.db=1/6, old.db=1/1");
});

test("a path that belongs on the primary counts as a write there, without a body as well", async (t) => {
  const { proxy, engine } = await startNode(t, { rules: [{ path: "/visit", to: "primary" }] });
  for (const [method, flushed] of [["GET", 1], ["HEAD", 2], ["GET", 3]] as const) {
    const response = await fetch(`${proxy.url}/visit`, { method });
    assert.equal(await response.text(), method === "HEAD" ? "" : "GET /visit");
    assert.deepEqual([response.status, txidCookie(response), engine.flushes], [200, "__txid=1&app.db:1.5", flushed]);
  }
});

test("rules come before methods: local paths stay, primary paths go, ambiguous ones are refused", async (t) => {
  const { a, b } = await pair(t, { rules: [{ path: "/assets/*", to: "local" }, { path: "/admin/*", to: "primary" }] });
  assert.equal((await fetch(`${b.proxy.url}/assets/x`, { method: "POST", body: "1" })).headers.get("sluice-node"), "b");
  const admin = await fetch(`${b.proxy.url}/admin/x`);
  assert.equal(admin.headers.get("sluice-node"), "a");
  assert.equal((await fetch(`${b.proxy.url}/other`)).headers.get("sluice-node"), "b");
  const doubtful = await fetch(`${b.proxy.url}/assets/..%2fadmin/x`);
  assert.equal(doubtful.status, 400);
  assert.match(await doubtful.text(), /read in two ways/);
  assert.equal(a.app.seen.at(-1)!.url, "/admin/x");
  // The bytes that arrive are those that were sent.
  await fetch(`${b.proxy.url}/admin/%7Ex%2Fy`);
  assert.equal(a.app.seen.at(-1)!.url, "/admin/%7Ex%2Fy");
});

test("without a primary, writes are refused with a sentence and a time to retry, and reads go on", async (t) => {
  const { proxy, app } = await startNode(t, { role: "candidate" });
  const write = await fetch(proxy.url, { method: "POST", body: "x" });
  assert.equal(write.status, 503);
  assert.match(await write.text(), /^No primary is known .*\nRequest \S+\n$/);
  assert.ok(Number(write.headers.get("retry-after")) > 0);
  assert.match(write.headers.get("sluice-request-id")!, /^[0-9a-z-]{8,}$/);
  assert.equal(app.seen.length, 0);
  assert.equal((await fetch(proxy.url)).status, 200);
});

test("a primary that is down makes a forwarded write 503, and nothing was sent", async (t) => {
  const b = await startNode(t, { name: "b", role: "follower", primary: { name: "a", proxy: "http://127.0.0.1:1" } });
  const write = await fetch(b.proxy.url, { method: "POST", body: "x" });
  assert.equal(write.status, 503);
  assert.match(await write.text(), /was not sent/);
  assert.ok(write.headers.has("retry-after"));
});

test("a request that was forwarded is never forwarded again", async (t) => {
  // Two followers that each believe in the other.
  const b = await startNode(t, { name: "b", role: "follower" });
  const c = await startNode(t, { name: "c", role: "follower", primary: { name: "b", proxy: b.proxy.url } });
  b.engine.set({ primary: { name: "c", proxy: c.proxy.url } });
  const response = await until("both to believe", async () => {
    const answer = await fetch(c.proxy.url, { method: "POST", body: "x" });
    return (await answer.text()).startsWith("This node is not the primary") ? answer : undefined;
  });
  assert.equal(response.status, 503);
  assert.equal(response.headers.get("sluice-refused"), null, "only nodes see this field");
  assert.equal(b.app.seen.length + c.app.seen.length, 0);
  const direct = await fetch(b.proxy.url, { method: "POST", body: "x", headers: { "sluice-hop": "c;1" } });
  assert.deepEqual([direct.status, direct.headers.get("sluice-refused")], [503, "not-primary"]);
});

test("a primary that is told of a newer epoch refuses to write", async (t) => {
  const { proxy, app } = await startNode(t, { epoch: 3 });
  assert.equal((await fetch(proxy.url, { method: "POST", headers: { "sluice-hop": "b;3" } })).status, 200);
  const count = app.seen.length;
  const refused = await fetch(proxy.url, { method: "POST", headers: { "sluice-hop": "b;4" } });
  assert.deepEqual([refused.status, refused.headers.get("sluice-refused")], [503, "not-primary"]);
  assert.equal(app.seen.length, count);
});

test("one request id goes through both nodes and both applications' logs", async (t) => {
  const { a, b } = await pair(t);
  const response = await fetch(b.proxy.url, { method: "POST", body: "x" });
  const id = response.headers.get("sluice-request-id");
  assert.ok(id);
  assert.equal(a.app.seen.at(-1)!.headers["x-request-id"], id);
  await fetch(b.proxy.url, { method: "POST", body: "x", headers: { "x-request-id": "mine" } });
  assert.equal(a.app.seen.at(-1)!.headers["x-request-id"], "mine");
  assert.deepEqual(Object.keys(a.app.seen.at(-1)!.headers).filter((name) => name.startsWith("sluice-")), []);
  assert.equal(a.app.seen.at(-1)!.headers.via, "1.1 sluice, 1.1 sluice");
});

test("the guardian gets the counters each second", async (t) => {
  const { proxy } = await startNode(t);
  await fetch(proxy.url, { method: "POST", body: "x" });
  const metrics = await until("metrics", () => {
    const now = proxy.metrics();
    return (now?.requests["local"]?.["200"] ?? 0) >= 2 ? now : undefined;
  });
  assert.equal(metrics.active, 0);
});

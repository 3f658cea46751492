/** Held and repeated requests: no primary, a primary that moves, an application that restarts (see support.ts for what a stand-in engine cannot show). */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createTcpServer, type AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import { rawClient, startNode, statuses, until, type TestNode } from "./support.ts";

const LONG_MS = 60_000;
const heldNow = (node: TestNode): number => node.proxy.metrics()?.holds.now ?? 0;

test("a write that comes while there is no primary waits for one and is executed there once", async (t) => {
  const a = await startNode(t, { name: "a", role: "primary" });
  const b = await startNode(t, { name: "b", role: "follower", holdMs: LONG_MS });
  const write = fetch(`${b.proxy.url}/notes`, { method: "POST", body: "hello" });
  const rule = fetch(`${b.proxy.url}/read`);
  assert.equal((await rule).headers.get("sluice-node"), "b", "reads go on meanwhile");
  await until("the write to be held", () => heldNow(b) === 1);
  assert.equal(a.app.seen.length, 0);
  b.engine.set({ primary: { name: "a", proxy: a.proxy.url } });
  const response = await write;
  assert.deepEqual([response.status, response.headers.get("sluice-node")], [200, "a"]);
  assert.deepEqual(a.app.seen.map(({ method, url, body }) => [method, url, body]), [["POST", "/notes", "hello"]]);
  await until("the hold to be counted", () => heldNow(b) === 0 && b.proxy.metrics()?.holds.reasons["no-primary"] === 1);
});

test("a held write is executed here when this node becomes the primary", async (t) => {
  const b = await startNode(t, { name: "b", role: "follower", holdMs: LONG_MS });
  const write = fetch(b.proxy.url, { method: "POST", body: "hello" });
  await until("the write to be held", () => heldNow(b) === 1);
  b.engine.set({ role: "primary", epoch: 2, positions: { "app.db": { epoch: 2, txid: 6 } } });
  const response = await write;
  assert.deepEqual([response.status, response.headers.get("sluice-node"), response.headers.getSetCookie()[0]?.split(";")[0]], [200, "b", "__txid=1&app.db:2.6"]);
  assert.equal(b.app.seen.at(-1)!.body, "hello");
});

test("holding ends with 503, a sentence and Retry-After; the application has seen nothing", async (t) => {
  const b = await startNode(t, { name: "b", role: "follower", holdMs: 200 });
  const response = await fetch(b.proxy.url, { method: "POST", body: "x" });
  assert.equal(response.status, 503);
  assert.ok(Number(response.headers.get("retry-after")) > 0);
  assert.match(await response.text(), /No primary is known/);
  assert.equal(b.app.seen.length, 0);
  await until("it to be counted", () => b.proxy.metrics()?.holds.overdue === 1);
});

test("no more requests are held than there is room for", async (t) => {
  const b = await startNode(t, { name: "b", role: "follower", holdMs: LONG_MS, limits: { heldRequests: 2 } });
  const first = [1, 2].map(() => fetch(b.proxy.url, { method: "POST", body: "x" }));
  await until("two to be held", () => heldNow(b) === 2);
  const third = await fetch(b.proxy.url, { method: "POST", body: "x" });
  assert.equal(third.status, 503);
  assert.match(await third.text(), /Too many requests/);
  b.engine.set({ role: "primary" });
  assert.deepEqual((await Promise.all(first)).map(({ status }) => status), [200, 200]);
});

test("a held request whose client goes away is never executed", async (t) => {
  const b = await startNode(t, { name: "b", role: "follower", holdMs: LONG_MS });
  const client = await rawClient(t, b.proxy.port);
  client.socket.write("POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
  await until("the write to be held", () => heldNow(b) === 1);
  client.socket.resetAndDestroy();
  await until("the proxy to notice", () => b.proxy.metrics()?.active === 0);
  b.engine.set({ role: "primary" });
  assert.equal((await fetch(b.proxy.url, { method: "POST", body: "next" })).status, 200);
  assert.deepEqual(b.app.seen.map(({ url }) => url), ["/"]);
});

test("a held request whose client ends its side is told so, and never executed", async (t) => {
  const b = await startNode(t, { name: "b", role: "follower", holdMs: LONG_MS });
  const client = await rawClient(t, b.proxy.port);
  client.socket.write("POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
  await until("the write to be held", () => heldNow(b) === 1);
  client.socket.end();
  await client.closed;
  assert.match(client.text(), /^HTTP\/1\.1 503 [^]*ended its side[^]*was not executed/);
  b.engine.set({ role: "primary" });
  assert.equal((await fetch(b.proxy.url, { method: "POST", body: "next" })).status, 200);
  assert.deepEqual(b.app.seen.map(({ url }) => url), ["/"]);
});

test("a body larger than what is kept is held unread and arrives whole", async (t) => {
  const b = await startNode(t, { name: "b", role: "follower", holdMs: LONG_MS, limits: { keptBodyBytes: 1_000, keptBytes: 1_000 } });
  const body = Buffer.alloc(3 << 20, "x").toString();
  const write = fetch(b.proxy.url, { method: "POST", body });
  await until("the write to be held", () => heldNow(b) === 1);
  b.engine.set({ role: "primary" });
  assert.equal((await write).status, 200);
  assert.equal(b.app.seen.at(-1)!.body.length, body.length);
});

test("a node that says \"not the primary\" has not touched the request, which goes to the next primary, body and all", async (t) => {
  const c = await startNode(t, { name: "c", role: "primary", epoch: 2 });
  // A former primary: it knows already that it is not, and the others do not.
  const a = await startNode(t, { name: "a", role: "follower" });
  const b = await startNode(t, { name: "b", role: "follower", holdMs: LONG_MS, primary: { name: "a", proxy: a.proxy.url } });
  const writes = ["POST", "PATCH", "PUT"].map((method) => fetch(`${b.proxy.url}/w`, { method, body: `body of ${method}` }));
  await until("all to be refused there", () => (b.proxy.metrics()?.resends["refused"] ?? 0) >= 3);
  b.engine.set({ primary: { name: "c", proxy: c.proxy.url }, epoch: 2 });
  for (const response of await Promise.all(writes)) assert.deepEqual([response.status, response.headers.get("sluice-node")], [200, "c"]);
  assert.deepEqual(c.app.seen.map(({ body }) => body).sort(), ["body of PATCH", "body of POST", "body of PUT"]);
  assert.equal(a.app.seen.length, 0);
});

test("a body that was sent beyond what is kept is not sent again: the refusal reaches the client", async (t) => {
  const a = await startNode(t, { name: "a", role: "follower" });
  const b = await startNode(t, { name: "b", role: "follower", holdMs: LONG_MS, primary: { name: "a", proxy: a.proxy.url }, limits: { keptBodyBytes: 1_000 } });
  const response = await fetch(b.proxy.url, { method: "POST", body: "x".repeat(200_000) });
  assert.equal(response.status, 503);
  assert.match(await response.text(), /not the primary; the request was not executed/);
});

test("a primary that refuses connections is tried again until it is back", async (t) => {
  const a = await startNode(t, { name: "a", role: "primary" });
  const b = await startNode(t, { name: "b", role: "follower", holdMs: LONG_MS, primary: { name: "a", proxy: "http://127.0.0.1:1" } });
  const write = fetch(b.proxy.url, { method: "POST", body: "once" });
  await until("it to be tried", () => (b.proxy.metrics()?.resends["unsent"] ?? 0) >= 2);
  b.engine.set({ primary: { name: "a", proxy: a.proxy.url } });
  assert.equal((await write).status, 200);
  assert.deepEqual(a.app.seen.map(({ body }) => body), ["once"]);
});

test("an application that restarts costs nobody an error whose request was not sent or is idempotent", async (t) => {
  const { proxy, app } = await startNode(t, { holdMs: LONG_MS, limits: { targetRestartMs: LONG_MS } });
  app.stop();
  await once(app.server, "close");
  const requests = ["GET", "POST", "PUT", "DELETE"].map((method) => fetch(proxy.url, { method, ...(method === "GET" ? {} : { body: method }) }));
  await until("all to be held", () => proxy.metrics()?.holds.now === 4);
  app.server.listen(app.port, "127.0.0.1");
  assert.deepEqual((await Promise.all(requests)).map(({ status }) => status), [200, 200, 200, 200]);
  assert.deepEqual(app.seen.map(({ method, body }) => [method, body]).sort(), [["DELETE", "DELETE"], ["GET", ""], ["POST", "POST"], ["PUT", "PUT"]]);
});

test("an application that has been away for long is not waited for", async (t) => {
  const { proxy, app } = await startNode(t, { holdMs: LONG_MS, limits: { targetRestartMs: 100 } });
  app.stop();
  await once(app.server, "close");
  assert.equal((await fetch(proxy.url)).status, 502);
  assert.equal((await fetch(proxy.url, { method: "POST", body: "x" })).status, 502);
});

/** An application on a bare socket that breaks off the first `times` requests after it has read them, and keeps what it got. */
async function breaking(t: TestContext, times: number): Promise<{ port: number; seen: string[] }> {
  const seen: string[] = [];
  const server = createTcpServer((socket) => {
    let text = "";
    t.after(() => socket.destroy());
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (!text.includes("\r\n\r\n") || !text.endsWith(/content-length: 4/i.test(text) ? "body" : "\r\n\r\n")) return;
      seen.push(text.split("\r\n", 1)[0]!);
      text = "";
      if (seen.length <= times) socket.destroy();
      else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return { port: (server.address() as AddressInfo).port, seen };
}

test("a connection that breaks off after the request was sent: idempotent ones are sent again, others never", async (t) => {
  for (const [method, attempts, status] of [["GET", 2, 200], ["PUT", 2, 200], ["DELETE", 2, 200], ["POST", 1, 502], ["PATCH", 1, 502]] as const) {
    const back = await breaking(t, 1);
    const { proxy } = await startNode(t, { target: back.port });
    const response = await fetch(`${proxy.url}/x`, { method, ...(method === "GET" ? {} : { body: "body" }) });
    assert.deepEqual([response.status, back.seen.length], [status, attempts], method);
  }
});

test("a request that breaks its application every time is not repeated for ever", async (t) => {
  const back = await breaking(t, 1_000);
  const { proxy } = await startNode(t, { target: back.port, holdMs: LONG_MS });
  assert.equal((await fetch(proxy.url)).status, 502);
  assert.ok(back.seen.length <= 4, `${back.seen.length} times`);
});

test("a read that needs a position nobody has, with no primary to ask, is held and then answered here", async (t) => {
  const b = await startNode(t, { name: "b", role: "follower", maxLagMs: 50, holdMs: LONG_MS });
  const read = fetch(b.proxy.url, { headers: { cookie: "__txid=1&app.db:1.9" } });
  await until("it to be held", () => heldNow(b) === 1);
  // The new primary's epoch says that position 1.9 will never come.
  b.engine.set({ epoch: 2, positions: { "app.db": { epoch: 2, txid: 6 } } });
  assert.deepEqual([(await read).status, (await read).headers.get("sluice-txid")], [200, "app.db=2/6"]);
});

test("pipelined requests behind a held one keep their order", async (t) => {
  const b = await startNode(t, { name: "b", role: "follower", holdMs: LONG_MS });
  const client = await rawClient(t, b.proxy.port);
  client.socket.write("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  await until("the write to be held", () => heldNow(b) === 1);
  assert.equal(b.app.seen.length, 0, "a read does not overtake the write of its own client");
  b.engine.set({ role: "primary" });
  await client.closed;
  assert.deepEqual(statuses(client.text()), [200, 200]);
  assert.deepEqual(b.app.seen.map(({ url }) => url), ["/1", "/2"]);
});

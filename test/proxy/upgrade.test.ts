/** Upgraded connections through one proxy and through two, on raw sockets: the handshake, both directions, and every way to end. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { test, type TestContext } from "node:test";
import { rawClient, rawRequest, startNode, statuses, until, type NodeOptions, type RawClient, type TestNode } from "./support.ts";

const KEY = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT = createHash("sha1").update(`${KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
const handshake = (path = "/chat", more = ""): string => `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n${more}\r\n`;

interface Opened { request: IncomingMessage; socket: Socket }

/** Makes the application accept upgrades; what comes is sent back in capitals. */
function accepting(node: TestNode): Opened[] {
  const opened: Opened[] = [];
  node.app.server.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
    opened.push({ request, socket });
    socket.on("error", () => {});
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${ACCEPT}\r\n\r\n`);
    const answer = (chunk: Buffer): void => void socket.write(chunk.toString().toUpperCase());
    if (head.length > 0) answer(head);
    socket.on("data", answer);
    socket.on("end", () => socket.end("BYE"));
  });
  return opened;
}

async function pair(t: TestContext, follower: NodeOptions = {}): Promise<{ a: TestNode; b: TestNode }> {
  const a = await startNode(t, { name: "a", role: "primary" });
  const b = await startNode(t, { name: "b", role: "follower", primary: { name: "a", proxy: a.proxy.url }, ...follower });
  return { a, b };
}

async function openChat(t: TestContext, node: TestNode, bytes = handshake()): Promise<RawClient> {
  const client = await rawClient(t, node.proxy.port);
  client.socket.write(bytes);
  await until("the handshake", () => client.text().includes("\r\n\r\n"));
  return client;
}

test("a WebSocket is opened on this node, with the fields of a read and without Sluice's cookie", async (t) => {
  const { b } = await pair(t);
  const opened = accepting(b);
  const client = await openChat(t, b, handshake("/chat?x", "Cookie: __txid=1&app.db:1.5; s=1\r\n"));
  assert.match(client.text(), new RegExp(`^HTTP/1\\.1 101 Switching Protocols\\r\\nSec-WebSocket-Accept: ${ACCEPT.replaceAll("+", "\\+")}\\r\\nSluice-Node: b\\r\\n[^]*Connection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n$`));
  const { headers, url } = opened[0]!.request;
  assert.deepEqual([url, headers.cookie, headers["x-forwarded-for"], headers["sec-websocket-key"], headers.via], ["/chat?x", "s=1", "127.0.0.1", KEY, "1.1 sluice"]);
  client.socket.write("hello");
  await until("the echo", () => client.text().endsWith("HELLO"));
  await until("it to be counted", () => b.proxy.metrics()?.tunnels === 1 && b.proxy.metrics()?.requests["local"]?.["101"] === 1);
  client.socket.destroy();
  await until("it to be gone", () => b.proxy.metrics()?.tunnels === 0);
});

test("by a rule it is opened on the primary, through both proxies", async (t) => {
  const { a, b } = await pair(t, { rules: [{ path: "/chat", to: "primary" }] });
  const opened = accepting(a);
  const client = await openChat(t, b);
  assert.match(client.text(), /^HTTP\/1\.1 101 [^]*Sluice-Node: a\r\n/);
  client.socket.write("over two");
  await until("the echo", () => client.text().endsWith("OVER TWO"));
  assert.equal(opened[0]!.request.headers.via, "1.1 sluice, 1.1 sluice");
});

test("what the client sends behind its head arrives, and large amounts go both ways", async (t) => {
  const { b } = await pair(t);
  accepting(b);
  const client = await openChat(t, b, `${handshake()}early`);
  await until("the early bytes", () => client.text().endsWith("EARLY"));
  const big = Buffer.alloc(8 << 20, "x");
  client.socket.write(big);
  await until("all of it", () => client.text().length > big.length);
  await until("exactly it", () => client.text().slice(client.text().indexOf("EARLY") + 5) === big.toString().toUpperCase());
});

test("the end of one direction leaves the other open", async (t) => {
  const { b } = await pair(t);
  accepting(b);
  const client = await openChat(t, b);
  client.socket.end("last");
  await client.closed;
  assert.match(client.text(), /LASTBYE$/);
});

test("a break on either side breaks the other", async (t) => {
  const { b } = await pair(t);
  const opened = accepting(b);
  const first = await openChat(t, b);
  opened[0]!.socket.resetAndDestroy();
  await first.closed;
  const second = await openChat(t, b);
  let closed = false;
  opened[1]!.socket.on("close", () => (closed = true));
  second.socket.resetAndDestroy();
  await until("the application to see it", () => closed);
});

test("an application that does not upgrade answers as to any request, and the connection ends", async (t) => {
  const { b } = await pair(t);
  b.app.server.on("upgrade", (_request: IncomingMessage, socket: Socket) => void socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nX-Why: no\r\n\r\nno"));
  const text = await rawRequest(t, b.proxy.port, `${handshake()}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n`);
  assert.deepEqual(statuses(text), [403]);
  assert.match(text, /X-Why: no\r\n[^]*Connection: close\r\n\r\nno$/);
  assert.equal(b.app.seen.length, 0);
});

test("an upgrade waits for its client's position, is held for a primary, and can be replayed there", async (t) => {
  const { a, b } = await pair(t, { maxLagMs: 60_000 });
  accepting(a);
  accepting(b);
  const waiting = await rawClient(t, b.proxy.port);
  waiting.socket.write(handshake("/chat", "Cookie: __txid=1&app.db:1.6\r\n"));
  await until("the wait", () => b.engine.waits === 1);
  b.engine.set({ positions: { "app.db": { epoch: 1, txid: 6 } } });
  await until("101", () => waiting.text().startsWith("HTTP/1.1 101"));

  const c = await startNode(t, { name: "c", role: "follower", holdMs: 60_000 });
  c.app.server.on("upgrade", (_request: IncomingMessage, socket: Socket) => void socket.end("HTTP/1.1 409 Conflict\r\nSluice-Replay: primary\r\nContent-Length: 0\r\n\r\n"));
  const replayed = await rawClient(t, c.proxy.port);
  replayed.socket.write(handshake());
  await until("it to be held", () => c.proxy.metrics()?.holds.now === 1);
  c.engine.set({ primary: { name: "a", proxy: a.proxy.url } });
  await until("101 from the primary", () => /^HTTP\/1\.1 101 [^]*Sluice-Node: a\r\n/.test(replayed.text()));
});

test("without a primary, an upgrade that needs one is refused with 503, a sentence and Retry-After", async (t) => {
  const b = await startNode(t, { name: "b", role: "follower", holdMs: 100, rules: [{ path: "/chat", to: "primary" }] });
  const text = await rawRequest(t, b.proxy.port, handshake());
  assert.deepEqual(statuses(text), [503]);
  assert.match(text, /Retry-After: 2\r\n[^]*No primary is known/);
});

test("an upgrade with a body is no upgrade", async (t) => {
  const { b } = await pair(t);
  const opened = accepting(b);
  const text = await rawRequest(t, b.proxy.port, handshake("/x", "Content-Length: 5\r\n").concat("hello"), (got) => got.includes("GET /x"));
  assert.deepEqual([statuses(text), opened.length, b.app.seen[0]!.body, b.app.seen[0]!.headers.upgrade], [[200], 0, "hello", undefined]);
});

test("an upgrade behind other requests of its connection waits for their answers", async (t) => {
  const { b } = await pair(t);
  const opened = accepting(b);
  const release = Promise.withResolvers<void>();
  b.app.handler = async (_request, response) => {
    await release.promise;
    response.end("first");
  };
  const client = await rawClient(t, b.proxy.port);
  client.socket.write(`GET /slow HTTP/1.1\r\nHost: a\r\n\r\n${handshake()}`);
  await until("the first to run", () => b.app.seen.length === 1);
  assert.equal(opened.length, 0);
  release.resolve();
  await until("both answers", () => client.text().includes("101"));
  assert.deepEqual(statuses(client.text()), [200, 101]);
  client.socket.write("still");
  await until("the echo", () => client.text().endsWith("STILL"));
});

test("a stop ends upgraded connections when nothing else runs", async (t) => {
  const { b } = await pair(t);
  accepting(b);
  const client = await openChat(t, b);
  b.proxy.child.kill("SIGTERM");
  await client.closed;
  assert.equal(await b.proxy.exit(), 0);
});

test("a silent tunnel is cut", async (t) => {
  const { b } = await pair(t, { limits: { tunnelIdleMs: 300 } });
  accepting(b);
  const client = await openChat(t, b);
  await client.closed;
});

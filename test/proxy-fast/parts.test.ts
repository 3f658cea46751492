/**
 * The parts of the fast path that need no connection: its grammar of heads, the follower of chunked bodies, the wheel of deadlines.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ChunkFollower } from "../../proxy/fast-chunks.ts";
import { fieldList, keptFields, keptRequest, readRequestHead, readResponseHead } from "../../proxy/fast-head.ts";
import { TICK_MS, Wheel, type Timed } from "../../proxy/fast-wheel.ts";
import { Random } from "../support/random.ts";

const request = (text: string): ReturnType<typeof readRequestHead> => readRequestHead(text, text.indexOf("\r\n\r\n"), 100);
const response = (text: string, toHead = false): ReturnType<typeof readResponseHead> => readResponseHead(text, text.indexOf("\r\n\r\n"), toHead);

test("a plain GET is understood, with its target, Host, cookie and wish to close", () => {
  const text = "GET /a/b?c=d HTTP/1.1\r\nHost: example.org:80\r\naccept: */*\r\nconnection: Close\r\nCookie:  a=b; c=d \r\nX-Y: \xe9\r\n\r\nnext";
  const head = request(text)!;
  assert.equal(head.method, "GET");
  assert.equal(head.target, "/a/b?c=d");
  assert.equal(head.host, "example.org:80");
  assert.equal(head.cookie, "a=b; c=d");
  assert.equal(head.close, true);
  assert.equal(head.plain, true);
  const kept = "GET /a/b?c=d HTTP/1.1\r\nHost: example.org:80\r\naccept: */*\r\n";
  assert.equal(keptRequest(text, head, "a=b; c=d"), `${kept}Cookie:  a=b; c=d \r\nX-Y: \xe9\r\n`);
  assert.equal(keptRequest(text, head, "a=b"), `${kept}Cookie: a=b\r\nX-Y: \xe9\r\n`);
  assert.equal(keptRequest(text, head, undefined), `${kept}X-Y: \xe9\r\n`);
  assert.deepEqual(fieldList(text, text.indexOf("\r\n") + 2, head.fieldsEnd).slice(0, 4), ["Host", "example.org:80", "accept", "*/*"]);
});

test("fields that the proxy writes anew are noticed", () => {
  for (const name of ["X-Forwarded-For", "x-forwarded-proto", "Via", "Forwarded", "X-Request-Id"]) {
    assert.equal(request(`HEAD / HTTP/1.1\r\nHost: a\r\n${name}: x\r\n\r\n`)?.plain, false, name);
  }
});

test("whatever is not plainly a read is left to the general path", () => {
  const fields = (text: string): string => `GET / HTTP/1.1\r\nHost: a\r\n${text}\r\n\r\n`;
  const left = [
    "POST / HTTP/1.1\r\nHost: a\r\n\r\n", "get / HTTP/1.1\r\nHost: a\r\n\r\n", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", "GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /\\x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\nHost: a\r\n\r\n", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nX: a\r\n\r\n",
    fields("Host: a"), fields("hOST: b"), fields("Host : b"), fields(" Host: b"), fields("X: a\r\n folded"), fields("X: a\r\n\tfolded"), fields("X: a\nY: b"), fields("X: a\rY: b"), fields("X: a\0b"),
    fields("X: \x7f"), fields("X"), fields(": x"), fields("X Y: z"), fields("X_Y: z"), fields("Content_Length: 5"), fields("Content-Length: 0"), fields("Content-Length: 5"), fields("Transfer-Encoding: chunked"),
    fields("TRANSFER-ENCODING: identity"), fields("Connection: upgrade"), fields("Connection: keep-alive, x"), fields("Connection: close\r\nConnection: close"), fields("Upgrade: websocket"),
    fields("Expect: 100-continue"), fields("TE: trailers"), fields("Trailer: x"), fields("Keep-Alive: 5"), fields("Proxy-Connection: x"), fields("Proxy-Authorization: x"), fields("HTTP2-Settings: x"),
    fields("Cookie: a=b\r\nCookie: c=d"), fields("Sluice-Consistency: strong"), fields("sluice-hop: a;1"), "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    `GET / HTTP/1.1\r\nHost: a\r\n${"X: y\r\n".repeat(100)}\r\n`,
  ];
  for (const text of left) assert.equal(request(text), undefined, JSON.stringify(text));
  assert.notEqual(request(fields("X-Y: z")), undefined);
});

test("the end of a response is known from its head, or the head is not understood", () => {
  const framing = (fields: string, status = "200 OK", toHead = false): string | undefined => response(`HTTP/1.1 ${status}\r\n${fields}\r\n`, toHead)?.framing;
  assert.equal(framing("Content-Length: 5\r\n"), "length");
  assert.equal(framing("Content-Length: 5\r\n", "200 OK", true), "none");
  assert.equal(framing("Content-Length: 5\r\n", "304 Not Modified"), "none");
  assert.equal(framing("Content-Length: 5\r\n", "204"), "none");
  assert.equal(framing("Transfer-Encoding: chunked\r\n"), "chunked");
  assert.equal(framing(""), "close");
  for (const fields of ["Content-Length: 5\r\nContent-Length: 5\r\n", "Content-Length: 5, 5\r\n", "Content-Length: +5\r\n", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "X: a\r\n b\r\n", "X : a\r\n", "X: a\nY: b\r\n"]) assert.equal(framing(fields), undefined, JSON.stringify(fields));
  assert.equal(framing("Transfer-Encoding: chunked\r\n", "204 No Content"), undefined);
  assert.equal(response("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n")!.keepAlive, false);
  assert.equal(response("HTTP/1.1 100 Continue\r\n\r\n"), undefined);
  const text = "HTTP/1.1 200 OK\r\nA: b\r\nConnection: keep-alive\r\nKeep-Alive: timeout=7\r\nContent-Length: 5\r\n\r\n";
  const head = response(text)!;
  assert.equal(keptFields(text, head), "A: b\r\nContent-Length: 5\r\n");
  assert.deepEqual([head.keepAlive, head.idleSeconds, head.plain], [true, 7, true]);
});

test("a chunked body ends at the same byte however it is cut into pieces", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1e9);
  const random = new Random(seed);
  for (let round = 0; round < 300; round++) {
    let body = "";
    for (let i = random.below(5); i > 0; i--) {
      const size = 1 + random.below(40);
      const digits = random.below(2) === 0 ? size.toString(16) : `00${size.toString(16).toUpperCase()}`;
      body += `${digits}${random.below(4) === 0 ? ";name=value" : ""}\r\n${"\r\n0;".repeat(10).slice(0, size)}\r\n`;
    }
    body += "0\r\n";
    const hasTrailers = random.below(3) === 0;
    const bytes = Buffer.from(`${body}${hasTrailers ? "A: b\r\n\r\n" : "\r\n"}rest`);
    const follower = new ChunkFollower();
    let at = 0;
    while (at < bytes.length && !follower.over && !follower.trailers) {
      assert.equal(follower.fault, false, `SEED=${seed}, round ${round}`);
      const to = Math.min(bytes.length, at + 1 + random.below(9));
      at = follower.read(bytes, at, to);
    }
    assert.equal(follower.trailers, hasTrailers, `SEED=${seed}, round ${round}`);
    assert.equal(at, body.length + (hasTrailers ? 0 : 2), `SEED=${seed}, round ${round}`);
  }
});

test("a chunked body with another line end, sign, or a size beyond bounds is a fault", () => {
  for (const text of ["5\nhello\r\n", "5 \r\nhello\r\n", "+5\r\nhello\r\n", "0x5\r\nhello\r\n", "\r\n", ";x\r\n", "5\r\nhello0\r\n", "5\r\nhello\n0\r\n", "5\r\rhello", "11111111111111\r\n", `5;${"x".repeat(300)}\r\n`, "5;\0\r\n", "0\r\n\rx"]) {
    const follower = new ChunkFollower();
    follower.read(Buffer.from(text, "latin1"), 0, text.length);
    assert.equal(follower.fault, true, JSON.stringify(text));
  }
});

test("deadlines come in their order, may be put off and moved up, and not after a removal", async (t) => {
  const wheel = new Wheel();
  t.after(() => wheel.stop());
  const order: string[] = [];
  const entry = (name: string): Timed => ({ due: 0, slot: 0, previous: undefined, next: undefined, expired: () => void order.push(name) });
  const [soon, putOff, movedUp, removed, again] = ["soon", "put off", "moved up", "removed", "again"].map(entry) as [Timed, Timed, Timed, Timed, Timed];
  wheel.set(putOff, TICK_MS);
  wheel.set(putOff, 6 * TICK_MS);
  wheel.set(movedUp, 3_600_000);
  wheel.set(movedUp, 3 * TICK_MS);
  wheel.set(removed, TICK_MS);
  wheel.set(soon, TICK_MS);
  wheel.set(again, 3_600_000);
  wheel.remove(removed);
  assert.equal(wheel.entries().length, 4);
  while (order.length < 3) await sleep(TICK_MS);
  await sleep(2 * TICK_MS);
  assert.deepEqual(order, ["soon", "moved up", "put off"]);
  assert.deepEqual(wheel.entries(), [again]);
});

/** HTTP messages through the proxy, on raw sockets: framing, fields, and what must be refused. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createTcpServer, type AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import { rawClient, rawRequest, startNode, statuses, until } from "./support.ts";

/** A back end on a bare socket that keeps the bytes it got and answers each head with `response`. */
async function bareBackEnd(t: TestContext, response: string | ((head: string) => string)): Promise<{ port: number; text: () => string; connections: () => number }> {
  let text = "";
  let connections = 0;
  const server = createTcpServer((socket) => {
    connections++;
    t.after(() => socket.destroy());
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (text.endsWith("\r\n\r\n")) socket.write(Buffer.from(typeof response === "string" ? response : response(text), "latin1"));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return { port: (server.address() as AddressInfo).port, text: () => text, connections: () => connections };
}

test("a chunked body of any method arrives as one chunked body, never as a second request", async (t) => {
  const { proxy, app } = await startNode(t);
  const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
  for (const method of ["DELETE", "OPTIONS", "GET", "HEAD", "POST", "PUT", "PATCH", "TRACE"]) {
    app.seen.splice(0);
    const chunk = `${smuggled.length.toString(16)}\r\n${smuggled}\r\n0\r\n\r\n`;
    const text = await rawRequest(t, proxy.port, `${method} /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    assert.deepEqual(statuses(text), [200, 200], method);
    assert.deepEqual(app.seen.map(({ method: seen, url, body }) => [seen, url, body]), [[method, "/x", smuggled], ["GET", "/next", ""]]);
    assert.equal(app.seen[0]!.headers["content-length"], undefined);
    assert.equal(app.seen[0]!.headers["transfer-encoding"], "chunked");
  }
  assert.equal(app.parseErrors, 0);
});

test("a body with a length keeps its length on any method, and an empty one stays empty", async (t) => {
  const { proxy, app } = await startNode(t);
  for (const method of ["DELETE", "OPTIONS", "GET", "POST"]) {
    app.seen.splice(0);
    const text = await rawRequest(t, proxy.port, `${method} /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello${method} /y HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
    assert.deepEqual(statuses(text), [200, 200]);
    assert.deepEqual(app.seen.map(({ url, body }) => [url, body]), [["/x", "hello"], ["/y", ""]]);
    assert.equal(app.seen[0]!.headers["content-length"], "5");
  }
});

test("a short body arrives whole, with its length, whether it comes with its head or after it", async (t) => {
  const { proxy, app } = await startNode(t);
  const body = "\0\xff".repeat(4_096);
  const head = (path: string): string => `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n`;
  const client = await rawClient(t, proxy.port);
  client.socket.write(`${head("/with")}${body}`, "latin1");
  await until("the first answer", () => statuses(client.text()).length === 1);
  client.socket.write(`${head("/raw")}${body.slice(0, 1)}`, "latin1");
  // Its application is asked before the body is complete: the proxy has not waited for the rest.
  app.handler = (request, response) => void request.setEncoding("latin1").on("data", (text: string) => (app.seen.at(-1)!.body += text)).on("end", () => response.end());
  await until("the application to be asked", () => app.seen.length === 2);
  client.socket.write(body.slice(1), "latin1");
  await until("the second answer", () => statuses(client.text()).length === 2);
  assert.deepEqual(statuses(client.text()), [200, 200]);
  assert.deepEqual(app.seen.map(({ url, headers }) => [url, headers["content-length"], headers["transfer-encoding"]]), ["/with", "/raw"].map((path) => [path, String(body.length), undefined]));
  assert.deepEqual(app.seen.map((one) => one.body === body), [true, true]);
});

test("what two parsers could read differently is refused, and nothing of it reaches the application", async (t) => {
  const { proxy, app } = await startNode(t);
  const host = "Host: a\r\n";
  const cases: [string, string, number][] = [
    ["two hosts", `GET / HTTP/1.1\r\n${host}${host}\r\n`, 400],
    ["no host", "GET / HTTP/1.1\r\n\r\n", 400],
    ["length and coding", `POST / HTTP/1.1\r\n${host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    ["coding and length", `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`, 400],
    ["two lengths", `POST / HTTP/1.1\r\n${host}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello`, 400],
    ["list of lengths", `POST / HTTP/1.1\r\n${host}Content-Length: 5, 5\r\n\r\nhello`, 400],
    ["signed length", `POST / HTTP/1.1\r\n${host}Content-Length: +5\r\n\r\nhello`, 400],
    ["unknown coding", `POST / HTTP/1.1\r\n${host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`, 400],
    ["two codings", `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`, 400],
    ["coding before chunked", `POST / HTTP/1.1\r\n${host}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`, 400],
    ["coding in HTTP/1.0", `POST / HTTP/1.0\r\n${host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    ["space before colon", `POST / HTTP/1.1\r\n${host}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`, 400],
    ["obs-fold", `GET / HTTP/1.1\r\n${host}X: a\r\n b\r\n\r\n`, 400],
    ["bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400],
    ["bare CR in a value", `GET / HTTP/1.1\r\n${host}X: a\rb\r\n\r\n`, 400],
    ["NUL in a value", `GET / HTTP/1.1\r\n${host}X: a\0b\r\n\r\n`, 400],
    ["underscore that collides", `GET / HTTP/1.1\r\n${host}X_Forwarded_For: 1.2.3.4\r\n\r\n`, 400],
    ["another host in the target", `GET http://b/ HTTP/1.1\r\n${host}\r\n`, 400],
    ["fragment", `GET /a#b HTTP/1.1\r\n${host}\r\n`, 400],
    ["HTTP/0.9", `GET / HTTP/0.9\r\n${host}\r\n`, 505],
    ["HTTP/2.0", `GET / HTTP/2.0\r\n${host}\r\n`, 505],
    ["unknown version", `GET / HTTP/1.2\r\n${host}\r\n`, 400],
    ["unknown expectation", `POST / HTTP/1.1\r\n${host}Expect: miracles\r\nContent-Length: 1\r\n\r\nx`, 417],
    ["not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400],
    ["tunnel", `CONNECT a:443 HTTP/1.1\r\n${host}\r\n`, 501],
  ];
  for (const [name, bytes, status] of cases) {
    const text = await rawRequest(t, proxy.port, `${bytes}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n`);
    assert.deepEqual(statuses(text).slice(0, 1), [status], `${name}: ${text}`);
    assert.match(text, /\r\nsluice-request-id: /i, name);
    assert.deepEqual(app.seen, [], name);
  }
});

test("a bad chunk in a body cuts the request to the application instead of ending it", async (t) => {
  const { proxy, app } = await startNode(t);
  app.raw = /./;
  let ended = false;
  app.handler = (request) => void request.resume().on("end", () => (ended = true));
  const client = await rawClient(t, proxy.port);
  client.socket.write("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
  await until("the request to arrive", () => app.seen.length === 1);
  client.socket.write("zz\r\nmore\r\n0\r\n\r\n");
  await client.closed;
  assert.deepEqual(statuses(client.text()), [400]);
  await until("the application to see the break", () => app.aborted === 1);
  assert.equal(ended, false);
});

test("rubbish behind a good request does not take its answer's place", async (t) => {
  const { proxy, app } = await startNode(t);
  const release = Promise.withResolvers<void>();
  app.handler = async (_request, response) => {
    await release.promise;
    response.end("the answer");
  };
  const client = await rawClient(t, proxy.port);
  client.socket.write("GET /good HTTP/1.1\r\nHost: a\r\n\r\nrubbish rubbish\r\n\r\n");
  await until("the good one to arrive", () => app.seen.length === 1);
  release.resolve();
  await client.closed;
  assert.equal(statuses(client.text())[0], 200);
  assert.match(client.text(), /the answer/);
});

test("fields of one connection end at the proxy, in both directions", async (t) => {
  const { proxy, app } = await startNode(t);
  app.handler = (_request, response) => {
    response.writeHead(200, { Connection: "close, X-Private", "X-Private": "1", "Keep-Alive": "timeout=1", "X-Public": "1", "Proxy-Authenticate": "Basic" });
    response.end("ok");
  };
  const text = await rawRequest(t, proxy.port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop, Cookie\r\nX-Hop: 1\r\nCookie: s=1\r\nKeep-Alive: timeout=9\r\nTE: trailers\r\n\r\n", (got) => got.includes("ok\r\n"));
  assert.deepEqual(statuses(text), [200]);
  assert.match(text, /x-public: 1/i);
  assert.doesNotMatch(text, /x-private|proxy-authenticate|timeout=1\r/i);
  const { headers } = app.seen[0]!;
  assert.deepEqual([headers["x-hop"], headers["keep-alive"], headers["te"], headers.cookie], [undefined, undefined, undefined, "s=1"]);
  assert.deepEqual([headers["x-forwarded-for"], headers["x-forwarded-proto"], headers["x-forwarded-host"], headers.via], ["127.0.0.1", "http", "a", "1.1 sluice"]);
});

test("fields keep their bytes, order and repetitions in both directions", async (t) => {
  const { proxy, app } = await startNode(t);
  app.handler = (_request, response) => {
    response.writeHead(200, "Quite Fine", ["X-One", "1", "x-two", "\u00e4", "X-One", "2", "Set-Cookie", "a", "Set-Cookie", "b", "Content-Length", "0"]);
    response.end();
  };
  const text = await rawRequest(t, proxy.port, "GET / HTTP/1.1\r\nhOsT: a\r\nX-A: 1\r\nx-b: \xe4\r\nX-A: 2\r\nConnection: close\r\n\r\n");
  assert.match(text, /^HTTP\/1\.1 200 Quite Fine\r\nX-One: 1\r\nx-two: \u00e4\r\nX-One: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n/);
  assert.deepEqual(app.seen[0]!.rawHeaders.filter((name) => /^x-[ab]$/i.test(name)), ["X-A", "x-b", "X-A"]);
  assert.equal(app.seen[0]!.headers["x-b"], "\u00e4");
});

test("responses without a body have none, and keep-alive goes on after them", async (t) => {
  const { proxy, app } = await startNode(t);
  app.handler = (request, response) => {
    if (request.url === "/204") response.writeHead(204).end();
    else if (request.url === "/304") response.writeHead(304, { ETag: '"x"' }).end();
    else response.writeHead(200, { "Content-Length": "1000" }).end(request.method === "HEAD" ? undefined : "x".repeat(1000));
  };
  const text = await rawRequest(t, proxy.port, ["GET /204", "GET /304", "HEAD /1000", "POST /204", "DELETE /204"].map((line) => `${line} HTTP/1.1\r\nHost: a\r\n\r\n`).join("")
    + "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  assert.deepEqual(statuses(text), [204, 304, 200, 204, 204, 200]);
  assert.equal(text.match(/Content-Length: 1000/gi)?.length, 2);
  assert.match(text, /\r\n\r\nx{1000}$/);
  assert.doesNotMatch(text.slice(0, text.lastIndexOf("HTTP/1.1 200")), /chunked/i);
});

test("Early Hints and trailers reach the client", async (t) => {
  const { proxy, app } = await startNode(t);
  app.handler = (_request, response) => {
    response.writeEarlyHints({ link: "</a.css>; rel=preload" });
    response.writeHead(200, { Trailer: "X-Sum" });
    response.write("body");
    response.addTrailers({ "X-Sum": "42" });
    response.end();
  };
  const text = await rawRequest(t, proxy.port, "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n");
  assert.deepEqual(statuses(text), [103, 200]);
  assert.match(text, /^link: <\/a\.css>; rel=preload\r$/im);
  assert.match(text, /\r\n4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n$/);
});

test("HTTP/1.0 clients get bodies without chunks, and the connection ends with them", async (t) => {
  const { proxy, app } = await startNode(t);
  app.handler = (_request, response) => {
    response.write("one ");
    response.end("two");
  };
  const text = await rawRequest(t, proxy.port, "GET / HTTP/1.0\r\n\r\n");
  assert.doesNotMatch(text, /transfer-encoding/i);
  assert.match(text, /\r\n\r\none two$/);
  assert.equal(app.seen[0]!.headers.via, "1.0 sluice");
});

test("100 Continue is said only once the request has somewhere to go", async (t) => {
  const { proxy, app, engine } = await startNode(t);
  const head = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
  const client = await rawClient(t, proxy.port);
  client.socket.write(head);
  await until("100", () => client.text().startsWith("HTTP/1.1 100 Continue\r\n\r\n"));
  client.socket.write("hello");
  await until("200", () => statuses(client.text()).includes(200));
  assert.equal(app.seen[0]!.body, "hello");
  assert.equal(app.seen[0]!.headers.expect, undefined);

  const large = await rawRequest(t, proxy.port, `POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: ${2 ** 40}\r\nExpect: 100-continue\r\n\r\n`);
  assert.deepEqual(statuses(large), [413]);
  engine.set({ role: "candidate" });
  await until("the candidate to refuse", async () => statuses(await rawRequest(t, proxy.port, head, (text) => text.startsWith("HTTP/1.1 100")))[0] === 503);
});

test("other upgrades than WebSocket are ignored, as a server may", async (t) => {
  const { proxy, app } = await startNode(t);
  const text = await rawRequest(t, proxy.port, "GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", (got) => got.includes("GET /x"));
  assert.deepEqual(statuses(text), [200]);
  assert.deepEqual([app.seen[0]!.headers.upgrade, app.seen[0]!.headers["http2-settings"]], [undefined, undefined]);
});

test("OPTIONS * is answered here, absolute form of the same host is understood", async (t) => {
  const { proxy, app } = await startNode(t);
  const text = await rawRequest(t, proxy.port, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nGET http://A/x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  assert.deepEqual(statuses(text), [204, 200]);
  assert.deepEqual(app.seen.map(({ url }) => url), ["/x?y"]);
});

test("a head that the application may not send becomes 502", async (t) => {
  for (const bad of ["HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "rubbish\r\n\r\n", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n"]) {
    const backEnd = await bareBackEnd(t, bad);
    const { proxy } = await startNode(t, { target: backEnd.port });
    const response = await fetch(proxy.url);
    assert.equal(response.status, 502, JSON.stringify(bad));
    assert.match(await response.text(), /broke off before it answered/);
  }
});

test("connections to the application are used again", async (t) => {
  const { proxy, app } = await startNode(t);
  const before = app.connections;
  for (let i = 0; i < 20; i++) await (await fetch(`${proxy.url}/${i}`)).text();
  for (let i = 0; i < 20; i++) await (await fetch(`${proxy.url}/${i}`, { method: "POST", body: "x" })).text();
  assert.ok(app.connections - before <= 2, `${app.connections - before} new connections`);
});

test("a kept connection that the application closed at that moment costs an idempotent request nothing", async (t) => {
  // Answers the first request on each connection and resets it at the second: what a connection looks like that closes under a request.
  const counts: number[] = [];
  const server = createTcpServer((socket) => {
    let requests = 0;
    socket.on("error", () => {});
    socket.on("data", () => {
      counts.push(++requests);
      if (requests > 1) socket.resetAndDestroy();
      else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const { proxy } = await startNode(t, { target: (server.address() as AddressInfo).port, limits: { upstreamConnections: 1 } });
  assert.equal((await fetch(proxy.url)).status, 200);
  assert.equal((await fetch(proxy.url)).status, 200);
  assert.deepEqual(counts, [1, 2, 1]);
  // The general path has connections of its own.
  assert.equal((await fetch(proxy.url, { method: "OPTIONS" })).status, 200);
  // A POST on the same stale connection is not sent again: nobody knows whether it was executed.
  const post = await fetch(proxy.url, { method: "POST", body: "x" });
  assert.equal(post.status, 502);
  assert.match(await post.text(), /not known/);
  assert.deepEqual(counts.filter((count) => count === 2).length, 2);
});

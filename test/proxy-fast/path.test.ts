/**
 * The fast path in a real proxy process: what it passes on, when it hands over, and what happens when one side fails.
 *
 * That a request took the fast path shows in the connections: the general path keeps its own to the application.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createTcpServer, type AddressInfo, type Socket } from "node:net";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Application, rawClient, rawRequest, startNode, statuses, until, type TestNode } from "../proxy/support.ts";

/** Sent along, it makes a request one for the general path, which drops it. */
const GENERAL = "TE: trailers\r\n";

/** An application that speaks in bytes: `answer` gets each head. */
async function rawApplication(t: TestContext, answer: (socket: Socket, head: string) => void): Promise<number> {
  const server = createTcpServer((socket) => {
    let text = "";
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1");
      for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
        const head = text.slice(0, end);
        text = text.slice(end + 4);
        answer(socket, head);
      }
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** Response heads and bodies, without what differs from one request to the next or between the two paths. */
function comparable(text: string): string {
  return text.replace(/^(?:Date|Sluice-Request-Id|Connection|Keep-Alive|Transfer-Encoding): .*\r\n/gm, "");
}

test("both paths send the same to the application and to the client", async (t) => {
  const { proxy, app } = await startNode(t, { role: "follower", primary: { name: "b", proxy: "http://127.0.0.1:9" } });
  app.handler = (request, response) => {
    response.setHeader("Set-Cookie", ["x=1", "y=2"]);
    response.setHeader("Sluice-Forged", "1");
    response.setHeader("X-Latin", "\xe9");
    if (request.url === "/none") response.writeHead(204).end();
    else if (request.url === "/same") response.writeHead(304, { ETag: '"1"' }).end();
    else if (request.url === "/chunked") {
      response.write("one");
      response.end("two");
    } else response.end("hello");
  };
  const variants = ["", "Cookie: a=b; __txid=1&app.db:1.5; c=d\r\n", "Cookie: __txid=1&app.db:1.5\r\n", "X-Forwarded-For: 9.9.9.9\r\nVia: 1.1 x\r\nForwarded: for=9.9.9.9\r\n", "X-Request-Id: mine\r\n", "Connection: keep-alive\r\nX-B: \xe9  \r\n"];
  for (const method of ["GET", "HEAD"]) {
    for (const path of ["/", "/none", "/same", "/chunked"]) {
      for (const fields of variants) {
        const at = app.seen.length;
        const texts: string[] = [];
        for (const extra of ["", GENERAL]) {
          const client = await rawClient(t, proxy.port);
          client.socket.write(Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: h\r\n${fields}${extra}\r\n`, "latin1"));
          // A second request shows where the first response ended.
          await until("the response", () => /\r\n\r\n(?:hello$|.*0\r\n\r\n$|$)/s.test(client.text()));
          client.socket.write(`GET /end HTTP/1.1\r\nHost: h\r\n${extra}\r\n`);
          await until("the end", () => client.text().endsWith("hello") && statuses(client.text()).length === 2);
          texts.push(client.text());
          client.socket.destroy();
        }
        const where = `${method} ${path} ${JSON.stringify(fields)}`;
        assert.equal(comparable(texts[0]!), comparable(texts[1]!), where);
        // The general path's client writes "host" small.
        const [fast, , general] = app.seen.slice(at).map(({ rawHeaders }) => rawHeaders.map((item, i) => (i % 2 === 0 ? item.toLowerCase() : item))
          .filter((_item, i, all) => !["x-request-id", "connection"].includes(all[i - (i % 2)]!)));
        assert.deepEqual(fast, general, where);
      }
    }
  }
});

test("pipelined requests are answered in order, whichever path they need", async (t) => {
  const { proxy, app } = await startNode(t);
  app.handler = async (request, response, seen) => {
    await sleep(request.url === "/0" ? 30 : 1);
    response.end(`<${request.url} ${seen.body}>`);
  };
  const text = await rawRequest(t, proxy.port, "GET /0 HTTP/1.1\r\nHost: h\r\n\r\nHEAD /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"
    + "POST /3 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /4 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /5 HTTP/1.1\r\nHost: h\r\n\r\n");
  assert.deepEqual([...text.matchAll(/<[^>]*>/g)].map(String), ["</0 >", "</2 >", "</3 abc>", "</4 >"]);
  assert.deepEqual(app.seen.map(({ url }) => url), ["/0", "/1", "/2", "/3", "/4"]);
});

test("a request that comes byte by byte arrives whole, on either path", async (t) => {
  const { proxy, app } = await startNode(t);
  for (const cut of [1, 3, 40]) {
    const client = await rawClient(t, proxy.port);
    const bytes = `GET /x HTTP/1.1\r\nHost: h\r\nCookie: ${"c".repeat(200)}\r\n\r\n`;
    for (let at = 0; at < bytes.length; at += cut) {
      client.socket.write(bytes.slice(at, at + cut));
      await sleep(1);
    }
    await until("the response", () => client.text().endsWith("GET /x"));
    assert.equal(app.seen.at(-1)!.headers.cookie, "c".repeat(200));
  }
});

test("chunks, trailers, early hints, and a body that ends with its connection come through", async (t) => {
  const port = await rawApplication(t, (socket, head) => {
    const path = /^GET (\S+)/.exec(head)?.[1];
    if (path === "/trailers") socket.write("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nSluice-Txid: forged\r\n\r\n");
    else if (path === "/hints") socket.write("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    else if (path === "/close") socket.end("HTTP/1.0 200 OK\r\nX: y\r\n\r\nuntil the end");
    else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n.");
  });
  const { proxy } = await startNode(t, { target: port });
  const ask = (path: string, end: string): Promise<string> => rawRequest(t, proxy.port, `GET ${path} HTTP/1.1\r\nHost: h\r\n\r\n`, (text) => text.endsWith(end));
  const trailers = await ask("/trailers", "0\r\nX-Sum: 1\r\n\r\n");
  assert.match(trailers, /\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n$/);
  assert.doesNotMatch(trailers, /^Trailer:|forged/m);
  const hints = await ask("/hints", "ok");
  assert.match(hints, /^HTTP\/1\.1 103 Early Hints\r\nLink: <\/a>\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
  const closed = await ask("/close", "0\r\n\r\n");
  assert.match(closed, /^HTTP\/1\.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n/);
  assert.match(closed, /\r\n\r\nd\r\nuntil the end\r\n0\r\n\r\n$/);
});

test("what follows a response unasked for is never taken for the next one", async (t) => {
  let connections = 0;
  const port = await rawApplication(t, (socket, head) => {
    connections++;
    const path = /^GET (\S+)/.exec(head)?.[1];
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok${path === "/more" ? "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged" : ""}`);
  });
  const { proxy } = await startNode(t, { target: port });
  assert.equal(await (await fetch(`${proxy.url}/more`)).text(), "ok");
  for (let i = 0; i < 5; i++) assert.equal(await (await fetch(`${proxy.url}/next`)).text(), "ok");
  assert.ok(connections >= 2);
});

test("a large response reaches a slow reader whole, and is not read ahead of it", async (t) => {
  const size = 48 << 20;
  const body = Buffer.alloc(1 << 20);
  for (let i = 0; i < body.length; i++) body[i] = (i * 31 + (i >> 8)) & 255;
  const { proxy, app } = await startNode(t);
  let sent = 0;
  app.handler = async (request, response) => {
    if (request.url === "/raw-length") response.setHeader("Content-Length", size);
    for (; sent < size; sent += body.length) if (!response.write(body)) await once(response, "drain");
    response.end();
  };
  for (const path of ["/raw-length", "/raw-chunked"]) {
    sent = 0;
    const response = await fetch(`${proxy.url}${path}`);
    const reader = response.body!.getReader();
    await reader.read().then(({ value }) => assert.deepEqual(Buffer.from(value!), body.subarray(0, value!.length)));
    reader.releaseLock();
    await sleep(500);
    assert.ok(sent < size, "the application is held back while nobody reads");
    let got = 0;
    const first = response.body!.getReader();
    for (let piece = await first.read(); !piece.done; piece = await first.read()) got += piece.value.length;
    assert.ok(got > size - (1 << 20) && got < size, `${got} after the first piece`);
  }
});

test("bytes of a large response keep their values", async (t) => {
  const bytes = Buffer.alloc(3_000_000);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 9)) & 255;
  const { proxy, app } = await startNode(t);
  app.handler = (_request, response) => void response.end(bytes);
  for (let i = 0; i < 3; i++) assert.ok(Buffer.from(await (await fetch(proxy.url)).arrayBuffer()).equals(bytes));
});

test("a response that cannot be completed is cut off", async (t) => {
  const port = await rawApplication(t, (socket, head) => {
    if (head.startsWith("GET /short")) socket.end("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
    else if (head.startsWith("GET /chunks")) socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\nx");
    else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  });
  const { proxy } = await startNode(t, { target: port });
  for (const path of ["/short", "/chunks"]) await assert.rejects(async () => (await fetch(`${proxy.url}${path}`)).text(), path);
});

test("reads meet no error while the application restarts", async (t) => {
  const node: TestNode = await startNode(t);
  const { port } = node.app;
  let running = true;
  let done = 0;
  const ask = async (): Promise<void> => {
    while (running) {
      const response = await fetch(`${node.proxy.url}/x`);
      assert.equal(response.status, 200);
      await response.text();
      done++;
    }
  };
  const clients = [ask(), ask(), ask(), ask()];
  for (let round = 0; round < 3; round++) {
    const before = done;
    await until("requests to run", () => done > before + 20);
    (round === 0 ? node.app : current).stop();
    await sleep(100);
    current = await Application.start(t, port);
  }
  running = false;
  await Promise.all(clients);
});
let current: Application;

test("a stop meets no request with an error: connections end with their response", async (t) => {
  const { proxy, app } = await startNode(t);
  app.handler = async (_request, response) => {
    await sleep(20);
    response.end("hello");
  };
  const client = await rawClient(t, proxy.port);
  const quiet = await rawClient(t, proxy.port);
  let asked = 0;
  const ask = (): void => {
    asked++;
    client.socket.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  };
  ask();
  client.socket.on("data", () => {
    const text = client.text();
    if (text.endsWith("hello") && statuses(text).length === asked && !text.includes("Connection: close")) ask();
  });
  await until("some responses", () => asked > 5);
  proxy.child.kill("SIGTERM");
  await client.closed;
  await quiet.closed;
  assert.equal(statuses(client.text()).length, asked, "every request has its response");
  assert.match(client.text(), /Connection: close\r\n\r\nhello$/);
  assert.equal(await proxy.exit(), 0);
});

test("a slow head is 408, an idle connection ends, and a half-closed one gets its response", async (t) => {
  const { proxy } = await startNode(t, { limits: { headMs: 600, keepAliveMs: 900 } });
  const slow = await rawClient(t, proxy.port);
  slow.socket.write("GET / HTTP/1.1\r\nHost: h\r\n");
  await slow.closed;
  assert.deepEqual(statuses(slow.text()), [408]);
  const silent = await rawClient(t, proxy.port);
  await silent.closed;
  assert.equal(silent.text(), "");
  const idle = await rawClient(t, proxy.port);
  idle.socket.write("GET /idle HTTP/1.1\r\nHost: h\r\n\r\n");
  await idle.closed;
  assert.deepEqual(statuses(idle.text()), [200]);
  const half = await rawClient(t, proxy.port);
  half.socket.end("GET /half HTTP/1.1\r\nHost: h\r\n\r\n");
  await half.closed;
  assert.match(half.text(), /GET \/half$/);
});

test("more requests than connections to the application wait their turn", async (t) => {
  const { proxy, app } = await startNode(t, { limits: { upstreamConnections: 2 } });
  let running = 0;
  let most = 0;
  app.handler = async (_request, response) => {
    most = Math.max(most, ++running);
    await sleep(10);
    running--;
    response.end("hello");
  };
  const texts = await Promise.all(Array.from({ length: 20 }, async () => (await fetch(proxy.url)).text()));
  assert.deepEqual(new Set(texts), new Set(["hello"]));
  assert.equal(most, 2);
  await until("the counters", () => proxy.metrics()?.active === 0);
});

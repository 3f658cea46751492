/** Bodies: streamed both ways with bounded memory, broken off on both sides when one side breaks off. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { createServer as createTcpServer, type AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { rawClient, startNode, statuses, until, type ProxyProcess } from "./support.ts";

const MIB = 1 << 20;
const PIECE = Buffer.alloc(64 << 10, "0123456789abcdef");
const PIECES = (100 * MIB) / PIECE.length;
const DIGEST = ((): string => {
  const hash = createHash("sha256");
  for (let i = 0; i < PIECES; i++) hash.update(PIECE);
  return hash.digest("hex");
})();
const pieces = (): Readable => Readable.from((function* () {
  for (let i = 0; i < PIECES; i++) yield PIECE;
})());

/** Bytes of memory that the process holds, at the moment and at its highest. */
function memory(proxy: ProxyProcess, field: "VmRSS" | "VmHWM"): number {
  return Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${proxy.child.pid}/status`, "utf8"))![1]) * 1024;
}

async function digest(stream: AsyncIterable<Buffer>): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of stream) hash.update(chunk);
  return hash.digest("hex");
}

for (const framing of ["chunked", "length"] as const) {
  test(`100 MiB go up and down in one piece, ${framing}, with little memory`, async (t) => {
    const { proxy, app } = await startNode(t);
    app.handler = async (request, response) => {
      response.setHeader("X-Digest", await digest(request));
      if (framing === "length") response.setHeader("Content-Length", PIECES * PIECE.length);
      pieces().pipe(response);
    };
    const before = memory(proxy, "VmRSS");
    for (const method of ["PUT", "POST"]) {
      const request = httpRequest({ port: proxy.port, path: "/raw", method, headers: framing === "length" ? { "Content-Length": PIECES * PIECE.length } : {} });
      pieces().pipe(request);
      const [response] = (await once(request, "response")) as [IncomingMessage];
      assert.equal(response.headers["x-digest"], DIGEST);
      assert.equal(response.headers["content-length"], framing === "length" ? String(PIECES * PIECE.length) : undefined);
      assert.equal(await digest(response), DIGEST);
    }
    const grown = memory(proxy, "VmHWM") - before;
    // 400 MiB went through; buffers and garbage of the collector are a fraction of that.
    assert.ok(grown < 100 * MIB, `${Math.round(grown / MIB)} MiB more`);
  });
}

test("a client that does not read stops the application from writing", async (t) => {
  const { proxy, app } = await startNode(t);
  let written = 0;
  app.handler = (_request, response) => {
    const source = pieces();
    source.on("data", (chunk: Buffer) => (written += chunk.length));
    source.pipe(response);
  };
  const client = await rawClient(t, proxy.port);
  client.socket.pause();
  client.socket.write("GET /raw HTTP/1.1\r\nHost: a\r\n\r\n");
  let last = -1;
  await until("the flow to stop", async () => {
    await sleep(200);
    const same = written > 0 && written === last;
    last = written;
    return same;
  });
  assert.ok(written < 60 * MIB, `${written} bytes written although nobody reads`);
  client.socket.destroy();
});

test("an application that does not read stops the client from writing", async (t) => {
  const { proxy, app } = await startNode(t);
  app.handler = () => {};
  const client = await rawClient(t, proxy.port);
  client.socket.write(`POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: ${100 * MIB}\r\n\r\n`);
  let sent = 0;
  let last = -1;
  await until("the flow to stop", async () => {
    while (!client.socket.writableNeedDrain && sent < 100 * MIB) {
      client.socket.write(PIECE);
      sent += PIECE.length;
    }
    await sleep(200);
    const same = sent === last;
    last = sent;
    return same;
  });
  assert.ok(sent < 60 * MIB, `${sent} bytes sent although nobody reads`);
});

test("pipelined requests run one after another, and are not piled up behind a slow one", async (t) => {
  const { proxy, app } = await startNode(t);
  const release = Promise.withResolvers<void>();
  app.handler = async (request, response) => {
    if (request.url === "/first") await release.promise;
    response.end();
  };
  const client = await rawClient(t, proxy.port);
  client.socket.write("POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
  const more = Buffer.from("GET /more HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000));
  let sent = 0;
  let last = -1;
  await until("the proxy to read no more", async () => {
    while (!client.socket.writableNeedDrain && sent < 64 * MIB) {
      client.socket.write(more);
      sent += more.length;
    }
    await sleep(200);
    const same = sent === last;
    last = sent;
    return same;
  });
  assert.ok(sent < 32 * MIB, `${sent} bytes of requests taken`);
  assert.deepEqual(app.seen.map(({ url }) => url), ["/first"]);
  release.resolve();
  await until("the rest to be read again", () => app.seen.length > 1_500);
});

test("both directions stream at once: an echo answers before the request is complete", async (t) => {
  const { proxy, app } = await startNode(t);
  app.handler = (request, response) => void request.pipe(response);
  const request = httpRequest({ port: proxy.port, path: "/raw", method: "PUT" });
  request.write("one");
  const [response] = (await once(request, "response")) as [IncomingMessage];
  assert.equal(String((await once(response, "data"))[0]), "one");
  request.write("two");
  assert.equal(String((await once(response, "data"))[0]), "two");
  request.end();
  await once(response, "end");
});

test("the head of an event stream is there before the first event, each event at once", async (t) => {
  const { proxy, app } = await startNode(t);
  let push: (text: string) => void = () => {};
  let gone = false;
  app.handler = (_request, response) => {
    response.on("close", () => (gone = true));
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.flushHeaders();
    push = (text) => response.write(text);
  };
  const response = await fetch(`${proxy.url}/raw`);
  const reader = response.body!.getReader();
  for (const event of ["data: 1\n\n", "data: 2\n\n"]) {
    push(event);
    assert.equal(Buffer.from((await reader.read()).value!).toString(), event);
  }
  await reader.cancel();
  await until("the application to see that the reader has gone", () => gone);
});

test("a client that goes away in the middle of its request breaks the request to the application", async (t) => {
  const { proxy, app } = await startNode(t);
  for (const head of ["Content-Length: 100", "Transfer-Encoding: chunked"]) {
    const { aborted } = app;
    app.handler = (request) => void request.resume();
    const client = await rawClient(t, proxy.port);
    client.socket.write(`POST /raw HTTP/1.1\r\nHost: a\r\n${head}\r\n\r\n${head.startsWith("T") ? "5\r\nhello\r\n" : "hello"}`);
    const count = app.seen.length;
    await until("the request to arrive", () => app.seen.length > count || app.seen.length > 0);
    client.socket.destroy();
    await until("the break to arrive", () => app.aborted === aborted + 1);
    app.seen.splice(0);
  }
});

test("a client that goes away before or during the response breaks it off at the application", async (t) => {
  const { proxy, app } = await startNode(t);
  let closed = 0;
  app.handler = (request, response) => {
    response.on("close", () => closed++);
    if (request.url === "/raw-streaming") response.write("some");
  };
  for (const [index, path] of ["/raw-silent", "/raw-streaming"].entries()) {
    const client = await rawClient(t, proxy.port);
    client.socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
    await until("the request to arrive", () => app.seen.length === index + 1);
    if (index === 1) await until("the beginning", () => client.text().includes("some"));
    client.socket.destroy();
    await until("the application to see it", () => closed === index + 1);
  }
  await until("the counters", () => proxy.metrics()?.active === 0 && proxy.metrics()?.requests["local"]?.["0"] === 1);
});

test("a client that ends its side behind its last request gets all its responses; one whose response does not come is let go", async (t) => {
  const { proxy, app } = await startNode(t, { limits: { lingerMs: 60_000 } });
  const release = Promise.withResolvers<void>();
  app.handler = async (request, response, { body }) => {
    await release.promise;
    response.end(`${request.method} ${body}`);
  };
  const framed = ["Content-Length: 2\r\n\r\nhi", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"];
  const clients = await Promise.all(framed.map(async (rest) => {
    const client = await rawClient(t, proxy.port);
    client.socket.end(`POST / HTTP/1.1\r\nHost: a\r\n${rest}PUT / HTTP/1.1\r\nHost: a\r\n${rest}`);
    return client;
  }));
  await until("the first of each to run", () => app.seen.length === 2);
  release.resolve();
  for (const client of clients) {
    await client.closed;
    assert.match(client.text(), /^HTTP\/1\.1 200 [^]*POST hi[^]*HTTP\/1\.1 200 [^]*PUT hi/);
  }
  const impatient = await startNode(t, { limits: { lingerMs: 500 } });
  impatient.app.handler = () => {};
  const never = await rawClient(t, impatient.proxy.port);
  never.socket.end("POST /never HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
  await never.closed;
  assert.equal(never.text(), "");
});

test("a response that the application breaks off never looks complete", async (t) => {
  const server = createTcpServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      const path = /^GET (\S+)/.exec(chunk.toString())![1];
      if (path === "/length") socket.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
      else if (path === "/chunked") socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n");
      else socket.write("HTTP/1.1 200 OK\r\n");
      setTimeout(() => socket.destroy(), 50);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const { proxy } = await startNode(t, { target: (server.address() as AddressInfo).port });
  for (const path of ["/length", "/chunked"]) {
    const response = await fetch(proxy.url + path);
    assert.equal(response.status, 200);
    await assert.rejects(response.text(), path);
  }
  assert.equal((await fetch(`${proxy.url}/head`)).status, 502);
  // A client of HTTP/1.0 knows the end of such a body only from the end of the connection, so that has to be a reset.
  const old = await rawClient(t, proxy.port);
  const broken = once(old.socket, "error");
  old.socket.on("error", () => {});
  old.socket.write("GET /chunked HTTP/1.0\r\n\r\n");
  const [error] = (await broken) as [NodeJS.ErrnoException];
  assert.equal(error.code, "ECONNRESET");
});

test("an answer that comes before the upload is complete reaches the client", async (t) => {
  const { proxy, app } = await startNode(t);
  app.handler = (request, response) => {
    if (request.url === "/after") response.end();
    else request.once("data", () => {
      response.writeHead(401, { "Content-Length": "2" });
      response.end("no");
    });
  };
  const client = await rawClient(t, proxy.port);
  client.socket.write(`POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: ${4 * MIB}\r\n\r\n`);
  client.socket.write(Buffer.alloc(MIB));
  await until("the answer", () => client.text().endsWith("no"));
  assert.deepEqual(statuses(client.text()), [401]);
  // Whoever goes on sending to the end can use the connection again.
  client.socket.write(Buffer.alloc(3 * MIB));
  client.socket.write("GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  await client.closed;
  assert.deepEqual(statuses(client.text()), [401, 200]);
});

/** Requests that end with trailer fields: here, and over two proxies; what the application gets is looked at byte by byte. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { Readable } from "node:stream";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Application, rawClient, rawRequest, startNode, statuses, until, type NodeOptions, type TestNode } from "./support.ts";

const MIB = 1 << 20;
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

interface BareBackEnd { readonly port: number; readonly texts: string[]; readonly sockets: Socket[]; readonly over: boolean[]; stop(): void }

/** A bare socket that keeps the bytes of each connection and answers once `whole` says that a request is there. */
async function bareBackEnd(t: TestContext, whole: (text: string) => boolean, port = 0): Promise<BareBackEnd> {
  const texts: string[] = [];
  const sockets: Socket[] = [];
  const over: boolean[] = [];
  const server = createServer((socket) => {
    const index = sockets.push(socket) - 1;
    texts.push("");
    over.push(false);
    socket.on("error", () => {}).on("close", () => (over[index] = true));
    socket.on("data", (chunk: Buffer) => {
      texts[index] += chunk.toString("latin1");
      if (whole(texts[index]!)) socket.write(OK);
    });
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const stop = (): void => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  t.after(stop);
  return { port: (server.address() as AddressInfo).port, texts, sockets, over, stop };
}

/** The proxy that a client talks to: of the node whose application answers, or of a follower that sends it there. */
async function ways(t: TestContext, options: NodeOptions = {}): Promise<{ name: string; entry: TestNode; end: TestNode }[]> {
  const a = await startNode(t, { name: "a", role: "primary", ...options });
  const b = await startNode(t, { name: "b", role: "follower", primary: { name: "a", proxy: a.proxy.url }, ...options, target: options.target ?? a.app.port });
  return [{ name: "local", entry: a, end: a }, { name: "forwarded", entry: b, end: a }];
}

const post = (fields: string, trailers: string, method = "POST"): string => `${method} /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n${fields}\r\n5\r\nhello\r\n0\r\n${trailers}\r\n`;
const answered = (text: string): boolean => text.endsWith("ok");
const LAST_CHUNK = /\r\n0\r\n/;

test("announced trailers arrive behind the last chunk; others, and those that frame, route or authenticate, do not", async (t) => {
  const backEnd = await bareBackEnd(t, (text) => LAST_CHUNK.test(text) && text.endsWith("\r\n\r\n"));
  const fields = "Trailer: X-Sum, Content-Length, Cookie\r\nTrailer: Authorization, X_Forwarded_For, Sluice-Hop, X-Late\r\n";
  const trailers = "X-Sum: 1\r\nX-Other: 2\r\nx-sum: \xe4\r\nCookie: a=b\r\nAuthorization: Basic x\r\nX_Forwarded_For: 9.9.9.9\r\nSluice-Hop: z;9\r\nHost: b\r\n";
  for (const { name, entry } of await ways(t, { target: backEnd.port })) {
    for (const method of ["POST", "PUT", "DELETE", "PATCH"]) {
      backEnd.texts.fill("");
      const before = backEnd.texts.length;
      const text = await rawRequest(t, entry.proxy.port, post(fields, trailers, method), answered);
      assert.deepEqual(statuses(text), [200], `${name} ${method}`);
      assert.equal(backEnd.texts.length, before + 1, "a connection of its own");
      const [head, ...rest] = backEnd.texts.at(-1)!.split("\r\n\r\n");
      assert.deepEqual(rest, ["5\r\nhello\r\n0\r\nX-Sum: 1\r\nx-sum: \xe4", ""], `${name} ${method}`);
      assert.match(head!, /^Trailer: X-Sum, X-Late$/im);
      assert.equal(head!.match(/^transfer-encoding: chunked\r?$/gim)?.length, 1, head);
      assert.doesNotMatch(head!, /^content-length:/im);
    }
  }
});

test("without a chunked body, or without an announcement that may go on, nothing is different", async (t) => {
  for (const { entry, end } of await ways(t)) {
    for (const bytes of [
      "POST /x HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nContent-Length: 5\r\n\r\nhello", post("", "X-Sum: 1\r\n"), post("Trailer: Host\r\n", "Host: b\r\n"), post("Connection: X-Sum\r\nTrailer: X-Sum\r\n", "X-Sum: 1\r\n"),
    ]) {
      const connections = end.app.connections;
      end.app.seen.splice(0);
      end.app.handler = (_request, response) => void response.end("ok");
      assert.deepEqual(statuses(await rawRequest(t, entry.proxy.port, bytes, (text) => /ok(\r\n0\r\n\r\n)?$/.test(text))), [200], bytes);
      const { body, trailers, headers } = end.app.seen[0]!;
      assert.deepEqual([body, trailers, headers.trailer], ["hello", {}, undefined], bytes);
      assert.ok(end.app.connections - connections <= 1);
    }
  }
  // An empty body, and trailers that were announced and do not come.
  const { proxy, app } = await startNode(t);
  for (const bytes of ["POST /x HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n", post("Trailer: X-Sum\r\n", "")]) {
    assert.deepEqual(statuses(await rawRequest(t, proxy.port, bytes, (text) => text.includes("POST /x"))), [200]);
  }
  assert.deepEqual(app.seen.map(({ body, trailers }) => [body, { ...trailers }]), [["", { "x-sum": "1" }], ["hello", {}]]);
});

test("a large body keeps its trailers in both directions, and the next request on the connection is its own", async (t) => {
  for (const { name, entry, end } of await ways(t)) {
    end.app.handler = async (request, response) => {
      const hash = createHash("sha256");
      for await (const chunk of request) hash.update(chunk as Buffer);
      response.writeHead(200, { Trailer: "X-Back", "X-Digest": hash.digest("hex"), "X-Seen": String(request.trailers["x-sum"]) });
      response.write("body");
      response.addTrailers({ "X-Back": "1" });
      response.end();
    };
    const piece = Buffer.alloc(64 << 10, "0123456789abcdef");
    const hash = createHash("sha256");
    const request = httpRequest({ port: entry.proxy.port, method: "POST", path: "/raw", headers: { Trailer: "X-Sum" } });
    const source = Readable.from((function* () {
      for (let i = 0; i < 32 * 16; i++) {
        hash.update(piece);
        yield piece;
      }
    })());
    source.pipe(request, { end: false });
    source.on("end", () => {
      request.addTrailers({ "X-Sum": hash.copy().digest("hex") });
      request.end();
    });
    const [response] = (await once(request, "response")) as [IncomingMessage];
    await response.resume().toArray();
    const digest = hash.digest("hex");
    assert.deepEqual([response.statusCode, response.headers["x-digest"], response.headers["x-seen"], response.trailers["x-back"]], [200, digest, digest, "1"], name);

    const client = await rawClient(t, entry.proxy.port);
    end.app.handler = (_request, response) => void response.end("ok");
    client.socket.write(post("Trailer: X-Sum\r\n", "X-Sum: 1\r\n") + post("", "", "PUT"));
    await until("both answers", () => statuses(client.text()).length === 2);
    assert.deepEqual(end.app.seen.slice(-2).map(({ method, body, trailers }) => [method, body, { ...trailers }]), [["POST", "hello", { "x-sum": "1" }], ["PUT", "hello", {}]]);
  }
});

test("a client that goes in the middle cuts the connection, and no last chunk is ever written", async (t) => {
  const backEnd = await bareBackEnd(t, () => false);
  for (const { name, entry } of await ways(t, { target: backEnd.port })) {
    for (const end of ["gone", "bad chunk", "bad trailer"]) {
      const index = backEnd.texts.length;
      const client = await rawClient(t, entry.proxy.port);
      client.socket.write("POST /x HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
      await until("the body to arrive", () => backEnd.texts[index]?.includes("hello"));
      if (end === "gone") client.socket.destroy();
      else client.socket.write(end === "bad chunk" ? "zz\r\n" : "0\r\nX-Sum: 1\r\n 2\r\n\r\n");
      await until("the connection to be cut", () => backEnd.over[index]);
      assert.doesNotMatch(backEnd.texts[index]!, LAST_CHUNK, `${name}, ${end}`);
      if (end !== "gone") assert.deepEqual(statuses(client.text()), [400], `${name}, ${end}`);
    }
  }
});

test("an application that goes in the middle of the request or of its response leaves nothing that looks whole", async (t) => {
  const backEnd = await bareBackEnd(t, () => false);
  for (const { name, entry } of await ways(t, { target: backEnd.port })) {
    const [first, second] = [await rawClient(t, entry.proxy.port), await rawClient(t, entry.proxy.port)];
    const begin = "POST /x HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let index = backEnd.texts.length;
    first.socket.write(begin);
    await until("the body to arrive", () => backEnd.texts[index]?.includes("hello"));
    backEnd.sockets[index]!.destroy();
    await until("502", () => statuses(first.text())[0] === 502);
    assert.equal(backEnd.texts.length, index + 1, `${name}: a POST that was seen is not sent again`);

    index = backEnd.texts.length;
    second.socket.write(`${begin}0\r\nX-Sum: 1\r\n\r\n`);
    await until("the end to arrive", () => backEnd.texts[index]?.endsWith("X-Sum: 1\r\n\r\n"));
    backEnd.sockets[index]!.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\npar\r\n");
    await until("the part", () => second.text().includes("par"));
    backEnd.sockets[index]!.destroy();
    await second.closed;
    assert.doesNotMatch(second.text(), LAST_CHUNK, name);
  }
});

test("back-pressure, the bound of a body and the time for an answer hold as for other requests", async (t) => {
  const backEnd = await bareBackEnd(t, () => false);
  const head = "POST /x HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
  const { proxy } = await startNode(t, { target: backEnd.port, limits: { responseHeadMs: 1_500, connectMs: 1_000, bodyBytes: 64 * MIB } });
  const slow = await rawRequest(t, proxy.port, `${head}5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n`, (text) => text.includes("</") || text.includes("\r\n\r\n"));
  assert.deepEqual(statuses(slow), [504]);

  const large = await startNode(t, { target: backEnd.port, limits: { bodyBytes: 64 << 10, headBytes: 4 << 10 } });
  const index = backEnd.texts.length;
  const text = await rawRequest(t, large.proxy.port, `${head}20000\r\n${"x".repeat(0x20000)}\r\n0\r\n\r\n`, (got) => got.includes("\r\n\r\n"));
  assert.deepEqual(statuses(text), [413]);
  await until("the connection to be cut", () => backEnd.over[index]);
  assert.doesNotMatch(backEnd.texts[index]!, LAST_CHUNK);
  const fat = await rawRequest(t, large.proxy.port, post("Trailer: X-Sum\r\n", `X-Sum: ${"x".repeat(8 << 10)}\r\n`), (got) => got.includes("\r\n\r\n"));
  assert.ok([400, 431].includes(statuses(fat)[0]!), fat);

  const idle = await startNode(t, { name: "c" });
  idle.app.handler = () => {};
  const client = await rawClient(t, idle.proxy.port);
  client.socket.write(head.replace("/x", "/raw"));
  const piece = Buffer.concat([Buffer.from("10000\r\n"), Buffer.alloc(64 << 10, "x"), Buffer.from("\r\n")]);
  let [sent, last] = [0, -1];
  await until("the flow to stop", async () => {
    while (!client.socket.writableNeedDrain && sent < 100 * MIB) {
      client.socket.write(piece);
      sent += piece.length;
    }
    await sleep(200);
    const same = sent === last;
    last = sent;
    return same;
  });
  assert.ok(sent < 60 * MIB, `${sent} bytes sent although nobody reads`);
});

test("100 Continue comes once there is a connection, and a request waits for an application that restarts", async (t) => {
  const first = await Application.start(t);
  const { port } = first;
  const { proxy } = await startNode(t, { target: port, holdMs: 30_000, limits: { targetRestartMs: 30_000 } });
  await until("the proxy to know its role", async () => (await fetch(proxy.url)).headers.get("sluice-txid") !== null);
  first.stop();
  const client = await rawClient(t, proxy.port);
  client.socket.write("POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n");
  await until("the proxy to have tried", () => (proxy.metrics()?.resends["unsent"] ?? 0) > 0);
  assert.equal(client.text(), "");
  const second = await Application.start(t, port);
  await until("100", () => client.text().startsWith("HTTP/1.1 100 Continue\r\n\r\n"));
  client.socket.write("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n");
  await until("200", () => statuses(client.text()).includes(200));
  assert.deepEqual(second.seen.map(({ body, trailers, headers }) => [body, { ...trailers }, headers.expect]), [["hello", { "x-sum": "1" }, undefined]]);
});

test("a follower's application hands a request with trailers over, and the primary's gets them all", async (t) => {
  const a = await startNode(t, { name: "a", role: "primary" });
  const b = await startNode(t, { name: "b", role: "follower", primary: { name: "a", proxy: a.proxy.url }, rules: [{ path: "/x", to: "local" }] });
  b.app.handler = (_request, response) => void response.writeHead(409, { "Sluice-Replay": "primary" }).end();
  const text = await rawRequest(t, b.proxy.port, post("Trailer: X-Sum\r\n", "X-Sum: 1\r\n"), (got) => got.includes("POST /x"));
  assert.deepEqual(statuses(text), [200]);
  assert.deepEqual([b.app.seen, a.app.seen].map((seen) => seen.map(({ body, trailers }) => [body, { ...trailers }])), [[["hello", { "x-sum": "1" }]], [["hello", { "x-sum": "1" }]]]);
});

/** The process: start, stop, death of its guardian; the bounds that protect it; an application that is down or slow. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { forkProxy, rawClient, rawRequest, startNode, statuses, temporary, until } from "./support.ts";

test("SIGTERM finishes what runs, ends idle connections, takes no new ones, and exits 0", async (t) => {
  const { proxy, app } = await startNode(t);
  const release = Promise.withResolvers<void>();
  app.handler = async (request, response) => {
    if (request.url === "/slow") await release.promise;
    response.end("done");
  };
  const idle = await rawClient(t, proxy.port);
  idle.socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await until("the first answer", () => idle.text().includes("done"));
  const running = await rawClient(t, proxy.port);
  running.socket.write("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
  await until("the request to run", () => app.seen.some(({ url }) => url === "/slow"));
  proxy.child.kill("SIGTERM");
  await idle.closed;
  await until("the port to close", () => fetch(proxy.url).then(() => false, () => true));
  assert.equal(proxy.child.exitCode, null);
  release.resolve();
  await running.closed;
  assert.match(running.text(), /^HTTP\/1\.1 200 OK\r\n[^]*connection: close\r\n[^]*done/i);
  assert.equal(await proxy.exit(), 0);
});

test("a stop is bounded although a request never ends", async (t) => {
  const { proxy, app } = await startNode(t, { limits: { stopMs: 300 } });
  app.handler = () => {};
  const client = await rawClient(t, proxy.port);
  client.socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await until("the request to run", () => app.seen.length === 1);
  proxy.child.kill("SIGTERM");
  assert.equal(await proxy.exit(), 0);
});

test("the proxy ends when its guardian dies", async (t) => {
  const main = fileURLToPath(new URL("../../proxy/main.ts", import.meta.url));
  const config = { listen: "127.0.0.1:0", target: "127.0.0.1:1", maxLagMs: 1, engineSocket: join(temporary(t), "none.sock"), node: { name: "a" }, log: { level: "silent" } };
  // A guardian that can be killed: it starts the proxy and says its pid.
  const guardian = spawn(process.execPath, ["-e", `
    const child = require("node:child_process").fork(${JSON.stringify(main)}, [], { env: { ...process.env, SLUICE_PROXY_CONFIG: ${JSON.stringify(JSON.stringify(config))} } });
    child.on("message", (message) => message.type === "listening" && console.log(child.pid));
  `], { stdio: ["ignore", "pipe", "inherit"] });
  const pid = Number(String((await once(guardian.stdout, "data"))[0]));
  assert.ok(pid > 0);
  const running = (): boolean => {
    try {
      return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
    } catch {
      return false;
    }
  };
  assert.ok(running());
  guardian.kill("SIGKILL");
  await until("the proxy to end", () => !running());
});

test("a port in use and a wrong configuration are said by name, with exit code 2", async (t) => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const base = { listen: `127.0.0.1:${port}`, target: "127.0.0.1:1", maxLagMs: 1, engineSocket: join(temporary(t), "none.sock"), node: { name: "a" }, log: { level: "silent" } };
  for (const [config, said] of [[base, `cannot listen on 127.0.0.1:${port}: the port is in use`], [{ ...base, target: 7 }, "target"]] as const) {
    const proxy = forkProxy(t, config);
    assert.equal(await proxy.exit(), 2);
    const fatal = proxy.messages.find((message) => message.type === "fatal");
    assert.ok(fatal?.type === "fatal" && fatal.message.includes(said), JSON.stringify(proxy.messages));
  }
});

test("an application that is down makes 502, and 200 again as soon as it is up", async (t) => {
  const { proxy, app } = await startNode(t);
  app.stop();
  const down = await until("the application to be gone", async () => {
    const response = await fetch(proxy.url);
    return response.status === 502 ? response : undefined;
  });
  assert.match(await down.text(), /^The application on this node does not accept connections\.\nRequest /);
  assert.equal(down.headers.get("cache-control"), "no-store");
  const post = await fetch(proxy.url, { method: "POST", body: "x" });
  assert.equal(post.status, 502);
  app.server.listen(app.port, "127.0.0.1");
  await until("the application to answer", async () => (await fetch(proxy.url)).status === 200);
});

test("an application that breaks off before its head makes 502 that admits not to know", async (t) => {
  const { proxy, app } = await startNode(t);
  app.handler = (request) => void request.socket.destroy();
  const response = await fetch(proxy.url, { method: "POST", body: "x" });
  assert.equal(response.status, 502);
  assert.match(await response.text(), /not known/);
  assert.equal(app.seen.length, 1, "a POST is sent once");
  assert.equal((await fetch(proxy.url, { method: "GET" })).status, 502);
  assert.equal(app.seen.length, 3, "a GET is sent twice");
});

test("an application that does not answer in time makes 504", async (t) => {
  const { proxy, app } = await startNode(t, { limits: { responseHeadMs: 1_000, connectMs: 1_000 } });
  app.handler = () => {};
  for (const ask of [{}, { headers: { te: "trailers" } }, { method: "POST", body: "short" }, { method: "POST", body: new Blob(["a stream"]).stream(), duplex: "half" }]) {
    const response = await fetch(proxy.url, ask as RequestInit);
    assert.equal(response.status, 504);
    assert.match(await response.text(), /did not answer in time/);
  }
});

test("a response that stops in its middle is broken off after a time; one that the proxy itself holds back for longer is not", async (t) => {
  const { proxy, app, engine } = await startNode(t, { limits: { responseIdleMs: 300 }, config: { ackTimeoutMs: 60_000 } });
  app.handler = (_request, response) => void response.setHeader("Content-Length", 10).write("begun");
  for (const ask of [{}, { headers: { te: "trailers" } }, { method: "POST", body: "short" }]) {
    const response = await fetch(proxy.url, ask);
    assert.equal(response.status, 200);
    await assert.rejects(response.text());
  }
  app.handler = (_request, response) => void response.end("complete");
  const held = fetch(proxy.url, { method: "POST", body: "short", headers: { "sluice-ack": "1" } });
  await until("the proxy to wait for a follower", () => engine.replicaWaits === 1);
  await sleep(1_000);
  engine.replicate(1);
  assert.equal(await (await held).text(), "complete");
});

test("heads beyond the bounds are 431, bodies 413, slow ones 408", async (t) => {
  const { proxy, app } = await startNode(t, { limits: { headBytes: 4_096, headerCount: 20, bodyBytes: 10_000, bodyIdleMs: 500, headMs: 1_000, lingerMs: 500 } });
  const long = await rawRequest(t, proxy.port, `GET / HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(8_000)}\r\n\r\n`);
  assert.deepEqual(statuses(long), [431]);
  const many = await rawRequest(t, proxy.port, `GET / HTTP/1.1\r\nHost: a\r\n${Array.from({ length: 30 }, (_, i) => `X-${i}: 1\r\n`).join("")}\r\n`);
  assert.deepEqual(statuses(many), [431]);
  const announced = await rawRequest(t, proxy.port, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10001\r\n\r\n", (text) => text.includes("larger than this node accepts"));
  assert.deepEqual(statuses(announced), [413]);
  assert.equal(app.seen.length, 0);
  const chunked = await rawRequest(t, proxy.port, `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2ee0\r\n${"x".repeat(12_000)}\r\n0\r\n\r\n`, (text) => text.includes("larger than this node accepts"));
  assert.deepEqual(statuses(chunked), [413]);
  const slowBody = await rawRequest(t, proxy.port, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello", (text) => text.includes("in time"));
  assert.deepEqual(statuses(slowBody), [408]);
  const slowHead = await rawRequest(t, proxy.port, "GET / HTTP/1.1\r\nHost: a\r\nX-Slow");
  assert.deepEqual(statuses(slowHead), [408]);
  assert.equal(app.seen.filter(({ body }) => body !== "").length, 0, "no body arrived as if it were complete");
  assert.equal((await fetch(proxy.url)).status, 200);
});

test("one address has so many connections at once; a request on another one is 429, and there is room again when one has closed", async (t) => {
  for (const clients of ["cookie", "address"]) {
    // With the fast path and without.
    const { proxy } = await startNode(t, { config: { clients }, limits: { connectionsPerClient: 2 } });
    const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    await until("the connections of the start to be gone", async () => statuses(await rawRequest(t, proxy.port, get, (text) => text.endsWith("GET /")))[0] === 200);
    const kept = await until("two connections", async () => {
      const two = [await rawClient(t, proxy.port), await rawClient(t, proxy.port)];
      for (const { socket } of two) socket.write(get);
      await until("answers", () => two.every(({ text }) => statuses(text()).length > 0));
      if (two.every(({ text }) => statuses(text())[0] === 200)) return two;
      for (const { socket } of two) socket.destroy();
      return undefined;
    });
    const refused = await rawRequest(t, proxy.port, get);
    assert.match(refused, /^HTTP\/1\.1 429 Too Many Requests\r\n[^]*Retry-After: [^]*Too many connections from this address/);
    kept[0]!.socket.destroy();
    await until("room", async () => statuses(await rawRequest(t, proxy.port, get, (text) => text.endsWith("GET /") || text.includes("429")))[0] === 200);
    assert.ok((await until("the counters", () => proxy.metrics()?.invalid["connections"])) > 0);
  }
});

test("a body right at the bound passes", async (t) => {
  const { proxy, app } = await startNode(t, { limits: { headBytes: 4_096, bodyBytes: 10_000 } });
  assert.equal((await fetch(proxy.url, { method: "POST", body: "x".repeat(10_000) })).status, 200);
  assert.equal(app.seen.at(-1)!.body.length, 10_000);
});

test("a client that takes nothing of a waiting response is cut off", async (t) => {
  const { proxy, app } = await startNode(t, { limits: { stalledClientMs: 300 } });
  app.handler = (_request, response) => void response.end(Buffer.alloc(64 << 20));
  const client = await rawClient(t, proxy.port);
  client.socket.pause();
  client.socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await until("the proxy to give up", () => (proxy.metrics()?.active === 0 && app.seen.length === 1 ? true : undefined));
});

test("the access log has one line a request at level debug", async (t) => {
  const { proxy } = await startNode(t, { level: "debug" });
  await fetch(`${proxy.url}/logged`, { method: "POST", body: "x" });
  const line = await until("the line", () => proxy.output.join("").split("\n").find((candidate) => candidate.includes('"/logged"')));
  const entry = JSON.parse(line) as Record<string, unknown>;
  assert.deepEqual([entry["method"], entry["status"], entry["decision"], entry["reason"], entry["complete"]], ["POST", 200, "local", "primary", true]);
});

/** The example application: alone and behind the proxy. In a browser it is in browser.test.ts. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { EXAMPLE_SERVER, expressMissing } from "../support/express.ts";
import { startNode, temporary, until } from "./support.ts";

if (expressMissing !== false) console.error(expressMissing);

interface Example { readonly url: string; readonly port: number; readonly child: ChildProcess; readonly database: string }

async function startExample(t: TestContext, database = join(temporary(t), "notes.db")): Promise<Example> {
  const child = spawn(process.execPath, [EXAMPLE_SERVER], { env: { ...process.env, DATABASE: database, PORT: "0" }, stdio: ["ignore", "pipe", "inherit"] });
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += String(chunk)));
  const url = await until("the example to listen", () => /http:\/\/\S+/.exec(output)?.[0]);
  return { url, port: Number(new URL(url).port), child, database };
}

const form = (fields: Record<string, string>): RequestInit => ({ method: "POST", body: new URLSearchParams(fields), redirect: "manual" });

test("the example shows, adds, finds and deletes notes, as pages and as JSON", { skip: expressMissing }, async (t) => {
  const { url, child } = await startExample(t);
  assert.deepEqual(await (await fetch(`${url}/health`)).json(), { status: "ok", notes: 0 });
  const added = await fetch(`${url}/notes`, form({ author: "Ada <b>", body: 'Hello & "welcome"' }));
  assert.deepEqual([added.status, added.headers.get("location")], [303, "/#note-1"]);
  const page = await (await fetch(url)).text();
  assert.match(page, /Ada &lt;b&gt;/);
  assert.match(page, /Hello &amp; &quot;welcome&quot;/);
  assert.match(page, /<h2 id="all-notes">1 note<\/h2>/);

  const refused = await fetch(`${url}/notes`, form({ author: "Bob", body: "  " }));
  assert.equal(refused.status, 422);
  assert.match(await refused.text(), /role="alert">A note needs a name and a text\.<[^]*value="Bob"/);

  const json = await fetch(`${url}/api/notes`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ author: "Eve", body: "100% sure" }) });
  assert.equal(json.status, 201);
  assert.equal(((await json.json()) as { id: number }).id, 2);
  const found = async (q: string): Promise<unknown> => ((await (await fetch(`${url}/api/notes?q=${encodeURIComponent(q)}`)).json()) as { notes: { id: number }[] }).notes.map(({ id }) => id);
  assert.deepEqual([await found(""), await found("hello"), await found("%"), await found("_"), await found("nothing")], [[2, 1], [1], [2], [], []]);

  assert.equal((await fetch(`${url}/notes/1/delete`, form({}))).status, 303);
  assert.equal((await fetch(`${url}/api/notes/2`, { method: "DELETE" })).status, 204);
  assert.equal((await fetch(`${url}/api/notes/2`)).status, 404);
  assert.equal((await fetch(`${url}/api/notes`, { method: "POST", headers: { "content-type": "application/json" }, body: "{" })).status, 400);
  assert.equal((await fetch(`${url}/nowhere`)).status, 404);
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "exit"), [0, null]);
});

test("the example starts and reads while somebody else holds the write lock, and answers 503 to writes", { skip: expressMissing }, async (t) => {
  const first = await startExample(t);
  await fetch(`${first.url}/notes`, form({ author: "Ada", body: "one" }));
  const Database = createRequire(EXAMPLE_SERVER)("better-sqlite3") as typeof import("better-sqlite3");
  const holder = new Database(first.database);
  t.after(() => holder.close());
  holder.exec("BEGIN IMMEDIATE");
  const second = await startExample(t, first.database);
  assert.match(await (await fetch(second.url)).text(), /<p class="note-body">one</);
  const refused = await fetch(`${second.url}/notes`, form({ author: "Bob", body: "two" }));
  assert.deepEqual([refused.status, refused.headers.get("retry-after")], [503, "1"]);
  holder.exec("ROLLBACK");
  assert.equal((await fetch(`${second.url}/notes`, form({ author: "Bob", body: "two" }))).status, 303);
});

test("two examples that start together on an empty database share one table", { skip: expressMissing }, async (t) => {
  const database = join(temporary(t), "notes.db");
  const both = await Promise.all([startExample(t, database), startExample(t, database)]);
  for (const { url } of both) assert.equal((await fetch(`${url}/notes`, form({ author: "x", body: "y" }))).status, 303);
  for (const { url } of both) assert.deepEqual(await (await fetch(`${url}/health`)).json(), { status: "ok", notes: 2 });
});

test("behind the proxy the example's responses say which node answered, and its forms set the cookie", { skip: expressMissing }, async (t) => {
  const example = await startExample(t);
  const { proxy } = await startNode(t, { name: "a", target: example.port });
  const write = await until("the proxy to know its role", async () => {
    const response = await fetch(`${proxy.url}/notes`, form({ author: "Ada", body: "through the proxy" }));
    return response.status === 303 ? response : undefined;
  });
  assert.match(write.headers.getSetCookie()[0]!, /^__txid=1&app\.db:1\.5;/);
  const read = await fetch(proxy.url);
  assert.deepEqual([read.headers.get("sluice-node"), read.headers.get("sluice-txid")], ["a", "app.db=1/5"]);
  assert.match(await read.text(), /through the proxy/);
});

test("events, uploads, the chat and a GET that writes go through the proxies of a follower and of the primary", { skip: expressMissing }, async (t) => {
  const onPrimary = await startExample(t);
  // The follower's database lies beside a file that names the primary, as in a mount. Its content is its own: nothing replicates here.
  const folder = temporary(t);
  const onFollower = await startExample(t, join(folder, "notes.db"));
  writeFileSync(join(folder, ".primary"), "a\n");
  const rules = [{ path: "/chat", to: "primary" }] as const;
  const a = await startNode(t, { name: "a", role: "primary", target: onPrimary.port });
  const b = await startNode(t, { name: "b", role: "follower", target: onFollower.port, primary: { name: "a", proxy: a.proxy.url }, rules });
  await until("both to know their roles", async () => (await fetch(`${b.proxy.url}/notes`, form({ author: "Ada", body: "first" }))).status === 303);

  for (const count of [1, 2]) {
    const visits = await fetch(`${b.proxy.url}/visits`);
    assert.deepEqual([await visits.json(), visits.headers.get("sluice-node"), visits.headers.getSetCookie().length], [{ visits: count }, "a", 1]);
  }

  const picture = Buffer.alloc(3 << 20, 7);
  assert.equal((await fetch(`${b.proxy.url}/api/notes/1/picture`, { method: "PUT", headers: { "content-type": "image/png" }, body: picture })).status, 204);
  const back = Buffer.from(await (await fetch(`${a.proxy.url}/api/notes/1/picture`)).arrayBuffer());
  assert.ok(back.equals(picture));

  const ending = new AbortController();
  const events = (await fetch(`${a.proxy.url}/events`, { signal: ending.signal })).body!.pipeThrough(new TextDecoderStream()).getReader();
  const next = async (): Promise<string> => (await events.read()).value ?? "";
  assert.equal(await next(), 'data: {"notes":1,"newest":1}\n\n');
  await fetch(`${b.proxy.url}/notes`, form({ author: "Bob", body: "second" }));
  assert.equal(await next(), 'data: {"notes":2,"newest":2}\n\n');
  ending.abort();

  const heard: string[] = [];
  const chats = [a, b].map(({ proxy }) => new WebSocket(`${proxy.url.replace("http", "ws")}/chat`));
  for (const chat of chats) chat.addEventListener("message", ({ data }) => heard.push(String(data)));
  await until("both to be there", () => chats.every(({ readyState }) => readyState === WebSocket.OPEN));
  chats[1]!.send("hello from b");
  await until("both to hear it", () => heard.length === 2);
  assert.deepEqual(heard, ["hello from b", "hello from b"]);
  for (const chat of chats) chat.close();
});

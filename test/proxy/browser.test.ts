/** The example application in a real browser, on a follower of a real cluster: news, a chat, a GET that writes, a strong read, an upload, and own writes. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { CHROMIUM, openPage } from "../support/browser.ts";
import { TestCluster, until } from "../support/cluster.ts";
import { EXAMPLE_SERVER, expressMissing } from "../support/express.ts";

const missing = CHROMIUM === undefined ? "SKIPPED: no Chromium on this machine, so the pages of the example are not opened in a browser" : expressMissing;
if (missing !== false) console.error(missing);

/** The smallest PNG there is: one pixel. */
const PIXEL = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64");

test("the page on a follower shows news, own writes, visits, pictures, the chat and a strong read", { skip: missing }, async (t) => {
  const cluster = await TestCluster.make(["a", "b"], (name) => [
    "proxy: {listen: 127.0.0.1:$PROXY, target: 127.0.0.1:$APP, maxLag: 60s, hold: 60s, limits: {restart: 60s}, rules: [{path: /chat, to: primary}]}",
    `exec: [env, "DATABASE=$FOLDER/${name}/mnt/notes.db", "PORT=$APP", "${process.execPath}", "${EXAMPLE_SERVER}"]`,
  ].join("\n"));
  t.after(() => cluster.dispose());
  for (const node of cluster.nodes) node.start();
  for (const node of cluster.nodes) await node.ready();
  const [a, b] = cluster.nodes.map(({ ports }) => `127.0.0.1:${ports.proxy}`) as [string, string];
  const post = (body: string): Promise<Response> => fetch(`http://${a}/api/notes`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ author: "Ada", body }) });
  await until("both applications", async () => {
    const answers = await Promise.all([a, b].map(async (host) => (await fetch(`http://${host}/health`).catch(() => undefined))?.status));
    return answers.every((status) => status === 200);
  });
  assert.equal((await post("from elsewhere")).status, 201);

  const page = await openPage(t, `http://${b}/`);
  const text = (selector: string): string => `(() => { const place = document.querySelector(${JSON.stringify(selector)}); return place !== null && !place.hidden && place.textContent; })()`;
  const notes = "[...document.querySelectorAll('.note-body')].map(({ textContent }) => textContent)";
  assert.match(await page.until<string>("who answered", text("#answered-by")), /^Answered by node b at notes\.db=/);

  assert.equal(await page.until<string>("the visits", text("#visits")), "Visit number 1, counted on node a");

  await page.until("the first note", `${notes}.includes("from elsewhere")`);
  assert.equal((await post("while the page is open")).status, 201);
  await page.until("the news", `${notes}[0] === "while the page is open"`);
  assert.equal(await page.until("the number of notes", `${text("#news")} === "Live: 2 notes" && ${text("#all-notes")}`), "2 notes");

  await page.evaluate("document.querySelector('#author').value = 'Bob', document.querySelector('#body').value = 'of my own', document.querySelector('.new-note button').click()");
  // The document that the form led to was read on this follower, behind its own write.
  await page.until("the own note", `location.hash === "#note-3" && document.readyState === "complete" && ${notes}[0] === "of my own"`);
  assert.equal(await page.until<string>("the visits again", text("#visits")), "Visit number 2, counted on node a");

  const file = join(cluster.folder, "pixel.png");
  writeFileSync(file, PIXEL);
  await page.until("the inputs", "document.querySelector('#note-3 .picture')?.hidden === false");
  await page.choose("#note-3 input[type=file]", file);
  await page.until("the picture", "document.querySelector('#note-3 img')?.naturalWidth === 1");

  const other = new WebSocket(`ws://${a}/chat`);
  const heard: string[] = [];
  other.addEventListener("message", ({ data }) => heard.push(String(data)));
  t.after(() => other.close());
  await until("the other one to be there", () => other.readyState === WebSocket.OPEN);
  await page.until("the chat", "document.querySelector('#chat').hidden === false");
  await page.evaluate("document.querySelector('#line').value = 'hello from b', document.querySelector('#say button').click()");
  await until("the other one to hear it", () => heard.includes("hello from b"));
  other.send("hello from a");
  await page.until("both lines", "JSON.stringify([...document.querySelectorAll('#said li')].map(({ textContent }) => textContent)) === JSON.stringify(['hello from b', 'hello from a'])");

  assert.equal((await post("just now, somewhere")).status, 201);
  await page.evaluate("document.querySelector('#newest').click()");
  assert.match(await page.until<string>("the strong read", text("#newest-said")), /^Read as the newest of all nodes, by node [ab]$/);
  assert.equal(await page.evaluate(`${notes}[0]`), "just now, somewhere");
  assert.deepEqual(page.errors, []);
});

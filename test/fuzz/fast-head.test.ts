/**
 * The parsers of the fast path against llhttp: what they accept, llhttp reads just so; what llhttp refuses, they never accept.
 *
 * They may refuse what llhttp takes: that goes to the general path. Ten thousand cases of each kind by default; a failure prints its bytes and seed.
 *
 *   CASES=1000000 SEED=1 node_modules/.bin/node --test test/fuzz/fast-head.test.ts
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { checkRequest } from "../../proxy/check.ts";
import { parseConfig } from "../../proxy/config.ts";
import type { EngineView } from "../../proxy/engine-view.ts";
import { ChunkFollower } from "../../proxy/fast-chunks.ts";
import { fieldList, keptFields, readRequestHead, readResponseHead, type ResponseHead } from "../../proxy/fast-head.ts";
import { FastTerms } from "../../proxy/fast-terms.ts";
import { requestFields, responseFields } from "../../proxy/headers.ts";
import { Random, seedOfRun } from "../support/random.ts";
import { chunkedBody, requestHead, responseHead } from "./grammar.ts";
import { RequestReference, responseReaders, settle, type SeenRequests } from "./reference.ts";

const SEED = seedOfRun();
const CASES = Number(process.env["CASES"] ?? 10_000);
const BATCH = 250;
const FIELDS_MAX = 200;
const replay = (text: string): string => `${JSON.stringify(text)}; replay with SEED=${SEED} CASES=${CASES} node_modules/.bin/node --test test/fuzz/fast-head.test.ts`;
const endOf = (text: string): number => text.indexOf("\r\n\r\n");

/** Runs the cases in batches and returns how many of them `check` counted as accepted. */
async function run(make: (random: Random) => string, check: (texts: readonly string[]) => Promise<number>): Promise<{ accepted: number; cases: number }> {
  const random = new Random(SEED);
  let accepted = 0;
  for (let done = 0; done < CASES; done += BATCH) {
    accepted += await check(Array.from({ length: Math.min(BATCH, CASES - done) }, () => make(random)));
  }
  console.log(`${CASES} cases, ${accepted} accepted, SEED=${SEED}`);
  // A run in which nothing, or everything, was accepted has checked nothing.
  assert.ok(accepted > CASES * 0.1 && accepted < CASES * 0.9, `${accepted} of ${CASES} were accepted`);
  return { accepted, cases: CASES };
}

test("a request head that the fast path accepts is the same to llhttp and to the general path", async () => {
  const reference = new RequestReference(64 << 10);
  await run(requestHead, async (texts) => {
    const accepted = texts.map((text) => ({ text, end: endOf(text), head: endOf(text) < 0 ? undefined : readRequestHead(text, endOf(text), FIELDS_MAX) }))
      .filter(({ head }) => head !== undefined);
    // The head alone says that it has no body; the next request behind it says where it ends.
    const alone = await reference.read(accepted.map(({ text, end }) => text.slice(0, end + 4)));
    const followed = await reference.read(accepted.map(({ text, end }) => `${text.slice(0, end + 4)}GET /next HTTP/1.1\r\nHost: next\r\n\r\n`));
    for (const [index, { text, end, head }] of accepted.entries()) {
      const why = replay(text);
      const seen = onlyRequest(alone[index]!, why);
      assert.deepEqual([seen.method, seen.target, seen.version], [head!.method, head!.target, "1.1"], why);
      const fields = fieldList(text, text.indexOf("\r\n") + 2, head!.fieldsEnd);
      assert.deepEqual(seen.fields, fields, why);
      assert.equal(seen.complete, true, why);
      assert.equal(seen.keepsAlive, !head!.close, why);
      if (!head!.close) assert.deepEqual(followed[index]!.requests.map(({ target }) => target), [head!.target, "/next"], why);
      const values = (name: string): string[] => fields.filter((_item, at) => at % 2 === 1 && fields[at - 1]!.toLowerCase() === name);
      assert.deepEqual(values("host"), [head!.host], why);
      assert.deepEqual(values("cookie"), head!.cookie === undefined ? [] : [head!.cookie], why);
      const checked = checkRequest({ method: head!.method, url: head!.target, httpVersion: "1.1", rawHeaders: fields }, FIELDS_MAX);
      assert.ok(!("fault" in checked), `the general path refuses: ${why}`);
      assert.deepEqual([checked.target, checked.host, checked.body.kind], [head!.target, head!.host, "none"], why);
      assert.equal(end + 2, head!.fieldsEnd);
    }
    return accepted.length;
  });
});

test("what the fast path sends to the application, llhttp reads as what the general path would send", async () => {
  const reference = new RequestReference(64 << 10);
  const config = parseConfig(JSON.stringify({ listen: "127.0.0.1:0", target: "127.0.0.1:1", maxLagMs: 0, engineSocket: "/none", node: { name: "a" } }));
  // Only whether it may answer depends on the engine, not what it sends.
  const terms = new FastTerms(config, { state: () => undefined } as unknown as EngineView);
  await run(requestHead, async (texts) => {
    const accepted = texts.flatMap((text) => {
      const end = endOf(text);
      const head = end < 0 ? undefined : readRequestHead(text, end, FIELDS_MAX);
      return head === undefined ? [] : [{ text: text.slice(0, end + 4), head }];
    });
    const sent = accepted.map(({ text, head }) => terms.requestText(text, head, "the-id-1", { peer: "1.2.3.4", host: "", before: "", after: "" }));
    const seen = await reference.read(sent);
    for (const [index, { text, head }] of accepted.entries()) {
      const why = `${JSON.stringify(sent[index])} for ${replay(text)}`;
      const { method, target, fields, complete } = onlyRequest(seen[index]!, why);
      assert.deepEqual([method, target, complete], [head.method, head.target, true], why);
      const general = requestFields(fieldList(text, text.indexOf("\r\n") + 2, head.fieldsEnd), {
        to: "application", requestId: "the-id-1", httpVersion: "1.1", clientAddress: "1.2.3.4", hop: "", cookieName: config.cookie.name, trustedHops: config.trustedHops,
      });
      assert.deepEqual(fields, general, why);
    }
    return accepted.length;
  });
});

function onlyRequest({ requests, refused }: SeenRequests, why: string): SeenRequests["requests"][number] {
  assert.equal(refused, undefined, `llhttp refuses (${refused}): ${why}`);
  assert.equal(requests.length, 1, `llhttp reads ${requests.length} requests: ${why}`);
  return requests[0]!;
}

test("a response head that the fast path accepts is the same to llhttp, and ends where llhttp sees its end", async () => {
  const methods = new Random(SEED);
  await run(responseHead, async (texts) => {
    const accepted = texts.flatMap((text) => {
      const end = endOf(text);
      const method = methods.chance(0.2) ? "HEAD" : "GET";
      const head = end < 0 ? undefined : readResponseHead(text, end, method === "HEAD");
      return head === undefined ? [] : [{ text: text.slice(0, end + 4), head, method }];
    });
    const readers = await responseReaders(accepted.map(({ method }) => method));
    for (const [index, { text, head, method }] of accepted.entries()) {
      const why = `to ${method}: ${replay(text)}`;
      const reader = readers[index]!;
      reader.feed(text);
      assert.equal(reader.refused, undefined, `llhttp refuses (${reader.refused}) ${why}`);
      assert.ok(reader.message !== undefined, `llhttp sees no response ${why}`);
      const { message } = reader;
      assert.equal(message.statusCode, head.status, why);
      const fields = fieldList(text, head.fieldsFrom, head.fieldsEnd);
      assert.deepEqual(message.rawHeaders, fields, why);
      // Of a response to HEAD that names no length Node's client thinks that the connection ends with it; it cannot be held against anybody.
      const saysEnd = fields.some((item, at) => at % 2 === 0 && /^(?:content-length|transfer-encoding)$/i.test(item));
      if (head.keepAlive && (method === "GET" || saysEnd)) assert.equal(reader.request.shouldKeepAlive, true, `the connection is not kept ${why}`);
      if (head.plain) {
        // The chunks go on as they are, and their coding with them; the general path makes both anew.
        const kept = keptFields(text, head);
        const without = (list: readonly string[], name: string): string[] => list.filter((_item, at) => list[at - (at % 2)]!.toLowerCase() !== name);
        const general = responseFields(fields, "application", []);
        assert.deepEqual(without(fieldList(kept, 0, kept.length), "transfer-encoding"), head.status === 204 ? without(general, "content-length") : general, why);
      }
      checkEnd(reader, head, why);
    }
    await settle();
    for (const reader of readers) reader.destroy();
    return accepted.length;
  });
});

function checkEnd(reader: Awaited<ReturnType<typeof responseReaders>>[number], { framing, length }: ResponseHead, why: string): void {
  switch (framing) {
    case "none":
      assert.equal(reader.complete, true, `llhttp waits for a body ${why}`);
      return;
    case "length": {
      if (length > 0) assert.equal(reader.complete, false, why);
      if (length > 10_000) return;
      reader.feed("x".repeat(Math.max(0, length - 1)));
      if (length > 0) assert.equal(reader.complete, false, `llhttp sees an earlier end ${why}`);
      if (length > 0) reader.feed("x");
      assert.equal(reader.complete, true, `llhttp sees a later end ${why}`);
      return;
    }
    case "chunked":
      reader.feed("1\r\nx\r\n");
      assert.equal(reader.complete, false, why);
      reader.feed("0\r\n\r\n");
      assert.equal(reader.complete, true, `llhttp sees no chunks ${why}`);
      return;
    case "close":
      reader.feed("0\r\n\r\n");
      assert.equal(reader.complete, false, `llhttp sees an end ${why}`);
  }
}

test("a chunked body ends for the fast path where it ends for llhttp, however it is cut into pieces", async () => {
  const cuts = new Random(SEED);
  await run(chunkedBody, async (texts) => {
    const readers = await responseReaders(texts.map(() => "GET"));
    let accepted = 0;
    for (const [index, text] of texts.entries()) {
      const why = replay(text);
      const bytes = Buffer.from(text, "latin1");
      const follower = new ChunkFollower();
      let at = 0;
      while (at < bytes.length && !follower.over && !follower.fault && !follower.trailers) {
        const to = Math.min(bytes.length, at + 1 + cuts.below(12));
        const stop = follower.read(bytes, at, to);
        assert.ok(stop === to || follower.over || follower.fault || follower.trailers, why);
        at = stop;
      }
      const reader = readers[index]!;
      reader.feed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
      if (follower.over) {
        accepted++;
        reader.feed(text.slice(0, at - 1));
        assert.equal(reader.refused, undefined, `llhttp refuses (${reader.refused}) ${why}`);
        assert.equal(reader.complete, false, `llhttp sees an earlier end ${why}`);
        reader.feed(text.slice(at - 1, at));
        assert.equal(reader.complete, true, `llhttp sees no end ${why}`);
      } else {
        // What was passed on so far is what llhttp reads as well, and it sees no end in it either.
        reader.feed(text.slice(0, at));
        assert.equal(reader.complete, false, `llhttp sees an end ${why}`);
      }
    }
    await settle();
    for (const reader of readers) reader.destroy();
    return accepted;
  });
});

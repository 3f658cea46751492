/** The cookie: what goes in comes out, what is broken is ignored. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { COOKIE_BYTES_MAX, COOKIE_DATABASES_MAX, decodeCookie, encodeCookie, readCookie, readSetCookie, setCookie, withoutCookie } from "../../../proxy/cookie.ts";
import type { Mark } from "../../../proxy/positions.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
console.log(`replay with SEED=${seed}`);

const number = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const marks = fc.array(fc.tuple(fc.string({ unit: "grapheme", minLength: 1, maxLength: 40 }), fc.record({ epoch: number, txid: number }, { noNullPrototype: true })), { maxLength: 12 })
  .map((entries) => new Map<string, Mark>(entries));

test("decodeCookie() reverses encodeCookie() for any database names", () => {
  fc.assert(fc.property(marks, (given) => {
    const text = encodeCookie(given);
    assert.match(text, /^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*$/, "only characters that RFC 6265 allows");
    const back = decodeCookie(text);
    assert.ok(back !== undefined);
    // What did not fit was cut from the end.
    assert.deepEqual([...back], [...given].slice(0, back.size));
    if (text.length < COOKIE_BYTES_MAX / 2) assert.equal(back.size, given.size);
  }), { seed });
});

test("decodeCookie() takes any text without throwing, and only what encodeCookie() can have made", () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.string().map((text) => `1&${text}`), fc.string().map((text) => `1&a:${text}`)), (text) => {
    const decoded = decodeCookie(text);
    if (decoded !== undefined) for (const mark of decoded.values()) assert.ok(Number.isSafeInteger(mark.epoch) && Number.isSafeInteger(mark.txid));
  }), { seed, numRuns: 1_000 });
  for (const broken of ["", "2&a:1.1", "1&a", "1&a:1", "1&a:g.1", "1&:1.1", "1&a:1.1&", "1&%zz:1.1", "1&a:fffffffffffffffff.1", "1&a:1.-1", "1&a:1.1 ", "1".repeat(5_000)]) {
    assert.equal(decodeCookie(broken), undefined, broken.slice(0, 40));
  }
  assert.equal(decodeCookie(`1${"&a:1.1".repeat(COOKIE_DATABASES_MAX + 1)}`), undefined);
});

test("encodeCookie() keeps the databases that changed last, up to the bounds", () => {
  const many = new Map<string, Mark>(Array.from({ length: 100 }, (_, i) => [`db-${i}.db`, { epoch: 1, txid: i }]));
  assert.deepEqual([...decodeCookie(encodeCookie(many))!.keys()], [...many.keys()].slice(0, COOKIE_DATABASES_MAX));
  const long = new Map<string, Mark>(Array.from({ length: 30 }, (_, i) => [`${i}${"ä".repeat(60)}`, { epoch: 1, txid: i }]));
  const text = encodeCookie(long);
  assert.ok(text.length <= COOKIE_BYTES_MAX);
  assert.ok(decodeCookie(text)!.size >= 5);
});

test("readCookie() finds its cookie among others and passes over a broken one", () => {
  assert.equal(readCookie(undefined), undefined);
  assert.equal(readCookie("a=b; c=d"), undefined);
  assert.equal(readCookie("x__txid=1&a:1.1"), undefined);
  assert.deepEqual(readCookie("a=b; __txid=1&app.db:2.ff; c=d"), new Map([["app.db", { epoch: 2, txid: 255 }]]));
  assert.deepEqual(readCookie("__txid=rubbish;__txid=1&app.db:1.1"), new Map([["app.db", { epoch: 1, txid: 1 }]]));
  assert.equal(readCookie("__txid=rubbish"), undefined);
});

test("withoutCookie() takes out only its own cookie", () => {
  assert.equal(withoutCookie("a=b; c=d"), "a=b; c=d");
  assert.equal(withoutCookie("__txid=1"), undefined);
  assert.equal(withoutCookie("a=b; __txid=1&x:1.1; c=d"), "a=b; c=d");
  assert.equal(withoutCookie("__txid=1; a=b"), "a=b");
  assert.equal(withoutCookie("a__txid=1;  b"), "a__txid=1;  b");
});

test("setCookie() is HttpOnly, SameSite=Lax, for the whole site and for minutes", () => {
  assert.equal(setCookie(new Map([["app.db", { epoch: 1, txid: 42 }]])), "__txid=1&app.db:1.2a; Path=/; Max-Age=300; HttpOnly; SameSite=Lax");
});

test("name, domain, Secure, SameSite and age of the cookie are the operator's", () => {
  const marks = new Map([["app.db", { epoch: 1, txid: 42 }]]);
  const text = setCookie(marks, { name: "pos", domain: "example.org", secure: true, sameSite: "none", maxAgeMs: 60_500 });
  assert.equal(text, "pos=1&app.db:1.2a; Path=/; Max-Age=61; HttpOnly; SameSite=None; Domain=example.org; Secure");
  assert.deepEqual(readSetCookie(text, "pos"), marks);
  assert.equal(readSetCookie(text), undefined);
  assert.equal(readSetCookie("pos2=1&app.db:1.2a; Path=/", "pos"), undefined);
  assert.equal(readSetCookie("pos=rubbish; Path=/", "pos"), undefined);
  assert.deepEqual(readCookie("__txid=1&a:1.1; pos=1&app.db:1.2a", "pos"), marks);
  assert.equal(withoutCookie("__txid=1&a:1.1; pos=1&app.db:1.2a", "pos"), "__txid=1&a:1.1");
});

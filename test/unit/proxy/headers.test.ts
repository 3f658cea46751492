/** Fields that end here, fields that are added, fields that nobody can make vanish. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { announcedTrailers, formatHop, madePrivate, originalAddress, rawField, readHop, readRequestId, requestFields, requestTrailers, responseFields, trailerFields, type OutgoingRequest } from "../../../proxy/headers.ts";

const out: OutgoingRequest = { to: "application", clientAddress: "9.9.9.9", httpVersion: "1.1", requestId: "id-12345678", hop: "b;7", cookieName: "__txid", trustedHops: 0 };
const pairs = (fields: readonly string[]): [string, string][] => fields.flatMap((name, i) => (i % 2 === 0 ? [[name, fields[i + 1]!] as [string, string]] : []));
const get = (fields: readonly string[], name: string): string[] => pairs(fields).filter(([field]) => field.toLowerCase() === name).map(([, value]) => value);

test("fields of the connection end here, with those that Connection names", () => {
  const fields = requestFields([
    "Host", "a", "Connection", "keep-alive, X-Hop", "Keep-Alive", "timeout=5", "X-Hop", "1", "TE", "trailers", "Trailer", "x", "Upgrade", "h2c",
    "Transfer-Encoding", "chunked", "Proxy-Authorization", "Basic x", "Proxy-Connection", "close", "HTTP2-Settings", "x", "Expect", "100-continue", "X-Keep", "1",
  ], out);
  assert.deepEqual(pairs(fields).map(([name]) => name), ["Host", "X-Keep", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Via", "X-Request-Id"]);
});

test("Connection cannot take away what an application relies on", () => {
  const fields = requestFields(["Host", "a", "Connection", "Cookie, Host, X-Forwarded-For, Authorization, Content-Length, close", "Cookie", "s=1", "Authorization", "B x", "Content-Length", "3"], out);
  for (const [name, value] of [["host", "a"], ["cookie", "s=1"], ["authorization", "B x"], ["content-length", "3"], ["x-forwarded-for", "9.9.9.9"]] as const) assert.deepEqual(get(fields, name), [value], name);
});

test("forwarding fields are extended, and kept where a proxy before this one knew better", () => {
  const fields = requestFields(["Host", "a", "X-Forwarded-For", "1.1.1.1", "x-forwarded-for", "2.2.2.2", "X-Forwarded-Proto", "https", "Via", "1.0 x", "X-Forwarded-Host", "www"], { ...out, trustedHops: 9 });
  assert.deepEqual(get(fields, "x-forwarded-for"), ["1.1.1.1, 2.2.2.2, 9.9.9.9"]);
  assert.deepEqual(get(fields, "x-forwarded-proto"), ["https"]);
  assert.deepEqual(get(fields, "x-forwarded-host"), ["www"]);
  assert.deepEqual(get(fields, "via"), ["1.0 x, 1.1 sluice"]);
});

test("repeated fields stay repeated and in order; bytes are not touched", () => {
  const fields = requestFields(["Host", "a", "X-A", "1", "x-b", " \u00e4 ", "X-A", "2"], out);
  assert.deepEqual(pairs(fields).slice(0, 4), [["Host", "a"], ["X-A", "1"], ["x-b", " \u00e4 "], ["X-A", "2"]]);
});

test("internal fields of a client go no further; a peer gets them from here", () => {
  const raw = ["Host", "a", "Sluice-Hop", "evil;9", "Sluice-Node", "evil", "SLUICE-TXID", "x", "X-Request-Id", "mine", "Cookie", "__txid=1&a:1.1; s=1"];
  const application = requestFields(raw, out);
  assert.deepEqual(pairs(application).filter(([name]) => /^sluice/i.test(name)), []);
  assert.deepEqual(get(application, "cookie"), ["s=1"]);
  assert.deepEqual(get(application, "x-request-id"), ["mine"]);
  const peer = requestFields(raw, { ...out, to: "peer" });
  assert.deepEqual(pairs(peer).filter(([name]) => /^sluice/i.test(name)), [["Sluice-Hop", "b;7"], ["Sluice-Request-Id", "id-12345678"]]);
  assert.deepEqual(get(peer, "cookie"), ["__txid=1&a:1.1; s=1"]);
});

test("a response keeps its fields and gets ours; only a peer may say which node it was", () => {
  const raw = ["Content-Type", "text/html", "Set-Cookie", "a=1", "set-cookie", "b=2", "Connection", "close, X-Gone", "X-Gone", "1", "Keep-Alive", "timeout=5", "Transfer-Encoding", "chunked",
    "Sluice-Node", "a", "Sluice-Txid", "x", "Sluice-Request-Id", "theirs", "Sluice-Refused", "not-primary"];
  assert.deepEqual(pairs(responseFields(raw, "application", ["Sluice-Node", "me"])), [["Content-Type", "text/html"], ["Set-Cookie", "a=1"], ["set-cookie", "b=2"], ["Sluice-Node", "me"]]);
  assert.deepEqual(pairs(responseFields(raw, "peer", ["Sluice-Request-Id", "ours"])).slice(3), [["Sluice-Node", "a"], ["Sluice-Txid", "x"], ["Sluice-Request-Id", "ours"]]);
});

test("trailers carry nothing that frames, routes or authenticates", () => {
  assert.deepEqual(trailerFields(["X-Sum", "1", "Content-Length", "5", "Set-Cookie", "a=b", "Transfer-Encoding", "chunked", "Sluice-Node", "x"]), [["X-Sum", "1"]]);
});

test("readHop() reverses formatHop(), and what it cannot read still counts as a hop", () => {
  assert.deepEqual(readHop(formatHop("knoten ä", 7, false)), { node: "knoten%20%C3%A4", epoch: 7, isWrite: false });
  assert.deepEqual(readHop(formatHop("b", 7, true)), { node: "b", epoch: 7, isWrite: true });
  assert.equal(readHop(undefined), undefined);
  assert.deepEqual(readHop("rubbish"), { node: "?", epoch: 0, isWrite: false });
  assert.equal(readRequestId("a\r\nb"), undefined);
  assert.equal(readRequestId("abcdef12-0"), "abcdef12-0");
});

test("forwarding fields of proxies that are not believed are dropped, beyond the believed ones too", () => {
  const raw = ["Host", "a", "X-Forwarded-For", "6.6.6.6, 1.1.1.1, 2.2.2.2", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil", "Forwarded", 'for=6.6.6.6, for="[2001:db8::1,]";proto=https'];
  const nobody = requestFields(raw, out);
  assert.deepEqual([get(nobody, "x-forwarded-for"), get(nobody, "x-forwarded-proto"), get(nobody, "x-forwarded-host"), get(nobody, "forwarded")], [["9.9.9.9"], ["http"], ["a"], []]);
  const one = requestFields(raw, { ...out, trustedHops: 1 });
  assert.deepEqual(get(one, "x-forwarded-for"), ["2.2.2.2, 9.9.9.9"]);
  assert.deepEqual(get(one, "forwarded"), ['for="[2001:db8::1,]";proto=https, for=9.9.9.9;proto=https']);
  assert.deepEqual(get(requestFields(["Host", "a", "Forwarded", "for=x"], { ...out, trustedHops: 1, clientAddress: "::1" }), "forwarded"), ['for=x, for="[::1]";proto=http']);
  assert.equal(originalAddress("6.6.6.6, 1.1.1.1, 2.2.2.2", "9.9.9.9", 0), "9.9.9.9");
  assert.equal(originalAddress("6.6.6.6, 1.1.1.1, 2.2.2.2", "9.9.9.9", 2), "1.1.1.1");
  assert.equal(originalAddress(undefined, "9.9.9.9", 2), "9.9.9.9");
  assert.equal(originalAddress(" , ", "9.9.9.9", 2), "9.9.9.9");
});

test("madePrivate() leaves no shared cache a reason to keep a response", () => {
  const of = (value: string): string[] => get(madePrivate(["X-A", "1", "Cache-Control", value]), "cache-control");
  assert.deepEqual(get(madePrivate(["X-A", "1"]), "cache-control"), ["private"]);
  assert.deepEqual(of("public, max-age=60"), ["max-age=60, private"]);
  assert.deepEqual(of("S-MaxAge=9, max-age=60, Public"), ["max-age=60, private"]);
  assert.deepEqual(of("no-store"), ["no-store"]);
  assert.deepEqual(of('private="X-A, X-B", max-age=1'), ["max-age=1, private"]);
  assert.deepEqual(get(madePrivate(["Cache-Control", "public", "cache-control", "max-age=1"]), "cache-control"), ["max-age=1, private"]);
});

test("rawField() finds a field by its name in any case", () => {
  const raw = ["X-A", "1", "SLUICE-replay", "primary"];
  assert.equal(rawField(raw, "sluice-replay"), "primary");
  assert.equal(rawField(raw, "sluice-node"), undefined);
});

test("of a request's trailers only announced ones go on, and none that has its place in the head, however it is spelled", () => {
  const announced = announcedTrailers([
    "Host", "a", "Trailer", "X-Sum, Content-Length ,x-sum,Digest", "trailer", "Host, X-Forwarded-For, X_Forwarded_For, Sluice-Hop, If-Match, Expect, Trailer, Proxy-X, Transfer_Encoding, Cookie, a b, ,é, X-Hop",
    "Connection", "X-Hop",
  ]);
  assert.deepEqual(announced, ["x-sum", "Digest"]);
  assert.deepEqual(requestTrailers(["X-Sum", "1", "X-Other", "2", "Host", "b", "x-sum", "3", "DIGEST", ""], announced), [["X-Sum", "1"], ["x-sum", "3"], ["DIGEST", ""]]);
  assert.deepEqual(announcedTrailers(["Host", "a", "X-Trailer", "X-Sum"]), []);
});

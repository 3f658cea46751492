/** What is refused although Node's parser takes it, and what is not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { checkRequest, type RequestHead } from "../../../proxy/check.ts";

const head = (rawHeaders: string[], rest: Partial<RequestHead> = {}): RequestHead => ({ method: "GET", url: "/", httpVersion: "1.1", rawHeaders, ...rest });
const faultOf = (given: RequestHead): string | undefined => {
  const result = checkRequest(given, 100);
  return "fault" in result ? result.fault : undefined;
};

test("plain requests pass, with target, host and framing found", () => {
  assert.deepEqual(checkRequest(head(["Host", "a:80"], { url: "/x?y=\\|" }), 100), { target: "/x?y=\\|", host: "a:80", body: { kind: "none" } });
  assert.deepEqual(checkRequest(head(["host", "[::1]:8080", "content-length", "12"]), 100), { target: "/", host: "[::1]:8080", body: { kind: "length", bytes: 12 } });
  assert.deepEqual(checkRequest(head(["HOST", "a", "Transfer-Encoding", "Chunked"], { method: "DELETE" }), 100), { target: "/", host: "a", body: { kind: "chunked" } });
  assert.deepEqual(checkRequest(head([], { httpVersion: "1.0" }), 100), { target: "/", host: undefined, body: { kind: "none" } });
});

test("what another parser could read differently is refused by name", () => {
  const cases: [string, RequestHead][] = [
    ["version", head(["Host", "a"], { httpVersion: "0.9" })],
    ["version", head(["Host", "a"], { httpVersion: "2.0" })],
    ["host", head([])],
    ["host", head(["Host", "a", "host", "a"])],
    ["host", head(["Host", "a, b"])],
    ["host", head(["Host", "a/b"])],
    ["host", head(["Host", "user@a"])],
    ["host", head(["Host", ""])],
    ["framing", head(["Host", "a", "Content-Length", "1", "content-length", "1"])],
    ["framing", head(["Host", "a", "Content-Length", "+1"])],
    ["framing", head(["Host", "a", "Content-Length", "0x1"])],
    ["framing", head(["Host", "a", "Content-Length", "1", "Transfer-Encoding", "chunked"])],
    ["framing", head(["Host", "a", "Transfer-Encoding", "chunked", "Transfer-Encoding", "chunked"])],
    ["framing", head(["Host", "a", "Transfer-Encoding", "gzip, chunked"])],
    ["framing", head(["Transfer-Encoding", "chunked"], { httpVersion: "1.0" })],
    ["field-name", head(["Host", "a", "X_Forwarded_For", "1.2.3.4"])],
    ["field-name", head(["Host", "a", "Content_Length", "3"])],
    ["field-name", head(["Host", "a", "X-My-Thing", "1", "x_my_thing", "2"])],
    ["field-name", head(["Host", "a", "Sluice_Hop", "x;1"])],
    ["target", head(["Host", "a"], { url: "http://b/" })],
    ["target", head(["Host", "a"], { url: "http://u@a/" })],
    ["target", head(["Host", "a"], { url: "ftp://a/" })],
    ["target", head(["Host", "a"], { url: "*" })],
    ["target", head(["Host", "a"], { url: "x/y" })],
    ["target", head(["Host", "a"], { url: "/a#b" })],
    ["target", head(["Host", "a"], { url: "/a?b#c" })],
    ["target", head(["Host", "a"], { url: "/a\\b" })],
    ["target", head(["Host", "a"], { url: "a:443", method: "CONNECT" })],
    ["fields", head(Array.from({ length: 202 }, (_, i) => (i % 2 === 0 ? `h${i}` : "v")))],
  ];
  for (const [fault, given] of cases) assert.equal(faultOf(given), fault, JSON.stringify(given));
});

test("absolute form of the same host turns into origin form", () => {
  const target = (url: string): unknown => (checkRequest(head(["Host", "A:80"], { url }), 100) as { target?: string }).target;
  assert.equal(target("http://a:80/x?y"), "/x?y");
  assert.equal(target("HTTP://a:80"), "/");
  assert.equal(target("http://a:80?q"), "/?q");
});

test("an underscore that collides with nothing is an ordinary name", () => {
  assert.equal(faultOf(head(["Host", "a", "my_field", "1"])), undefined);
});

test("OPTIONS * is a question about the server", () => {
  assert.equal(faultOf(head(["Host", "a"], { method: "OPTIONS", url: "*" })), undefined);
});

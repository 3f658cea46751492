/**
 * Cases about where a body ends: spellings of Content-Length and Transfer-Encoding, alone, doubled and against each other, and bodies on every method.
 */
import { chunked, family, request, shown, SMUGGLED, type Case } from "./case.ts";

const HOST = "Host: a";

/** Lines in place of "Transfer-Encoding: chunked". */
const CODINGS: readonly string[] = [
  "Transfer-Encoding: chunked", "Transfer-Encoding:chunked", "Transfer-Encoding:\tchunked", "Transfer-Encoding:  chunked  ", "Transfer-Encoding: chunked\t",
  "TRANSFER-ENCODING: chunked", "transfer-encoding: CHUNKED", "Transfer-Encoding: ChuNked", "Transfer-Encoding : chunked", "Transfer-Encoding\t: chunked",
  "Transfer-Encoding: \x0bchunked", "Transfer-Encoding: \x0cchunked", "Transfer-Encoding: chunked\x0b", "Transfer-Encoding: \0chunked", "Transfer-Encoding: chunked\0",
  "Transfer-Encoding: \x01chunked", "Transfer-Encoding: chunked\x7f", "Transfer-Encoding: \x85chunked", "Transfer-Encoding: \xa0chunked", "Transfer-Encoding: chun\xe2\x84\xaaed",
  "X: y\r\n Transfer-Encoding: chunked", "X: y\nTransfer-Encoding: chunked", "X: y\rTransfer-Encoding: chunked", "X: y\r\r\nTransfer-Encoding: chunked", "X: y\n\rTransfer-Encoding: chunked",
  "Transfer-Encoding:\r\n chunked", "Transfer-Encoding:\n chunked", "Transfer-Encoding:\r\n\tchunked", "Transfer-Encoding\r\n : chunked", "Transfer-Encoding: x\r\n chunked", "Transfer-Encoding: chunked\r\n x",
  "Transfer_Encoding: chunked", "Transfer-Encoding\0: chunked", "Transfer-Encoding;: chunked", "Transfer-Encoding=chunked", "Transfer-Encoding chunked", "\xefTransfer-Encoding: chunked", "Transfer-Encoding\xa0: chunked",
  "Transfer-Encoding: xchunked", "Transfer-Encoding: chunkedx", "Transfer-Encoding: chunk", "Transfer-Encoding: x chunked", "Transfer-Encoding: chunked x", "Transfer-Encoding: chunked;q=1", "Transfer-Encoding: chunked; q=0",
  'Transfer-Encoding: "chunked"', "Transfer-Encoding: 'chunked'", "Transfer-Encoding: identity", "Transfer-Encoding: identity, chunked", "Transfer-Encoding: chunked, identity", "Transfer-Encoding: gzip, chunked",
  "Transfer-Encoding: chunked, gzip", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: chunked,", "Transfer-Encoding: ,chunked", "Transfer-Encoding: ,", "Transfer-Encoding:",
  "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
  "Transfer-Encoding: chunked\r\nTransfer-Encoding: x", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
  "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", "TE: chunked", "Content-Encoding: chunked", "X-Transfer-Encoding: chunked", "Transfer-Encoding: null", "Transfer-Encoding: {chunked}",
];

/** Lines in place of "Content-Length: 5", which is what the body has. */
const LENGTHS: readonly string[] = [
  "Content-Length: 5", "Content-Length:5", "Content-Length:\t5", "Content-Length: 5 ", "Content-Length: 5\t", "CONTENT-LENGTH: 5", "Content-Length : 5", "Content-Length\t: 5", "Content_Length: 5",
  "Content-Length: 05", "Content-Length: 0000000000000000005", "Content-Length: +5", "Content-Length: -5", "Content-Length: --5", "Content-Length: 5-", "Content-Length: 0x5", "Content-Length: 0o5", "Content-Length: 0b101",
  "Content-Length: 5e0", "Content-Length: 5.0", "Content-Length: 5_0", "Content-Length: 5,5", "Content-Length: 5, 5", "Content-Length: 5,6", "Content-Length: 6,5", "Content-Length: ,5", "Content-Length: 5,", "Content-Length: 5;x",
  "Content-Length: 5 6", "Content-Length: five", "Content-Length:", "Content-Length:  ", 'Content-Length: "5"', "Content-Length: \x0b5", "Content-Length: 5\x0c", "Content-Length: 5\0", "Content-Length: \x005", "Content-Length: 5\x7f",
  "Content-Length: 18446744073709551621", "Content-Length: 4294967301", "Content-Length: 9223372036854775808", "Content-Length: -18446744073709551611", "Content-Length: 100000000000000000000000000000005",
  "Content-Length: \xef\xbc\x95", "Content-Length: \xb2", "Content-Length: 5\xa0", "Content-Length: -0", "Content-Length: NaN", "Content-Length: Infinity",
  "Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5\r\nContent-Length: 6", "Content-Length: 6\r\nContent-Length: 5", "Content-Length: 5\r\nContent-Length: 0", "Content-Length: 0\r\nContent-Length: 5",
  "Content-Length: 5\r\ncontent-length: 05", "Content-Length: 5\r\nContent-Length:", "Content-Length: 5\r\nContent-Length : 0", "Content-Length: 5\r\nContent_Length: 0", "Content_Length: 0\r\nContent-Length: 5",
  "X: y\nContent-Length: 5", "X: y\rContent-Length: 5", "X: y\r\n Content-Length: 5", "Content-Length: 5\nX: y", "Content-Length: 5\rX: y", "Content-Length:\r\n 5", "Content-Length: 5\r\n 6", "Content-Length: 5\r\n ", "Content-Length\0: 5",
  "Content-Length=5", "Content-Length 5", "Content Length: 5", "Content-Length:: 5", "Connection: Content-Length\r\nContent-Length: 5", "Connection: keep-alive, content-length\r\nContent-Length: 5",
];

/** Whose bodies a careless proxy loses sight of. */
const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "LOCK", "SEARCH", "QUERY", "REPORT", "MKCOL", "LINK", "PURGE"];

const shortest = `${chunked("hello")}`;

export const FRAMING: readonly Case[] = [
  ...family("coding alone", CODINGS.map((line) => [shown(line), request("POST /x HTTP/1.1", [HOST, line], shortest)])),
  // The length covers all, the coding ends at the first chunk: whoever believes the coding reads the second request.
  ...family("length against coding", CODINGS.map((line) => [shown(line), request("POST /x HTTP/1.1", [HOST, `Content-Length: ${5 + SMUGGLED.length}`, line], `0\r\n\r\n${SMUGGLED}`)])),
  ...family("coding against length", CODINGS.slice(0, 20).map((line) => [shown(line), request("POST /x HTTP/1.1", [HOST, line, "Content-Length: 4"], `${(SMUGGLED.length).toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`)])),
  ...family("length", LENGTHS.map((line) => [shown(line), request("POST /x HTTP/1.1", [HOST, line], "hello")])),
  ...family("length of a GET", LENGTHS.slice(0, 40).map((line) => [shown(line), request("GET /x HTTP/1.1", [HOST, line], "hello")])),
  ...family("chunked body", METHODS.map((method) => [method, request(`${method} /x HTTP/1.1`, [HOST, "Transfer-Encoding: chunked"], chunked(SMUGGLED))])),
  ...family("body with a length", METHODS.map((method) => [method, request(`${method} /x HTTP/1.1`, [HOST, `Content-Length: ${SMUGGLED.length}`], SMUGGLED)])),
  ...family("empty chunked body", METHODS.map((method) => [method, request(`${method} /x HTTP/1.1`, [HOST, "Transfer-Encoding: chunked"], "0\r\n\r\n")])),
  ...family("length zero", METHODS.map((method) => [method, request(`${method} /x HTTP/1.1`, [HOST, "Content-Length: 0"], "")])),
  ...family("no body", METHODS.map((method) => [method, request(`${method} /x HTTP/1.1`, [HOST])])),
  ...family("HTTP/1.0", [
    ["chunked", request("POST /x HTTP/1.0", [HOST, "Transfer-Encoding: chunked"], shortest)],
    ["chunked, keep-alive", request("POST /x HTTP/1.0", [HOST, "Connection: keep-alive", "Transfer-Encoding: chunked"], shortest)],
    ["length against coding", request("POST /x HTTP/1.0", [HOST, "Connection: keep-alive", `Content-Length: ${5 + SMUGGLED.length}`, "Transfer-Encoding: chunked"], `0\r\n\r\n${SMUGGLED}`)],
    ["length", request("POST /x HTTP/1.0", [HOST, "Content-Length: 5"], "hello")],
    ["length, keep-alive", request("POST /x HTTP/1.0", [HOST, "Connection: keep-alive", "Content-Length: 5"], "hello")],
    ["two lengths", request("POST /x HTTP/1.0", [HOST, "Connection: keep-alive", "Content-Length: 5", "Content-Length: 0"], "hello")],
    ["POST without a length", request("POST /x HTTP/1.0", [HOST], "hello")],
    ["GET, keep-alive", request("GET /x HTTP/1.0", [HOST, "Connection: keep-alive"])],
    ["GET", request("GET /x HTTP/1.0", [HOST])],
    ["GET without Host", request("GET /x HTTP/1.0", [])],
    ["GET with a body", request("GET /x HTTP/1.0", [HOST, "Connection: keep-alive", `Content-Length: ${SMUGGLED.length}`], SMUGGLED)],
    ["expects 100", request("POST /x HTTP/1.0", [HOST, "Connection: keep-alive", "Expect: 100-continue", "Content-Length: 5"], "hello")],
  ]),
];

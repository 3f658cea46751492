/** Cases inside chunked bodies: sizes, extensions, line ends, the last chunk, trailers. */
import { chunked, family, request, shown, SMUGGLED, type Case } from "./case.ts";

const post = (body: string, ...fields: readonly string[]): string => request("POST /x HTTP/1.1", ["Host: a", "Transfer-Encoding: chunked", ...fields], body);

/** What stands in the line of a size, where "5" would do. */
const SIZES: readonly string[] = [
  "5", "05", "0000000000000000000000005", "5 ", "5\t", " 5", "\t5", "+5", "-5", "0x5", "0X5", "5h", "5.0", "5e0", "g", "", " ", "5,", "5 5", "5_", "_5", "5\0", "\x005", "\x0b5", "5\x0b", "5\x0c", "\xef\xbc\x95", "\xb5", "#5",
  "100000005", "10000000000000005", "FFFFFFFFFFFFFFFF", "8000000000000005", "80000005", "fffffffffffffffffffffffffffffffb", "-fffffffffffffffb",
  "5;", "5;a", "5;a=b", '5;a="b"', '5;a="b;c"', '5;a="b', "5 ;a", "5; a", "5;;", "5;=b", "5;a=b;c=d", "5;a\0", "5;a\x01", "5;\x7f", "5;\xff", "5\t;a", "5;a\tb", `5;${"x".repeat(2_000)}`, `5;${"x".repeat(40_000)}`, "5:a", "5=a", "5\\;a",
];

/** Complete bodies. */
const BODIES: readonly string[] = [
  "5\nhello\r\n0\r\n\r\n", "5\rhello\r\n0\r\n\r\n", "5\r\r\nhello\r\n0\r\n\r\n", "5\n\rhello\r\n0\r\n\r\n", "5;a\nhello\r\n0\r\n\r\n", "5;a\rX\r\nhello\r\n0\r\n\r\n", '5;a="\r\n"\r\nhello\r\n0\r\n\r\n', "5;\n\r\nhello\r\n0\r\n\r\n",
  "5\r\nhello\n0\r\n\r\n", "5\r\nhello\r0\r\n\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n", "5\r\nhello\r\r\n0\r\n\r\n", "5\r\nhello\r\n\r\n0\r\n\r\n", "5\r\nhello \r\n0\r\n\r\n", "5\r\nhello;\n0\r\n\r\n", "5\r\nhell\r\n0\r\n\r\n", "5\r\nhello!\r\n0\r\n\r\n",
  "5\r\nhello\r\n0\n\n", "5\r\nhello\r\n0\r\n\n", "5\r\nhello\r\n0\n\r\n", "5\r\nhello\r\n0\r\r\n\r\n", "5\r\nhello\r\n0\r\n\r", "5\r\nhello\r\n0\r\r", "5\r\nhello\r\n00\r\n\r\n", "5\r\nhello\r\n000000000000000000000\r\n\r\n", "5\r\nhello\r\n0;x=y\r\n\r\n", "5\r\nhello\r\n-0\r\n\r\n", "5\r\nhello\r\n0x0\r\n\r\n",
  "5\r\nhello\r\n0 \r\n\r\n", "5\r\nhello\r\n0\t\r\n\r\n", "5\r\nhello\r\n\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n\n", "5\r\nhello\r\n0\r\n\r\n0\r\n\r\n", "0\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "0\r\n\r\n", "\r\n5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n", "5\r\nhel", "0\r\n", "1\r\nh\r\n1\r\ne\r\n3\r\nllo\r\n0\r\n\r\n",
  `5\r\nhello\r\n0\r\n${SMUGGLED}`, `2\r\nxx\r\n${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`, `2;\nxx\r\n${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`, `2\r\nxxy${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`, chunked("a\r\n0\r\n\r\nb", SMUGGLED),
];

/** Fields that frame, route or authenticate: whoever announces them behind a body must not get them there. */
const NOT_FIT: readonly string[] = [
  "Host: b", "Content-Length: 5", "Transfer-Encoding: chunked", "Authorization: Basic x", "Cookie: a=b", "Connection: close", "Expect: 100-continue", "Sluice-Hop: b;9", "sluice_hop: b;9", "X-Forwarded-For: 9.9.9.9",
  "Trailer: X", "X-HTTP-Method-Override: DELETE", "If-Match: x",
];

/** Lines of a trailer section. */
const TRAILERS: readonly string[] = [
  "X-T: 1", "X-T:1", "X-T: 1\r\nX-T: 2", "X-T : 1", "X-T", ": 1", "X T: 1", "X-T: 1\r\n 2", " X-T: 1", "X-T: a\nX-U: b", "X-T: a\rX-U: b", "X-T: a\0b", "X-T: \x01", "X-T: \xe9", "X\0: 1", "Content-Length: 5", "Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Host: b", "Cookie: a=b",
  "Authorization: Basic x", "Connection: close", "Connection: X-T\r\nX-T: 1", "Expect: 100-continue", "Upgrade: websocket", "Sluice-Hop: b;9", "X-Forwarded-For: 9.9.9.9", "Trailer: X", "Content-Encoding: gzip", "Set-Cookie: a=b", "__proto__: 1", "GET /smuggled HTTP/1.1", "GET /smuggled HTTP/1.1\r\nHost: a",
  `X-T: ${"x".repeat(4_000)}`, `X-T: ${"x".repeat(80_000)}`, Array.from({ length: 90 }, (_all, i) => `X-${i}: 1`).join("\r\n"), Array.from({ length: 1_000 }, (_all, i) => `X-${i}: 1`).join("\r\n"),
];

const brief = (text: string): string => (text.length > 120 ? `${shown(text.slice(0, 60))}… (${text.length} bytes)` : shown(text));

export const CHUNKS: readonly Case[] = [
  ...family("chunk size", SIZES.map((size) => [brief(size), post(`${size}\r\nhello\r\n0\r\n\r\n`)])),
  ...family("chunked stream", BODIES.map((body) => [brief(body), post(body)])),
  ...family("trailer", TRAILERS.map((lines) => [brief(lines), post(`5\r\nhello\r\n0\r\n${lines}\r\n\r\n`)])),
  ...family("announced trailer", TRAILERS.slice(0, 3).map((lines) => [brief(lines), post(`5\r\nhello\r\n0\r\n${lines}\r\n\r\n`, "Trailer: X-T")])),
  ...family("announced and not fit", NOT_FIT.map((line) => [brief(line), post(`5\r\nhello\r\n0\r\n${line}\r\nX-T: 1\r\n\r\n`, `Trailer: ${line.split(":")[0]!}, X-T`)])),
];

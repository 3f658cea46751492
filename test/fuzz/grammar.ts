/**
 * Makes heads and chunked bodies, most of them nearly right: from a grammar with wrong turns, and by changing bytes of what came out.
 *
 * Always holds: a generator of random numbers decides everything, so a seed repeats a run; texts are Latin-1, one character a byte.
 */
import type { Random } from "../support/random.ts";

/** `right` nearly always, else something wrong. */
function mostly(random: Random, right: string, wrong: readonly string[], chance = 0.03): string {
  return random.chance(chance) ? random.pick(wrong) : right;
}

const LINE_ENDS = ["\n", "\r", "\r\r\n", "\n\r", "\r\n ", "\r\n\t", "\r\n\r\n", "", " \r\n", "\0\r\n"];
const SPACES = ["  ", "\t", "", "\x0b", "\x0c", "\xa0", "\r\n", "\0"];
const BYTES = Array.from({ length: 256 }, (_all, code) => String.fromCharCode(code));

const TARGETS = ["/", "/x", "/a/b?c=d", "/%41", "/a;b", "//x", "/a/../b", "/?", "/x~y!$&'()*+,:@", "/a?b?c", "/[x]", "/{x}", "/x|y", "/\"", "/`^<>"];
const WRONG_TARGETS = ["*", "x", "", "/x#y", "/\\x", "/x\xe9", "/x\x7f", "/x y", "/x\ty", "http://a/x", "/x\0", "a:80", "//", "?", "/x\r", "/x\x80"];
const HOSTS = ["a", "a:80", "A.b", "[::1]", "[::1]:8080", "127.0.0.1", "a_b", "a%20", "a:", "~"];
const WRONG_HOSTS = ["", " ", "a b", "a,b", "a/b", "u@a", "a:x", "a:123456", "[::1", "a\xa0", "\xa0a", "a\x85", "a\\", "\xe9", "a\0", "a\x0b", "\tb\t", "a, b"];
const NAMES = [
  "Accept", "accept-encoding", "User-Agent", "X-A", "x-b", "Cookie", "cookie", "Connection", "connection", "CONNECTION", "Via", "Forwarded", "X-Forwarded-For", "x-forwarded-proto", "X-Forwarded-Host", "X-Request-Id", "X-Real-IP", "If-None-Match", "Range", "Referer", "Origin",
  "Cache-Control", "Authorization", "Priority", "Sec-Fetch-Mode", "DNT", "X", "x!#$%&'*+-.^`|~9", "Cookie2", "Hos", "Hostx", "Connectio", "Content-Typ", "Content-Type", "Set-Cookie", "ETag", "Date", "Vary", "Location", "Server", "Link",
];
/** Names that must not be overlooked. */
const HEAVY = [
  "Content-Length", "content-length", "CONTENT-LENGTH", "Transfer-Encoding", "transfer-encoding", "TE", "te", "Trailer", "Upgrade", "Expect", "expect", "Keep-Alive", "HTTP2-Settings", "Proxy-Connection", "Proxy-Authorization", "Sluice-Hop", "sluice-consistency", "Sluice-Replay", "Host", "host", "HOST", "Proxy-Authenticate",
];
const WRONG_NAMES = ["", " X", "X ", "X\t", "X Y", "X_Y", "Content_Length", "X\0", "X\xe9", "X\x7f", "X(", "X\"", "X,", "X/", "X;", "X=", "X@", "X[", "X{", "\tX", "X\r", "X\n", "Transfer-Encoding ", "Content-Length\x0b", "Host "];
const VALUES = ["", "b", "a b", "a\tb", "gzip, br", "close", "keep-alive", "Close", "KEEP-ALIVE", "a=b; c=d", "a=b; __txid=1.5", "__txid=x", "\"x\"", "5", "0", "chunked", "trailers", "websocket", "\xe9", "\x80\xff", "9.9.9.9", "for=1.2.3.4;proto=https", "timeout=5", "timeout=5, max=10", "x:y", ":", "text/html", "primary", "100-continue", "b;9"];
const WRONG_VALUES = ["a\0b", "a\x01b", "a\x0bb", "a\x7fb", "a\rb", "a\nb", "a\r\n b", "a\r\n\tb", "close\xa0", "\xa0keep-alive", "5\xa0", "\xa05", "chunked\xa0", "close, x", "keep-alive, close", "close\x85", "5, 5", "+5", "-1", "0x5", "5 5", "1e1", "05", "999999999999999999999", "gzip, chunked", "chunked, chunked", "identity", "Chunked", "chunked;x", ",", "x,"];
const BLANKS = ["", " ", " ", " ", "  ", "\t", " \t"];

function fieldLine(random: Random): string {
  const name = random.chance(0.12) ? random.pick(HEAVY) : mostly(random, random.pick(NAMES), WRONG_NAMES);
  const value = mostly(random, random.pick(VALUES), WRONG_VALUES, 0.04);
  return `${name}${mostly(random, ":", ["", " :", "\t:", "::", ";", "=", ": :"], 0.01)}${random.pick(BLANKS)}${value}${random.chance(0.1) ? random.pick(BLANKS) : ""}${mostly(random, "\r\n", LINE_ENDS, 0.01)}`;
}

function fieldLines(random: Random, most: number): string[] {
  return Array.from({ length: random.below(most) }, () => fieldLine(random));
}

function withLine(random: Random, lines: string[], line: string): string[] {
  lines.splice(random.below(lines.length + 1), 0, line);
  return lines;
}

/** A few bytes of `text` changed, left out, doubled or moved. */
function corrupt(random: Random, text: string): string {
  let result = text;
  for (let n = 1 + random.below(2); n > 0; n--) {
    const at = random.below(result.length);
    const to = at + 1 + random.below(4);
    switch (random.below(6)) {
      case 0: result = result.slice(0, at) + random.pick(BYTES) + result.slice(at + 1); break;
      case 1: result = result.slice(0, at) + random.pick(BYTES) + result.slice(at); break;
      case 2: result = result.slice(0, at) + result.slice(to); break;
      case 3: result = result.slice(0, to) + result.slice(at, to) + result.slice(to); break;
      case 4: result = result.slice(0, at) + random.pick([...LINE_ENDS, ...SPACES, ":", ";", ",", "_"]) + result.slice(at); break;
      default: {
        const from = random.below(result.length);
        result = result.slice(0, at) + result.slice(from, from + 12) + result.slice(at);
      }
    }
  }
  return result;
}

/** A head of a request, up to and with its blank line, or what came of it. */
export function requestHead(random: Random): string {
  const method = mostly(random, random.pick(["GET", "GET", "HEAD"]), ["POST", "get", "GETT", "HEADER", "OPTIONS", "G\0T", "", "DELETE", "PRI"]);
  const version = mostly(random, "HTTP/1.1", ["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "HTTP/1.", "HTTP/11", "", "RTSP/1.0"]);
  const target = mostly(random, random.pick(TARGETS), WRONG_TARGETS);
  const line = `${mostly(random, "", ["\r\n", " ", "\n", "\0"], 0.01)}${method}${mostly(random, " ", SPACES, 0.01)}${target}${mostly(random, " ", SPACES, 0.01)}${version}${mostly(random, "\r\n", LINE_ENDS, 0.01)}`;
  const lines = fieldLines(random, 8);
  if (!random.chance(0.02)) withLine(random, lines, `${random.pick(["Host", "host", "HOST"])}:${random.pick(BLANKS)}${mostly(random, random.pick(HOSTS), WRONG_HOSTS)}${random.chance(0.1) ? random.pick(BLANKS) : ""}\r\n`);
  const text = `${line}${lines.join("")}\r\n`;
  return random.chance(0.2) ? corrupt(random, text) : text;
}

/** A head of a response. */
export function responseHead(random: Random): string {
  const status = mostly(random, random.pick(["200", "200", "204", "304", "404", "500", "206", "301"]), ["100", "101", "103", "099", "600", "20", "2000", "-20", "2 0", "", "2\t0", "205", "599"]);
  const version = mostly(random, random.chance(0.1) ? "HTTP/1.0" : "HTTP/1.1", ["HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "ICY", "", "HTTP/0.9"]);
  const reason = random.chance(0.8) ? ` ${random.pick(["OK", "Not Found", "", "x y z", "\xe9"])}` : mostly(random, "", ["\0", " \x01", " a\rb", " a\nb", "\t"]);
  const line = `${version}${mostly(random, " ", SPACES, 0.01)}${status}${reason}${mostly(random, "\r\n", LINE_ENDS, 0.01)}`;
  const lines = fieldLines(random, 6);
  if (random.chance(0.5)) withLine(random, lines, `${random.pick(["Content-Length", "content-length"])}:${random.pick(BLANKS)}${mostly(random, String(random.below(30)), WRONG_VALUES, 0.08)}\r\n`);
  if (random.chance(0.35)) withLine(random, lines, `${random.pick(["Transfer-Encoding", "transfer-encoding"])}:${random.pick(BLANKS)}${mostly(random, random.pick(["chunked", "Chunked"]), WRONG_VALUES, 0.08)}\r\n`);
  if (random.chance(0.3)) withLine(random, lines, `Connection:${random.pick(BLANKS)}${mostly(random, random.pick(["close", "keep-alive"]), ["x", "close, x", "upgrade", "", "close\xa0"], 0.1)}\r\n`);
  const text = `${line}${lines.join("")}\r\n`;
  return random.chance(0.15) ? corrupt(random, text) : text;
}

const EXTENSIONS = ["", "", "", "", ";a", ";a=b", ";a=\"b\"", ";a;b=c", ";a=\"b;c\"", "; a", " ;a", ";", ";;", ";a=\"b", ";\xff", ";a\0", ";\x7f", ";=b", " ", "\t"];

/** A chunked body with something behind it. */
export function chunkedBody(random: Random): string {
  let text = "";
  for (let n = random.below(4); n > 0; n--) {
    const data = Array.from({ length: 1 + random.below(20) }, () => random.pick(BYTES)).join("");
    const size = mostly(random, data.length.toString(16), [data.length.toString(16).toUpperCase(), `0${data.length.toString(16)}`, `00000000000000${data.length.toString(16)}`, "", "g", "-1", "+1", "0x1", " 1", (data.length + 1).toString(16), "ffffffffffffffff"], 0.05);
    text += `${size}${random.chance(0.2) ? random.pick(EXTENSIONS) : ""}${mostly(random, "\r\n", LINE_ENDS, 0.02)}${data}${mostly(random, "\r\n", LINE_ENDS, 0.02)}`;
  }
  text += `${mostly(random, "0", ["00", "", "-0", "0x0", "000000000000000"], 0.04)}${random.chance(0.1) ? random.pick(EXTENSIONS) : ""}${mostly(random, "\r\n", LINE_ENDS, 0.02)}${random.chance(0.1) ? fieldLine(random) : ""}${mostly(random, "\r\n", LINE_ENDS, 0.02)}`;
  text += random.pick(["", "", "HTTP/1.1 200 OK\r\n", "0\r\n\r\n", "x"]);
  return random.chance(0.15) ? corrupt(random, text) : text;
}

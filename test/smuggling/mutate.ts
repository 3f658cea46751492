/**
 * Mutations of cases: what nobody thought of. A generator of random numbers decides everything, so that a seed repeats a run.
 *
 * Always holds: the result is Latin-1 text and differs from its origin. Lengths are not mended after a change: that is part of the trick.
 */
import type { Random } from "../support/random.ts";
import { SMUGGLED, type Case } from "./cases/case.ts";

/** What parsers stumble over. */
const BITS: readonly string[] = [
  "\r\n", "\n", "\r", "\r\r\n", "\n\r", "\r\n\r\n", "\n\n", " ", "\t", "\x0b", "\x0c", "\0", "\x85", "\xa0", "\xff", "\x7f", ":", ";", ",", "=", "\"", "\\", "/", "#", "?", "%", "%0d%0a", "_", "-", "+", "0", "1", "5", "a", "g", "0x",
  "0\r\n\r\n", "5\r\n", "chunked", "identity", "Transfer-Encoding: chunked\r\n", "Content-Length: 0\r\n", "Content-Length: 5\r\n", "Host: b\r\n", "Connection: close\r\n", "Connection: keep-alive\r\n", "X: y\r\n", "HTTP/1.0", "HTTP/1.1", "GET ", "POST ", SMUGGLED,
];

/** One mutated case; its name tells which, so that a failure can be read. */
export function mutate(random: Random, cases: readonly Case[], number: number): Case {
  const origin = random.pick(cases);
  let bytes = origin.bytes.slice(0, 3_000);
  const changes = 1 + random.below(3);
  for (let i = 0; i < changes; i++) bytes = change(random, bytes, cases);
  if (bytes === origin.bytes) bytes += random.pick(BITS);
  return { name: `mutation ${number} of "${origin.name}"`, bytes };
}

function change(random: Random, bytes: string, cases: readonly Case[]): string {
  const at = random.below(bytes.length + 1);
  const to = Math.min(bytes.length, at + 1 + random.below(6));
  switch (random.below(8)) {
    case 0: return bytes.slice(0, at) + random.pick(BITS) + bytes.slice(at);
    case 1: return bytes.slice(0, at) + random.pick(BITS) + bytes.slice(at + 1);
    case 2: return bytes.slice(0, at) + bytes.slice(to);
    case 3: return bytes.slice(0, to) + bytes.slice(at, to) + bytes.slice(to);
    case 4: return bytes.slice(0, at) + String.fromCharCode(random.below(256)) + bytes.slice(at + 1);
    case 5: {
      // A line of the head twice, or at another place.
      const lines = bytes.split("\r\n");
      lines.splice(random.below(lines.length), random.below(2), random.pick(lines));
      return lines.join("\r\n");
    }
    case 6: {
      // The head of one with the rest of another.
      const other = random.pick(cases).bytes.slice(0, 3_000);
      return bytes.slice(0, at) + other.slice(random.below(other.length + 1));
    }
    default: {
      // Letters change their case, as field names may.
      const part = bytes.slice(at, to);
      return bytes.slice(0, at) + (random.chance(0.5) ? part.toUpperCase() : part.toLowerCase()) + bytes.slice(to);
    }
  }
}

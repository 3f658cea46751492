/**
 * Follows a chunked body through pieces of any size, to know where it ends, without taking it apart (RFC 9112, section 7.1).
 *
 * Always holds: only sizes of 1 to 13 hexadecimal digits, CRLF as the one line end, and chunk extensions without blanks are taken; anything
 * else is a fault, and the body must then not look complete to anybody. Trailers are not read here: `trailers` says where they begin.
 */

/** `;name`, `;name=value` or `;name="value"`; "-first" wants a letter, "quoted-end" stands behind a closing quote. */
type Extension = "name-first" | "name" | "value-first" | "value" | "quoted" | "quoted-pair" | "quoted-end";
type Phase = "size-first" | "size" | Extension | "size-lf" | "data" | "data-cr" | "data-lf" | "last" | "last-lf" | "over" | "trailers" | "fault";

const CR = 13;
const LF = 10;
const SEMICOLON = 0x3b;
const EQUALS = 0x3d;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const DIGITS_MAX = 13;
const EXTENSION_MAX = 256;

export class ChunkFollower {
  #phase: Phase = "size-first";
  #size = 0;
  #digits = 0;
  #extension = 0;

  /** Complete: nothing of this body follows. */
  get over(): boolean {
    return this.#phase === "over";
  }

  /** The chunks are complete, and what follows is not the blank line: fields, up to a blank line. */
  get trailers(): boolean {
    return this.#phase === "trailers";
  }

  get fault(): boolean {
    return this.#phase === "fault";
  }

  /** Reads `bytes` from `from` to `to`; returns where it stopped: at `to`, behind the body, at its trailers, or at a fault. */
  read(bytes: Uint8Array, from: number, to: number): number {
    let at = from;
    while (at < to) {
      if (this.#phase === "data") {
        const step = Math.min(this.#size, to - at);
        this.#size -= step;
        at += step;
        if (this.#size === 0) this.#phase = "data-cr";
        continue;
      }
      this.#phase = this.#step(bytes[at]!);
      if (this.#phase === "fault" || this.#phase === "trailers") return at;
      at++;
      if (this.#phase === "over") return at;
    }
    return at;
  }

  #step(byte: number): Phase {
    switch (this.#phase) {
      case "size-first":
        this.#size = this.#digits = this.#extension = 0;
        return this.#digit(byte) ? "size" : "fault";
      case "size":
        if (byte === CR) return "size-lf";
        if (byte === SEMICOLON) return "name-first";
        return this.#digit(byte) ? "size" : "fault";
      case "name-first": case "name": case "value-first": case "value": case "quoted": case "quoted-pair": case "quoted-end":
        return ++this.#extension > EXTENSION_MAX ? "fault" : inExtension(this.#phase, byte);
      case "size-lf":
        return byte !== LF ? "fault" : this.#size === 0 ? "last" : "data";
      case "data-cr":
        return byte === CR ? "data-lf" : "fault";
      case "data-lf":
        return byte === LF ? "size-first" : "fault";
      case "last":
        return byte === CR ? "last-lf" : "trailers";
      case "last-lf":
        return byte === LF ? "over" : "fault";
      default:
        return "fault";
    }
  }

  #digit(byte: number): boolean {
    const value = byte >= 0x30 && byte <= 0x39 ? byte - 0x30 : byte >= 0x61 && byte <= 0x66 ? byte - 0x57 : byte >= 0x41 && byte <= 0x46 ? byte - 0x37 : -1;
    if (value < 0 || ++this.#digits > DIGITS_MAX) return false;
    this.#size = this.#size * 16 + value;
    return true;
  }
}

const TOKEN = new Uint8Array(256);
for (const letter of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") TOKEN[letter.charCodeAt(0)] = 1;

/** The grammar that llhttp has for extensions: what it refuses must not pass here either. */
function inExtension(phase: Extension, byte: number): Phase {
  switch (phase) {
    case "name-first":
      return TOKEN[byte] === 1 ? "name" : "fault";
    case "name":
      return TOKEN[byte] === 1 ? "name" : byte === EQUALS ? "value-first" : behindExtension(byte);
    case "value-first":
      return byte === QUOTE ? "quoted" : TOKEN[byte] === 1 ? "value" : "fault";
    case "value":
      return TOKEN[byte] === 1 ? "value" : behindExtension(byte);
    case "quoted":
      return byte === QUOTE ? "quoted-end" : byte === BACKSLASH ? "quoted-pair" : isText(byte) ? "quoted" : "fault";
    case "quoted-pair":
      return isText(byte) ? "quoted" : "fault";
    case "quoted-end":
      return behindExtension(byte);
  }
}

function behindExtension(byte: number): Phase {
  return byte === CR ? "size-lf" : byte === SEMICOLON ? "name-first" : "fault";
}

function isText(byte: number): boolean {
  return byte === 9 || (byte >= 0x20 && byte < 0x7f);
}

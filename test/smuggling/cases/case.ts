/**
 * One case of the smuggling suite: bytes as a client may send them, under a name that tables and failures use.
 *
 * Always holds: names are unique; bytes are Latin-1 text, one character a byte. Behind every case the suite sends FOLLOW_UP, the request of an innocent
 * client, unless the case says that it is alone: what a smuggled request would be mistaken for.
 */
export interface Case {
  readonly name: string;
  readonly bytes: string;
}

export const FOLLOW_UP = "GET /follow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
/** What must never be taken for a request when it is a body. */
export const SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/** A request of a head's lines and a body. */
export function request(line: string, fields: readonly string[], body = ""): string {
  return `${[line, ...fields].join("\r\n")}\r\n\r\n${body}`;
}

export function chunked(...chunks: readonly string[]): string {
  return [...chunks, ""].map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}${chunk === "" ? "" : "\r\n"}`).join("") + "\r\n";
}

/** Cases of one family, named `family: what`. */
export function family(name: string, entries: readonly (readonly [what: string, bytes: string])[]): Case[] {
  return entries.map(([what, bytes]) => ({ name: `${name}: ${what}`, bytes }));
}

/** A text as one can read it in a table. */
export function shown(text: string): string {
  return JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replace(/[\x7f-\uffff]/g, (char) => `\\x${char.charCodeAt(0).toString(16)}`);
}

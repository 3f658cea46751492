/**
 * Reads recorded bytes as HTTP/1 requests, the way a server of a given character would: one strict reader, after RFC 9112, and a family of lenient ones,
 * each with one weakness that real servers have had.
 *
 * Always holds: a reader is a pure function from bytes (as Latin-1 text) to requests; it never looks at what another reader made of them. If all of
 * them read the same requests, no server behind the proxy can be made to read others; that is why the recorded bytes are read by all.
 */
export interface ReadRequest {
  readonly method: string;
  readonly target: string;
  readonly version: string;
  /** Names in lower case, values without the blanks around them, in order. */
  readonly fields: readonly (readonly [name: string, value: string])[];
  readonly body: string;
  readonly trailers: readonly (readonly [name: string, value: string])[];
}

export interface Reading {
  readonly requests: readonly ReadRequest[];
  /** Where each request ends. */
  readonly ends: readonly number[];
  /** Why the reader stopped before the end; "incomplete" when more bytes could go on. */
  readonly stopped: string | undefined;
}

export interface Rules {
  readonly name: string;
  /** What ends a line, as a pattern. */
  readonly lineEnd: RegExp;
  readonly folds: "refuse" | "join";
  /** White space between a field's name and its colon. */
  readonly spaceBeforeColon: "refuse" | "drop";
  /** Lines without a colon, names that are no tokens, and control characters in values. */
  readonly badFields: "refuse" | "skip";
  /** `_` in a name is `-`, as in CGI. */
  readonly underscores: boolean;
  /** Transfer-Encoding beside Content-Length. */
  readonly both: "refuse" | "coding" | "length";
  /** More than one Content-Length, or a list of them. */
  readonly lengths: "refuse" | "first" | "last";
  readonly lengthOf: (text: string) => number | undefined;
  readonly isChunked: (text: string) => boolean | undefined;
  readonly chunkSizeOf: (line: string) => number | undefined;
  /** Values end at a NUL. */
  readonly nulEnds: boolean;
  /** One blank between the parts of a request line, empty lines before it only with CR LF. */
  readonly requestLine: "exact" | "easy";
  /** Tokens, targets, Host and the ends of chunks are looked at as well. */
  readonly checksAll: boolean;
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** Any blanks between and around the parts, and no version where none is. */
const EASY_LINE = /^[ \t\v\f]*([^ \t\v\f]+)[ \t\v\f]+([^ \t\v\f]+)(?:[ \t\v\f]+HTTP\/([^ \t\v\f]+))?[ \t\v\f]*$/i;
const BAD_VALUE = /[\0-\x08\x0a-\x1f\x7f]/;

export const STRICT: Rules = {
  name: "strict",
  lineEnd: /\r\n/g,
  folds: "refuse", spaceBeforeColon: "refuse", badFields: "refuse", underscores: false, both: "refuse", lengths: "refuse",
  lengthOf: (text) => (/^\d{1,15}$/.test(text) ? Number(text) : undefined),
  isChunked: (text) => (text.toLowerCase() === "chunked" ? true : undefined),
  // A quoted extension may hold what looks like the end of the size; none of it may hold a line end or a control character.
  chunkSizeOf: (line) => {
    const match = /^0*([0-9A-Fa-f]{1,12})(?:[\t ]*;[\t\x20-\x7e\x80-\xff]*)?$/.exec(line);
    return match === null ? undefined : Number.parseInt(match[1]!, 16);
  },
  nulEnds: false, requestLine: "exact", checksAll: true,
};

/** Strict, but for the beginnings of request lines: Node's parser, HAProxy and nginx pass over blanks and line ends there. */
export const RELAXED: Rules = { ...STRICT, name: "relaxed", requestLine: "easy" };

const EASY: Rules = {
  ...STRICT, name: "easy", requestLine: "easy", checksAll: false, lineEnd: /\r?\n/g, folds: "join", spaceBeforeColon: "drop", badFields: "skip",
  lengthOf: (text) => {
    const value = Number.parseInt(text.trim(), 10);
    return Number.isNaN(value) || value < 0 ? undefined : value;
  },
  isChunked: (text) => /chunked/i.test(text),
  chunkSizeOf: (line) => {
    const value = Number.parseInt(line.trim().replace(/^0x/i, ""), 16);
    return Number.isNaN(value) || value < 0 ? undefined : value;
  },
};

/** Each with another weakness. "easy" comes first: it drives the recording back end where the strict one stops. */
export const LENIENT: readonly Rules[] = [
  { ...EASY, name: "easy, coding wins", both: "coding", lengths: "first" },
  { ...EASY, name: "easy, length wins", both: "length", lengths: "last" },
  { ...EASY, name: "a lone CR ends a line", lineEnd: /\r\n|\n|\r/g, both: "coding", lengths: "first" },
  { ...EASY, name: "underscores are dashes", underscores: true, both: "coding", lengths: "first" },
  { ...EASY, name: "underscores are dashes, length wins", underscores: true, both: "length", lengths: "last" },
  { ...EASY, name: "values end at NUL", nulEnds: true, both: "coding", lengths: "last" },
  { ...EASY, name: "only an exact chunked", both: "length", lengths: "first", isChunked: (text) => text === "chunked" },
  { ...EASY, name: "the last coding counts", both: "coding", lengths: "last", isChunked: (text) => text.split(",").at(-1)!.trim().toLowerCase() === "chunked" },
  { ...EASY, name: "the first coding counts", both: "coding", lengths: "last", isChunked: (text) => text.split(",")[0]!.trim().toLowerCase() === "chunked" },
];

/** Reads as many requests as there are. */
export function read(bytes: string, rules: Rules): Reading {
  const requests: ReadRequest[] = [];
  const ends: number[] = [];
  let at = 0;
  for (;;) {
    // Empty lines before a request line are passed over (RFC 9112, section 2.2).
    while (bytes.startsWith("\r\n", at)) at += 2;
    if (rules.requestLine === "easy") while (bytes[at] === "\n" || bytes[at] === "\r") at++;
    if (at >= bytes.length) return { requests, ends, stopped: undefined };
    const one = readOne(bytes, at, rules);
    if (typeof one === "string") return { requests, ends, stopped: one };
    requests.push(one.request);
    ends.push((at = one.end));
  }
}

const INCOMPLETE = "incomplete";

function readOne(bytes: string, from: number, rules: Rules): { request: ReadRequest; end: number } | string {
  const lines = new Lines(bytes, from, rules.lineEnd);
  const requestLine = lines.next();
  if (requestLine === undefined) return INCOMPLETE;
  const words = rules.requestLine === "exact" ? /^([^ ]+) ([^ ]+) HTTP\/(1\.[01])$/.exec(requestLine) : EASY_LINE.exec(requestLine);
  if (words === null) return `request line ${JSON.stringify(requestLine)}`;
  const [, method, target, version = "0.9"] = words as unknown as [string, string, string, string | undefined];
  if (rules.checksAll && (!TOKEN.test(method) || !isTarget(method, target))) return `request line ${JSON.stringify(requestLine)}`;
  const fields = readFields(lines, rules);
  if (typeof fields === "string") return fields;
  const framing = framingOf(fields, version, rules);
  if (typeof framing === "string" && framing !== "chunked") return framing;
  const head = { method, target, version, fields };
  if (framing !== "chunked") {
    const end = lines.at + framing;
    return end > bytes.length ? INCOMPLETE : { request: { ...head, body: bytes.slice(lines.at, end), trailers: [] }, end };
  }
  let body = "";
  for (;;) {
    const line = lines.next();
    if (line === undefined) return INCOMPLETE;
    const size = rules.chunkSizeOf(line);
    if (size === undefined) return `chunk size ${JSON.stringify(line)}`;
    if (size === 0) break;
    if (lines.at + size > bytes.length) return INCOMPLETE;
    body += bytes.slice(lines.at, lines.at + size);
    lines.at += size;
    const after = lines.next();
    if (after === undefined) return INCOMPLETE;
    if (after !== "" && rules.checksAll) return `after a chunk ${JSON.stringify(after)}`;
  }
  const trailers = readFields(lines, rules);
  if (typeof trailers === "string") return trailers;
  return { request: { ...head, body, trailers }, end: lines.at };
}

class Lines {
  readonly #bytes: string;
  readonly #end: RegExp;
  at: number;

  constructor(bytes: string, at: number, end: RegExp) {
    this.#bytes = bytes;
    this.at = at;
    this.#end = new RegExp(end);
  }

  /** The next line without its end; undefined when its end is not there. */
  next(): string | undefined {
    this.#end.lastIndex = this.at;
    const match = this.#end.exec(this.#bytes);
    if (match === null) return undefined;
    const line = this.#bytes.slice(this.at, match.index);
    this.at = match.index + match[0].length;
    return line;
  }
}

function readFields(lines: Lines, rules: Rules): [string, string][] | string {
  const fields: [string, string][] = [];
  for (;;) {
    const line = lines.next();
    if (line === undefined) return INCOMPLETE;
    if (line === "") return fields;
    if (/^[ \t]/.test(line)) {
      const last = fields.at(-1);
      if (rules.folds === "refuse") return "a folded line";
      if (last !== undefined) last[1] = `${last[1]} ${line.trim()}`.trim();
      continue;
    }
    const colon = line.indexOf(":");
    let name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1).replace(/^[\t ]+|[\t ]+$/g, "");
    if (rules.spaceBeforeColon === "drop") name = name.trim();
    if (rules.badFields === "refuse" && (colon < 0 || !TOKEN.test(name) || BAD_VALUE.test(value))) return `field ${JSON.stringify(line)}`;
    if (rules.nulEnds) value = value.split("\0", 1)[0]!;
    if (rules.underscores) name = name.replaceAll("_", "-");
    fields.push([name.toLowerCase(), value]);
  }
}

function framingOf(fields: readonly (readonly [string, string])[], version: string, rules: Rules): number | "chunked" | string {
  const codings = fields.filter(([name]) => name === "transfer-encoding").map(([, value]) => value);
  const lengths = fields.filter(([name]) => name === "content-length").flatMap(([, value]) => value.split(",").map((one) => one.replace(/^[\t ]+|[\t ]+$/g, "")));
  if (rules.checksAll) {
    const hosts = fields.filter(([name]) => name === "host").length;
    if (hosts > 1 || (hosts === 0 && version === "1.1")) return `${hosts} hosts`;
    if (codings.length > 0 && version === "1.0") return "a coding in HTTP/1.0";
  }
  if (codings.length > 0 && (lengths.length === 0 || rules.both !== "length")) {
    if (lengths.length > 0 && rules.both === "refuse") return "both length and coding";
    const chunked = rules.isChunked(codings.join(", "));
    if (chunked === true) return "chunked";
    if (chunked === undefined) return "an unknown coding";
    if (lengths.length === 0) return 0;
  }
  if (lengths.length === 0) return 0;
  if (lengths.length > 1 && rules.lengths === "refuse") return "several lengths";
  const length = rules.lengthOf(rules.lengths === "last" ? lengths.at(-1)! : lengths[0]!);
  return length ?? "not a length";
}

function isTarget(method: string, target: string): boolean {
  if (target === "*") return method === "OPTIONS";
  return method !== "CONNECT" && /^(?:\/|https?:\/\/[^/?#])[\x21-\x22\x24-\x7e]*$/i.test(target);
}

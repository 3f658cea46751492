/**
 * The heads that the fast path understands: one grammar for requests, one for responses, each far smaller than HTTP's.
 *
 * Always holds: what is accepted here means the same to every parser: one spelling of line ends and of the space between things, tokens for names,
 * no folded lines, one Host, no request body. What is not accepted is not refused: it goes to the general path, which judges it. Pure; texts
 * are latin1, one character a byte. RFC 9112, sections 3 to 6.
 */

/** A GET or HEAD without a body. Offsets are into the text that was read. */
export interface RequestHead {
  readonly method: "GET" | "HEAD";
  readonly target: string;
  readonly host: string;
  /** Value of the one Cookie field; undefined without. */
  readonly cookie: string | undefined;
  /** The client wants the connection to end with the response. */
  readonly close: boolean;
  /** No field but Host, Cookie and Connection that the proxy acts on: the rest goes on as it came. */
  readonly plain: boolean;
  /** Behind the last field, where the blank line begins. */
  readonly fieldsEnd: number;
  /** The lines of the Connection and the Cookie field, with their line ends; both 0 without. */
  readonly connectionFrom: number;
  readonly connectionTo: number;
  readonly cookieFrom: number;
  readonly cookieTo: number;
}

/** How the end of a response body is known. */
export type Framing = "none" | "length" | "chunked" | "close";

export interface ResponseHead {
  readonly status: number;
  readonly framing: Framing;
  /** Bytes of the body where the framing is "length". */
  readonly length: number;
  /** The connection may carry another request after this response. */
  readonly keepAlive: boolean;
  /** Seconds for which the other side says it keeps an idle connection; 0 when it says nothing. */
  readonly idleSeconds: number;
  /** No field that the proxy acts on but those in `dropped`: the rest goes on as it came. */
  readonly plain: boolean;
  /** The application asks for this request to be answered by another node. */
  readonly replay: boolean;
  /** From where to where lines are left out, in pairs. */
  readonly dropped: readonly number[];
  /** Behind the status line. */
  readonly fieldsFrom: number;
  readonly fieldsEnd: number;
}

/**
 * The request line and the fields, tried as a whole, so that the loop below may take their form for granted. Of the target: visible ASCII without
 * `#` and `\`. Names of requests have no `_`, which some take for `-`.
 */
const REQUEST = /^(?:GET|HEAD) \/[!"$-[\]-~]* HTTP\/1\.1\r\n(?:[!#$%&'*+\-.^`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)+$/;
const RESPONSE = /^HTTP\/1\.[01] [2-5]\d\d(?: [\t\x20-\x7e\x80-\xff]*)?\r\n(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*$/;
/** Registered name, IPv4 or bracketed IPv6, with an optional port. */
const HOST = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]+)(?::\d{0,5})?$/;
const LENGTH = /^\d{1,15}$/;

type RequestField = "host" | "cookie" | "connection" | "edited" | "unknown";
/** Fields that mean something to the proxy. "edited": it writes them anew. "unknown": not here; the general path knows them. */
const REQUEST_FIELDS: ReadonlyMap<string, RequestField> = new Map([
  ["host", "host"], ["cookie", "cookie"], ["connection", "connection"], ["via", "edited"], ["forwarded", "edited"], ["x-request-id", "edited"],
  ["x-real-ip", "edited"], ["content-length", "unknown"], ["transfer-encoding", "unknown"], ["te", "unknown"], ["trailer", "unknown"],
  ["upgrade", "unknown"], ["expect", "unknown"], ["keep-alive", "unknown"], ["http2-settings", "unknown"],
]);
/** First letters of those names, and of the prefixes below; most fields of most requests begin with others. */
const FIRST = new Uint8Array(256);
for (const letter of "cefhikpstuvx") FIRST[letter.charCodeAt(0)] = FIRST[letter.toUpperCase().charCodeAt(0)] = 1;

/** Reads the head at the beginning of `text`; `end` is where its blank line begins. Undefined for whatever is not plainly a read. */
export function readRequestHead(text: string, end: number, fieldsMax: number): RequestHead | undefined {
  const fieldsEnd = end + 2;
  if (!REQUEST.test(text.slice(0, fieldsEnd))) return undefined;
  const method = text.charCodeAt(0) === 0x47 ? "GET" : "HEAD";
  const lineEnd = text.indexOf("\r\n");
  const target = text.slice(method.length + 1, lineEnd - 9);
  let host: string | undefined;
  let cookie: string | undefined;
  let close = false;
  let plain = true;
  let connectionFrom = 0, connectionTo = 0, cookieFrom = 0, cookieTo = 0;
  let count = 0;
  for (let at = lineEnd + 2; at < fieldsEnd;) {
    const next = text.indexOf("\r\n", at) + 2;
    count++;
    if (FIRST[text.charCodeAt(at)] === 1) {
      const colon = text.indexOf(":", at);
      const name = text.slice(at, colon).toLowerCase();
      const kind = REQUEST_FIELDS.get(name) ?? otherField(name);
      if (kind !== undefined) {
        switch (kind) {
          case "host":
            if (host !== undefined) return undefined;
            host = valueOf(text, colon + 1, next - 2);
            break;
          case "cookie":
            if (cookie !== undefined) return undefined;
            cookie = valueOf(text, colon + 1, next - 2);
            cookieFrom = at;
            cookieTo = next;
            break;
          case "connection": {
            if (connectionTo !== 0) return undefined;
            const value = valueOf(text, colon + 1, next - 2).toLowerCase();
            if (value === "close") close = true;
            else if (value !== "keep-alive") return undefined;
            connectionFrom = at;
            connectionTo = next;
            break;
          }
          case "edited":
            plain = false;
            break;
          case "unknown":
            return undefined;
        }
      }
    }
    at = next;
  }
  if (host === undefined || !HOST.test(host) || count > fieldsMax) return undefined;
  return { method, target, host, cookie, close, plain, fieldsEnd, connectionFrom, connectionTo, cookieFrom, cookieTo };
}

function otherField(name: string): RequestField | undefined {
  if (name.startsWith("x-forwarded-")) return "edited";
  return name.startsWith("sluice-") || name.startsWith("proxy-") ? "unknown" : undefined;
}

/**
 * The request line and fields as they go on, without the Connection field and with another value in the Cookie field, or without it. Ends with
 * a line end, ready for more fields.
 */
export function keptRequest(text: string, head: RequestHead, cookie: string | undefined): string {
  const { connectionFrom, connectionTo, cookieFrom, cookieTo, fieldsEnd } = head;
  if (cookie === head.cookie) {
    return connectionTo === 0 ? text.slice(0, fieldsEnd) : text.slice(0, connectionFrom) + text.slice(connectionTo, fieldsEnd);
  }
  const between = (from: number, to: number): string => {
    if (connectionTo === 0 || connectionFrom < from || connectionFrom >= to) return text.slice(from, to);
    return text.slice(from, connectionFrom) + text.slice(connectionTo, to);
  };
  return `${between(0, cookieFrom)}${cookie === undefined ? "" : `${text.slice(cookieFrom, cookieFrom + 6)}: ${cookie}\r\n`}${between(cookieTo, fieldsEnd)}`;
}

/** What stands between two offsets, without the blanks around it. Only these two are blanks: a no-break space belongs to the value. */
function valueOf(text: string, from: number, to: number): string {
  let [first, end] = [from, to];
  while (first < end && isBlank(text.charCodeAt(first))) first++;
  while (end > first && isBlank(text.charCodeAt(end - 1))) end--;
  return text.slice(first, end);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/** The fields between two offsets as a flat list: name, value, name, value. The text has been accepted. */
export function fieldList(text: string, from: number, end: number): string[] {
  const list: string[] = [];
  for (let at = from; at < end;) {
    const next = text.indexOf("\r\n", at) + 2;
    const colon = text.indexOf(":", at);
    list.push(text.slice(at, colon), valueOf(text, colon + 1, next - 2));
    at = next;
  }
  return list;
}

/** Reads the response head at the beginning of `text`; undefined for what is not plainly one final response. */
export function readResponseHead(text: string, end: number, toHead: boolean): ResponseHead | undefined {
  const fieldsEnd = end + 2;
  if (!RESPONSE.test(text.slice(0, fieldsEnd))) return undefined;
  const status = (text.charCodeAt(9) - 48) * 100 + (text.charCodeAt(10) - 48) * 10 + text.charCodeAt(11) - 48;
  const fieldsFrom = text.indexOf("\r\n") + 2;
  const modern = text.charCodeAt(7) === 0x31;
  let keepAlive = modern;
  let idleSeconds = 0;
  let length = -1;
  let chunked = false;
  let plain = true;
  let replay = false;
  const dropped: number[] = [];
  for (let at = fieldsFrom; at < fieldsEnd;) {
    const next = text.indexOf("\r\n", at) + 2;
    if (FIRST[text.charCodeAt(at)] === 1) {
      const colon = text.indexOf(":", at);
      const name = text.slice(at, colon).toLowerCase();
      switch (name) {
        case "content-length": {
          const value = valueOf(text, colon + 1, next - 2);
          if (length >= 0 || !LENGTH.test(value)) return undefined;
          length = Number(value);
          if (status === 204) dropped.push(at, next);
          break;
        }
        case "transfer-encoding":
          if (chunked || !modern || valueOf(text, colon + 1, next - 2).toLowerCase() !== "chunked") return undefined;
          chunked = true;
          break;
        // The second name has long been obsolete, but Node's parser heeds it, so some senders may mean it.
        case "connection": case "proxy-connection": {
          const value = valueOf(text, colon + 1, next - 2).toLowerCase();
          if (value === "close") keepAlive = false;
          // Fields that are named here go no further, and an older sender that keeps the connection is too rare to be believed.
          else if (value !== "keep-alive") plain = false;
          dropped.push(at, next);
          break;
        }
        case "keep-alive": {
          const timeout = /timeout=(\d{1,6})/.exec(text.slice(colon + 1, next - 2));
          if (timeout !== null) idleSeconds = Number(timeout[1]);
          dropped.push(at, next);
          break;
        }
        case "te": case "trailer": case "upgrade": case "http2-settings": case "proxy-authenticate":
        case "proxy-authentication-info": case "proxy-authorization":
          dropped.push(at, next);
          break;
        default:
          if (name.startsWith("sluice-")) {
            plain = false;
            if (name === "sluice-replay") replay = true;
          }
      }
    }
    at = next;
  }
  if (chunked && length >= 0) return undefined;
  const bodiless = toHead || status === 204 || status === 304;
  // A coding of a body that cannot be there.
  if (chunked && (status === 204 || status === 304)) return undefined;
  const framing = bodiless ? "none" : chunked ? "chunked" : length >= 0 ? "length" : "close";
  return {
    status, framing, length: framing === "length" ? length : 0, keepAlive: keepAlive && plain && framing !== "close", idleSeconds, plain, replay, dropped, fieldsFrom, fieldsEnd,
  };
}

/** The fields of a response as they go on, without those that are dropped. */
export function keptFields(text: string, head: ResponseHead): string {
  const { dropped, fieldsFrom, fieldsEnd } = head;
  if (dropped.length === 0) return text.slice(fieldsFrom, fieldsEnd);
  let kept = "";
  let at = fieldsFrom;
  for (let i = 0; i < dropped.length; i += 2) {
    if (dropped[i]! > at) kept += text.slice(at, dropped[i]);
    at = dropped[i + 1]!;
  }
  return at < fieldsEnd ? kept + text.slice(at, fieldsEnd) : kept;
}

/** What a plain read begins with, as far as it has come. */
export const BEGINNING = /^(?:G(?:E(?:T(?: (?:\/.*)?)?)?)?|H(?:E(?:A(?:D(?: (?:\/.*)?)?)?)?)?)$/s;
/** Interim responses but 101, which cannot come: nobody has asked for it. */
export const INTERIM = /^HTTP\/1\.1 1(?!01)\d\d(?: [\t\x20-\x7e\x80-\xff]*)?\r\n(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*$/;
export const TRAILERS = /^(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)+$/;

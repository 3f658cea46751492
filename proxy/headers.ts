/**
 * Header fields on their way through: what is dropped, what is added, in both directions.
 *
 * Always holds: fields that describe one connection end here, with those that a Connection field names, except the protected ones, which a
 * client could otherwise make vanish on their way to the application (RFC 9110, section 7.6.1). Fields beginning with `Sluice-` come from Sluice
 * or not at all. Everything else keeps its bytes, its order and its repetitions. Lists are flat: name, value, name, value.
 */
import { withoutCookie } from "./cookie.ts";

export const SLUICE_NODE = "Sluice-Node";
export const SLUICE_TXID = "Sluice-Txid";
export const SLUICE_REQUEST_ID = "Sluice-Request-Id";
/** On a 503 of a node that was sent a request for the primary and is not the primary: the request was not executed. */
export const SLUICE_REFUSED = "Sluice-Refused";
/** On a request that another node's proxy forwards: `<node>;<epoch>`, and `;write` where it belongs on the primary by its rule or by a replay. */
export const SLUICE_HOP = "Sluice-Hop";
/** On a request: eventual, session or strong. */
export const SLUICE_CONSISTENCY = "Sluice-Consistency";
/** On a request that writes: how many followers must have it before its response goes out. */
export const SLUICE_ACK = "Sluice-Ack";
/** On the response: how many had it then. */
export const SLUICE_ACKED = "Sluice-Acked";
/** On a request: answer with Server-Timing. */
export const SLUICE_TIMING = "Sluice-Timing";
/** On an application's response: `primary` has the request sent there instead. */
export const SLUICE_REPLAY = "Sluice-Replay";

const CONNECTION_FIELDS: ReadonlySet<string> = new Set([
  "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings", "proxy-authenticate",
  "proxy-authentication-info", "proxy-authorization",
]);
/** A Connection field that names one of these is not obeyed. */
const PROTECTED: ReadonlySet<string> = new Set([
  "host", "cookie", "set-cookie", "authorization", "content-length", "content-type", "content-encoding", "content-range", "forwarded", "via",
  "x-request-id", "x-real-ip", "cache-control", "location", "range", "origin", "referer", "date", "vary", "etag", "www-authenticate",
]);

/** What another node's proxy may say about its response. */
const PEER_FIELDS: ReadonlySet<string> = new Set([SLUICE_NODE, SLUICE_TXID, SLUICE_ACKED].map((name) => name.toLowerCase()));

export interface OutgoingRequest {
  /** The application, or the proxy of the primary. */
  readonly to: "application" | "peer";
  readonly clientAddress: string;
  readonly httpVersion: string;
  readonly requestId: string;
  /** For a peer: value of Sluice-Hop. */
  readonly hop: string;
  /** For a peer: value of Sluice-Ack; undefined leaves it to the peer's own setting. */
  readonly ack?: number | undefined;
  readonly cookieName: string;
  /** How many proxies in front are believed: as many entries of forwarding fields are kept, counted from the last. */
  readonly trustedHops: number;
}

/** Fields of a request as they are sent on. Content-Length is kept when there is one; Transfer-Encoding is made anew by the client. */
export function requestFields(raw: readonly string[], out: OutgoingRequest): string[] {
  const named = namedByConnection(raw);
  const fields: string[] = [];
  let forwardedFor = "";
  let forwardedProto: string | undefined;
  let forwardedHost: string | undefined;
  let forwarded = "";
  let via = "";
  let host: string | undefined;
  let requestId = false;
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!;
    const value = raw[i + 1]!;
    const lower = name.toLowerCase();
    if (CONNECTION_FIELDS.has(lower) || lower === "expect" || named?.has(lower) === true || lower.startsWith("sluice-")) continue;
    switch (lower) {
      case "x-forwarded-for": forwardedFor = join(forwardedFor, value); continue;
      case "x-forwarded-proto": forwardedProto ??= value; continue;
      case "x-forwarded-host": forwardedHost ??= value; continue;
      case "forwarded": forwarded = join(forwarded, value); continue;
      case "via": via = join(via, value); continue;
      case "host": host = value; break;
      case "x-request-id": requestId = true; break;
      case "cookie": {
        // The application has no use for Sluice's cookie, and may write cookies to its log.
        const kept = out.to === "application" ? withoutCookie(value, out.cookieName) : value;
        if (kept !== undefined) fields.push(name, kept);
        continue;
      }
    }
    fields.push(name, value);
  }
  const { trustedHops, clientAddress } = out;
  const isTrusted = trustedHops > 0;
  fields.push("X-Forwarded-For", isTrusted && forwardedFor !== "" ? join(lastEntries(forwardedFor, trustedHops), clientAddress) : clientAddress);
  // A proxy before this one, which ends TLS, knows better; it has to overwrite what its own clients send.
  const proto = isTrusted ? (forwardedProto ?? "http") : "http";
  const shownHost = isTrusted ? (forwardedHost ?? host) : host;
  fields.push("X-Forwarded-Proto", proto);
  if (shownHost !== undefined) fields.push("X-Forwarded-Host", shownHost);
  // Who uses the standard field gets it continued; the three fields above say the same to everybody else.
  if (isTrusted && forwarded !== "") fields.push("Forwarded", join(lastEntries(forwarded, trustedHops), forwardedElement(clientAddress, proto)));
  fields.push("Via", join(via, `${out.httpVersion} sluice`));
  if (!requestId) fields.push("X-Request-Id", out.requestId);
  if (out.to === "peer") {
    fields.push(SLUICE_HOP, out.hop, SLUICE_REQUEST_ID, out.requestId);
    if (out.ack !== undefined) fields.push(SLUICE_ACK, String(out.ack));
  }
  return fields;
}

/**
 * The client's address as the proxies in front say it: the entry of X-Forwarded-For that the outermost of the believed ones wrote, else the address
 * of the connection.
 */
export function originalAddress(forwardedFor: string | undefined, connectionAddress: string, trustedHops: number): string {
  if (trustedHops === 0 || forwardedFor === undefined) return connectionAddress;
  return lastEntries(forwardedFor, trustedHops).split(",")[0]!.trim() || connectionAddress;
}

/** Fields of a response as they are sent to the client. A peer's Sluice-Node, Sluice-Txid and Sluice-Acked stay; an application's are dropped. */
export function responseFields(raw: readonly string[], from: "application" | "peer", added: readonly string[]): string[] {
  const named = namedByConnection(raw);
  const fields: string[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!;
    const lower = name.toLowerCase();
    if (CONNECTION_FIELDS.has(lower) || named?.has(lower) === true) continue;
    if (lower.startsWith("sluice-") && !(from === "peer" && PEER_FIELDS.has(lower))) continue;
    fields.push(name, raw[i + 1]!);
  }
  fields.push(...added);
  return fields;
}

/**
 * Makes sure that no shared cache keeps a response that carries a client's position (RFC 9111, section 5.2.2): `public` and `s-maxage` go, `private`
 * comes, unless the response is not to be stored at all.
 */
export function madePrivate(fields: readonly string[]): string[] {
  const kept: string[] = [];
  const directives: string[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    if (fields[i]!.toLowerCase() === "cache-control") directives.push(...listEntries(fields[i + 1]!));
    else kept.push(fields[i]!, fields[i + 1]!);
  }
  const names = directives.map((one) => one.split("=", 1)[0]!.toLowerCase());
  const fit = directives.filter((_one, index) => names[index] !== "public" && names[index] !== "s-maxage" && names[index] !== "private");
  if (!names.includes("no-store")) fit.push("private");
  kept.push("Cache-Control", fit.join(", "));
  return kept;
}

/** The first value of a field in a raw list; `name` in lower case. */
export function rawField(raw: readonly string[], name: string): string | undefined {
  for (let i = 0; i + 1 < raw.length; i += 2) {
    if (raw[i]!.length === name.length && raw[i]!.toLowerCase() === name) return raw[i + 1]!;
  }
  return undefined;
}

/** Trailer fields that may reach the client: nothing that frames, routes or authenticates (RFC 9110, section 6.5.1). */
export function trailerFields(raw: readonly string[]): [string, string][] {
  const fields: [string, string][] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i]!;
    const lower = name.toLowerCase();
    if (CONNECTION_FIELDS.has(lower) || PROTECTED.has(lower) || lower.startsWith("sluice-")) continue;
    fields.push([name, raw[i + 1]!]);
  }
  return fields;
}

/** What a request is routed, judged or read by: no place for it behind the body (RFC 9110, section 6.5.1), however it is spelled. */
const NOT_BEHIND: ReadonlySet<string> = new Set(["expect", "max-forwards", "pragma", "authentication-info", "x-http-method-override", "x-http-method", "x-method-override"]);

function isFitBehind(name: string): boolean {
  const dashed = name.toLowerCase().replaceAll("_", "-");
  return !CONNECTION_FIELDS.has(dashed) && !PROTECTED.has(dashed) && !NOT_BEHIND.has(dashed) && !/^(?:sluice-|x-forwarded-|proxy-|if-)/.test(dashed);
}

/** The names that a chunked request announces for its trailers and that may be sent on, once each; none for most requests. */
export function announcedTrailers(raw: readonly string[]): string[] {
  const names = new Map<string, string>();
  let named: Set<string> | undefined;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    if (raw[i]!.length !== 7 || raw[i]!.toLowerCase() !== "trailer") continue;
    named ??= namedByConnection(raw) ?? new Set();
    for (const token of raw[i + 1]!.split(",")) {
      const name = token.trim();
      if (TOKEN.test(name) && isFitBehind(name) && !named.has(name.toLowerCase())) names.set(name.toLowerCase(), name);
    }
  }
  return [...names.values()];
}

/** Trailer fields of a request as they are sent on: those of `announced`, which announcedTrailers has chosen. */
export function requestTrailers(raw: readonly string[], announced: readonly string[]): [string, string][] {
  const names = new Set(announced.map((name) => name.toLowerCase()));
  const fields: [string, string][] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    if (names.has(raw[i]!.toLowerCase())) fields.push([raw[i]!, raw[i + 1]!]);
  }
  return fields;
}

/** Who forwarded a request, from its Sluice-Hop; undefined for a direct one. What cannot be read still counts as forwarded: it must not loop. */
export function readHop(value: string | string[] | undefined): Hop | undefined {
  if (value === undefined) return undefined;
  const match = /^([A-Za-z0-9._~%!'()*-]{1,256});(\d{1,15})(;write)?$/.exec(String(value));
  return match === null ? { node: "?", epoch: 0, isWrite: false } : { node: match[1]!, epoch: Number(match[2]), isWrite: match[3] !== undefined };
}

export function formatHop(node: string, epoch: number, isWrite: boolean): string {
  return `${encodeURIComponent(node)};${epoch}${isWrite ? ";write" : ""}`;
}

/** Another node's proxy, and what it knew when it forwarded. */
export interface Hop {
  readonly node: string;
  readonly epoch: number;
  /** The request belongs on the primary, whatever its method and the rules there say. */
  readonly isWrite: boolean;
}

/** A request id that another node chose, if it looks like one. */
export function readRequestId(value: string | string[] | undefined): string | undefined {
  return typeof value === "string" && /^[0-9A-Za-z-]{8,64}$/.test(value) ? value : undefined;
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

function join(list: string, item: string): string {
  return list === "" ? item : `${list}, ${item}`;
}

/** The entries of a list field; a comma inside quotes separates nothing. */
function listEntries(list: string): string[] {
  return (list.match(/(?:[^,"]|"(?:[^"\\]|\\.)*"?)+/g) ?? []).map((entry) => entry.trim()).filter((entry) => entry !== "");
}

function lastEntries(list: string, count: number): string {
  return listEntries(list).slice(-count).join(", ");
}

/** RFC 7239: an IPv6 address stands in brackets and quotes. */
function forwardedElement(address: string, proto: string): string {
  return `for=${address.includes(":") ? `"[${address}]"` : address};proto=${/^[A-Za-z0-9.+-]+$/.test(proto) ? proto : "http"}`;
}

function namedByConnection(raw: readonly string[]): Set<string> | undefined {
  let named: Set<string> | undefined;
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]!.length !== 10 || raw[i]!.toLowerCase() !== "connection") continue;
    for (const token of raw[i + 1]!.split(",")) {
      const name = token.trim().toLowerCase();
      if (name === "close" || name === "keep-alive" || PROTECTED.has(name) || name.startsWith("x-forwarded-") || name.startsWith("sluice-")) continue;
      (named ??= new Set()).add(name);
    }
  }
  return named;
}

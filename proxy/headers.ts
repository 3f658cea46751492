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
/** On a request that another node's proxy forwards: `<node>;<epoch>`. */
export const SLUICE_HOP = "Sluice-Hop";

const CONNECTION_FIELDS: ReadonlySet<string> = new Set([
  "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings", "proxy-authenticate",
  "proxy-authentication-info", "proxy-authorization",
]);
/** A Connection field that names one of these is not obeyed. */
const PROTECTED: ReadonlySet<string> = new Set([
  "host", "cookie", "set-cookie", "authorization", "content-length", "content-type", "content-encoding", "content-range", "forwarded", "via",
  "x-request-id", "x-real-ip", "cache-control", "location", "range", "origin", "referer", "date", "vary", "etag", "www-authenticate",
]);

export interface OutgoingRequest {
  /** The application, or the proxy of the primary. */
  readonly to: "application" | "peer";
  readonly clientAddress: string;
  readonly httpVersion: string;
  readonly requestId: string;
  /** For a peer: value of Sluice-Hop. */
  readonly hop: string;
}

/** Fields of a request as they are sent on. Content-Length is kept when there is one; Transfer-Encoding is made anew by the client. */
export function requestFields(raw: readonly string[], out: OutgoingRequest): string[] {
  const named = namedByConnection(raw);
  const fields: string[] = [];
  let forwardedFor = "";
  let forwardedProto: string | undefined;
  let forwardedHost: string | undefined;
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
      case "via": via = join(via, value); continue;
      case "host": host = value; break;
      case "x-request-id": requestId = true; break;
      case "cookie": {
        // The application has no use for Sluice's cookie, and may write cookies to its log.
        const kept = out.to === "application" ? withoutCookie(value) : value;
        if (kept !== undefined) fields.push(name, kept);
        continue;
      }
    }
    fields.push(name, value);
  }
  fields.push("X-Forwarded-For", join(forwardedFor, out.clientAddress));
  // A proxy before this one, which ends TLS, knows better; it has to overwrite what its own clients send.
  fields.push("X-Forwarded-Proto", forwardedProto ?? "http");
  if (forwardedHost !== undefined || host !== undefined) fields.push("X-Forwarded-Host", forwardedHost ?? host!);
  fields.push("Via", join(via, `${out.httpVersion} sluice`));
  if (!requestId) fields.push("X-Request-Id", out.requestId);
  if (out.to === "peer") fields.push(SLUICE_HOP, out.hop, SLUICE_REQUEST_ID, out.requestId);
  return fields;
}

/** Fields of a response as they are sent to the client. A peer's Sluice-Node and Sluice-Txid stay; an application's are dropped. */
export function responseFields(raw: readonly (Buffer | string)[], from: "application" | "peer", added: readonly string[]): string[] {
  const text = raw.map(latin1);
  const named = namedByConnection(text);
  const fields: string[] = [];
  for (let i = 0; i < text.length; i += 2) {
    const name = text[i]!;
    const lower = name.toLowerCase();
    if (CONNECTION_FIELDS.has(lower) || named?.has(lower) === true) continue;
    if (lower.startsWith("sluice-") && !(from === "peer" && (lower === "sluice-node" || lower === "sluice-txid"))) continue;
    fields.push(name, text[i + 1]!);
  }
  fields.push(...added);
  return fields;
}

/** Trailer fields that may reach the client: nothing that frames, routes or authenticates (RFC 9110, section 6.5.1). */
export function trailerFields(raw: readonly (Buffer | string)[]): [string, string][] {
  const fields: [string, string][] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = latin1(raw[i]!);
    const lower = name.toLowerCase();
    if (CONNECTION_FIELDS.has(lower) || PROTECTED.has(lower) || lower.startsWith("sluice-")) continue;
    fields.push([name, latin1(raw[i + 1]!)]);
  }
  return fields;
}

/** Who forwarded a request, from its Sluice-Hop; undefined for a direct one. What cannot be read still counts as forwarded: it must not loop. */
export function readHop(value: string | string[] | undefined): { node: string; epoch: number } | undefined {
  if (value === undefined) return undefined;
  const match = /^([A-Za-z0-9._~%!'()*-]{1,256});(\d{1,15})$/.exec(String(value));
  return match === null ? { node: "?", epoch: 0 } : { node: match[1]!, epoch: Number(match[2]) };
}

export function formatHop(node: string, epoch: number): string {
  return `${encodeURIComponent(node)};${epoch}`;
}

/** A request id that another node chose, if it looks like one. */
export function readRequestId(value: string | string[] | undefined): string | undefined {
  return typeof value === "string" && /^[0-9A-Za-z-]{8,64}$/.test(value) ? value : undefined;
}

function join(list: string, item: string): string {
  return list === "" ? item : `${list}, ${item}`;
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

function latin1(item: Buffer | string): string {
  return typeof item === "string" ? item : item.toString("latin1");
}

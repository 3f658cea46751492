/**
 * The cookie (`__txid` unless configured otherwise): which positions a client has to see.
 *
 * Value: `1` (version), then for each database `&name:epoch.txid`, the name percent-encoded, the numbers in hexadecimal. All of it are characters
 * that RFC 6265 allows in a cookie. Always holds: a forged or broken cookie reads as no cookie; an entry can make a read wait, never longer
 * than `maxLag`, and can never make it an error. A client that forges one harms only its own requests, so the cookie is not signed.
 */
import type { Mark, Marks } from "./positions.ts";

export const COOKIE_NAME = "__txid";

/** How the cookie is set. */
export interface CookieSettings {
  readonly name: string;
  /** Empty: only the host that set it. */
  readonly domain: string;
  readonly secure: boolean;
  readonly sameSite: "lax" | "strict" | "none";
  /** Longer than any follower should lag; after that the cookie has done its work. */
  readonly maxAgeMs: number;
}

export const COOKIE_DEFAULTS: CookieSettings = { name: COOKIE_NAME, domain: "", secure: false, sameSite: "lax", maxAgeMs: 300_000 };
/** What a cookie may be called: a token of RFC 9110, section 5.6.2. */
export const COOKIE_NAME_PATTERN = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/;
const SAME_SITE = { lax: "Lax", strict: "Strict", none: "None" } as const;

/** Browsers keep 4 KiB a cookie, name and attributes included. */
export const COOKIE_DATABASES_MAX = 32;
export const COOKIE_BYTES_MAX = 3 << 10;

const VERSION = "1";
const ENTRY = /^([^:]+):([0-9a-f]{1,14})\.([0-9a-f]{1,14})$/;

/** The value for `marks`, cut to the databases that changed last. */
export function encodeCookie(marks: Marks): string {
  let text = VERSION;
  let count = 0;
  for (const [database, mark] of marks) {
    const entry = `&${encodeURIComponent(database)}:${mark.epoch.toString(16)}.${mark.txid.toString(16)}`;
    if (count === COOKIE_DATABASES_MAX || text.length + entry.length > COOKIE_BYTES_MAX) break;
    text += entry;
    count++;
  }
  return text;
}

/** Reverses {@link encodeCookie}; undefined for anything that it cannot have made. */
export function decodeCookie(value: string): Marks | undefined {
  if (value.length > COOKIE_BYTES_MAX) return undefined;
  const [version, ...entries] = value.split("&");
  if (version !== VERSION || entries.length > COOKIE_DATABASES_MAX) return undefined;
  const marks = new Map<string, Mark>();
  for (const entry of entries) {
    const match = ENTRY.exec(entry);
    if (match === null) return undefined;
    const mark = { epoch: Number.parseInt(match[2]!, 16), txid: Number.parseInt(match[3]!, 16) };
    if (!Number.isSafeInteger(mark.epoch) || !Number.isSafeInteger(mark.txid)) return undefined;
    try {
      marks.set(decodeURIComponent(match[1]!), mark);
    } catch {
      return undefined;
    }
  }
  return marks;
}

/** The whole `Set-Cookie` value. */
export function setCookie(marks: Marks, { name, domain, secure, sameSite, maxAgeMs }: CookieSettings = COOKIE_DEFAULTS): string {
  const attributes = `Path=/; Max-Age=${Math.ceil(maxAgeMs / 1_000)}; HttpOnly; SameSite=${SAME_SITE[sameSite]}`;
  return `${name}=${encodeCookie(marks)}; ${attributes}${domain === "" ? "" : `; Domain=${domain}`}${secure ? "; Secure" : ""}`;
}

/** Reads back what {@link setCookie} made; undefined for another cookie. */
export function readSetCookie(value: string, name: string = COOKIE_NAME): Marks | undefined {
  if (!isNamed(value, name)) return undefined;
  const end = value.indexOf(";");
  return decodeCookie(value.slice(name.length + 1, end < 0 ? undefined : end).trim());
}

/** What the `Cookie` header says; undefined without the cookie. The first good one counts, since browsers send the most specific first. */
export function readCookie(header: string | undefined, name: string = COOKIE_NAME): Marks | undefined {
  if (header === undefined || !header.includes(name)) return undefined;
  for (const pair of header.split(";")) {
    const text = pair.trim();
    if (!isNamed(text, name)) continue;
    const marks = decodeCookie(text.slice(name.length + 1));
    if (marks !== undefined) return marks;
  }
  return undefined;
}

/** The `Cookie` header without ours, for the application; undefined when nothing is left. Other pairs keep their bytes. */
export function withoutCookie(header: string, name: string = COOKIE_NAME): string | undefined {
  if (!header.includes(name)) return header;
  const kept = header.split(";").filter((pair) => !isNamed(pair.trim(), name));
  const text = kept.join(";").trimStart();
  return text === "" ? undefined : text;
}

function isNamed(pair: string, name: string): boolean {
  return pair.length > name.length && pair.charCodeAt(name.length) === 61 && pair.startsWith(name);
}

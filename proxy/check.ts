/**
 * Which requests are refused although Node's parser took them, because another parser could read them differently.
 *
 * Always holds: what passes has one Host, one meaning of where its body ends, a target in origin form, and no field whose name turns into that of
 * another field in an application that knows only `_` or only `-`. The parser itself has already refused: both Content-Length and
 * Transfer-Encoding, two Content-Lengths, obs-fold, bare CR or LF, space before the colon, codings other than one "chunked". RFC 9112, section 11.2.
 */
export interface CheckedRequest {
  /** Origin form: `/path?query`. */
  readonly target: string;
  readonly host: string | undefined;
  /** How the body is framed; "length" carries its size in bytes, which may be 0. */
  readonly body: { readonly kind: "none" } | { readonly kind: "length"; readonly bytes: number } | { readonly kind: "chunked" };
}

/** A closed set: each is a label of a metric. */
export type Fault =
  | "version" | "host" | "framing" | "field-name" | "target" | "fields";

export interface Refused {
  readonly fault: Fault;
  readonly sentence: string;
}

export interface RequestHead {
  readonly method: string;
  readonly url: string;
  readonly httpVersion: string;
  readonly rawHeaders: readonly string[];
}

/** Checks a parsed head. `fieldsMax` bounds the number of header fields. Pure. */
export function checkRequest(head: RequestHead, fieldsMax: number): CheckedRequest | Refused {
  const { rawHeaders, httpVersion } = head;
  if (httpVersion !== "1.1" && httpVersion !== "1.0") return refuse("version", `HTTP/${httpVersion} is not spoken here.`);
  if (rawHeaders.length / 2 > fieldsMax) return refuse("fields", `The request has more than ${fieldsMax} header fields.`);

  let host: string | undefined;
  let length: string | undefined;
  let coding: string | undefined;
  let underscored: string[] | undefined;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!;
    const value = rawHeaders[i + 1]!;
    if (name.includes("_")) (underscored ??= []).push(name.toLowerCase());
    // Few names have these lengths, so most fields are not lowered at all.
    if (name.length === 4 && name.toLowerCase() === "host") {
      if (host !== undefined) return refuse("host", "The request has more than one Host field.");
      host = value;
    } else if (name.length === 14 && name.toLowerCase() === "content-length") {
      if (length !== undefined) return refuse("framing", "The request has more than one Content-Length field.");
      length = value;
    } else if (name.length === 17 && name.toLowerCase() === "transfer-encoding") {
      if (coding !== undefined) return refuse("framing", "The request has more than one Transfer-Encoding field.");
      coding = value;
    }
  }
  if (host === undefined && httpVersion === "1.1") return refuse("host", "The request has no Host field.");
  if (host !== undefined && !HOST.test(host)) return refuse("host", "The Host field is not a host name with an optional port.");
  if (coding !== undefined && httpVersion === "1.0") return refuse("framing", "An HTTP/1.0 request cannot have a Transfer-Encoding.");
  if (coding !== undefined && length !== undefined) return refuse("framing", "The request has both Content-Length and Transfer-Encoding.");
  if (coding !== undefined && coding.trim().toLowerCase() !== "chunked") return refuse("framing", "The only Transfer-Encoding that is understood is chunked.");
  if (length !== undefined && !LENGTH.test(length)) return refuse("framing", "The Content-Length is not a number.");
  if (underscored !== undefined) {
    const names = new Set(rawHeaders.filter((_name, index) => index % 2 === 0).map((name) => name.toLowerCase()));
    const collision = underscored.find((name) => names.has(name.replaceAll("_", "-")) || isSensitive(name.replaceAll("_", "-")));
    if (collision !== undefined) return refuse("field-name", `The field "${collision}" would be mistaken for "${collision.replaceAll("_", "-")}".`);
  }
  const target = originForm(head.method, head.url, host);
  if (target === undefined) return refuse("target", "The request target is neither a path nor a URL of the host in the Host field.");
  const body = coding !== undefined ? { kind: "chunked" } as const
    : length !== undefined ? { kind: "length", bytes: Number(length) } as const : { kind: "none" } as const;
  return { target, host, body };
}

/** Registered name, IPv4 or bracketed IPv6, with an optional port. An empty one is legal, and useless to an application behind a proxy. */
const HOST = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]+)(?::\d{0,5})?$/;
const LENGTH = /^\d{1,15}$/;
/** Visible ASCII without `#` (a fragment has no place in a request) and without `\`, which some take for `/`. */
const PATH = /^\/[!"$-[\]-~]*$/;
const ABSOLUTE = /^https?:\/\/([^/?#@]+)(\/[^]*|\?[^]*)?$/i;

/** Fields that the proxy or an application acts on, and that must not come in under another spelling. */
function isSensitive(name: string): boolean {
  return name.startsWith("x-forwarded-") || name.startsWith("sluice-") || SENSITIVE.has(name);
}
const SENSITIVE: ReadonlySet<string> = new Set([
  "host", "content-length", "content-type", "transfer-encoding", "connection", "cookie", "authorization", "forwarded", "via", "x-real-ip",
  "x-request-id", "upgrade", "te", "trailer", "expect", "proxy-authorization", "keep-alive", "proxy-connection", "accept-encoding", "range",
]);

function originForm(method: string, url: string, host: string | undefined): string | undefined {
  if (url === "*" && method === "OPTIONS") return url;
  let target = url;
  if (!url.startsWith("/")) {
    const absolute = ABSOLUTE.exec(url);
    // RFC 9112, section 3.2.2 lets the target win over Host. Applications look at Host, so only two equal ones are unmistakable.
    if (absolute === null || absolute[1]!.toLowerCase() !== host?.toLowerCase()) return undefined;
    const rest = absolute[2] ?? "/";
    target = rest.startsWith("/") ? rest : `/${rest}`;
  }
  const query = target.indexOf("?");
  const path = query < 0 ? target : target.slice(0, query);
  return PATH.test(path) && !target.includes("#") ? target : undefined;
}

function refuse(fault: Fault, sentence: string): Refused {
  return { fault, sentence };
}

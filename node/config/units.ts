/**
 * Values of the configuration that YAML has no type for: durations, sizes, addresses, URLs.
 *
 * Always holds: a parser is pure and returns the value or a {@link Refusal}; a refusal says what is wrong and what to write instead.
 * Units are always written out, because `10` alone has been read as seconds, minutes and milliseconds by different people.
 */

/** Why a value cannot be used, and what to do about it: two sentences without full stop. */
export interface Refusal {
  readonly reason: string;
  readonly remedy: string;
}

export type Parsed<T> = { readonly value: T } | Refusal;

export function isRefusal<T>(parsed: Parsed<T>): parsed is Refusal {
  return "reason" in parsed;
}

const show = (value: unknown): string => (typeof value === "string" ? `"${value}"` : JSON.stringify(value) ?? String(value));

const DURATION_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** "250ms", "10s", "1.5h", "1m30s" as milliseconds, within the bounds (inclusive). */
export function parseDuration(value: unknown, bounds: { readonly minMs: number; readonly maxMs: number }): Parsed<number> {
  const text = typeof value === "string" ? value.trim() : "";
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/gy)];
  if (parts.length === 0 || parts.map((part) => part[0]).join("") !== text) {
    return { reason: `${show(value)} is not a duration`, remedy: 'write a number with a unit (ms, s, m, h, d), such as "10s"' };
  }
  const ms = Math.round(parts.reduce((sum, part) => sum + Number(part[1]) * DURATION_MS[part[2] as keyof typeof DURATION_MS], 0));
  if (ms < bounds.minMs || ms > bounds.maxMs) {
    return { reason: `${show(value)} is out of range`, remedy: `give a duration from ${formatDuration(bounds.minMs)} to ${formatDuration(bounds.maxMs)}` };
  }
  return { value: ms };
}

/** The shortest way to write a duration that {@link parseDuration} reads back. */
export function formatDuration(ms: number): string {
  for (const unit of ["d", "h", "m", "s"] as const) if (ms > 0 && ms % DURATION_MS[unit] === 0) return `${ms / DURATION_MS[unit]}${unit}`;
  return `${ms}ms`;
}

const SIZE_BYTES: Readonly<Record<string, number>> = {
  "": 1, B: 1, KB: 1e3, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40,
};

/** "256MiB", "1.5GB", or a plain number of bytes; within the bounds (inclusive). */
export function parseSize(value: unknown, bounds: { readonly minBytes: number; readonly maxBytes: number }): Parsed<number> {
  const match = /^(\d+(?:\.\d+)?) ?([A-Za-z]*)$/.exec(typeof value === "number" ? String(value) : typeof value === "string" ? value.trim() : "");
  const unit = match === null ? undefined : SIZE_BYTES[match[2]!];
  if (match === null || unit === undefined) {
    return { reason: `${show(value)} is not a size`, remedy: 'write a number with a unit (KiB, MiB, GiB, KB, MB, GB), such as "256MiB"' };
  }
  const bytes = Math.round(Number(match[1]) * unit);
  if (bytes < bounds.minBytes || bytes > bounds.maxBytes) {
    return { reason: `${show(value)} is out of range`, remedy: `give a size from ${formatSize(bounds.minBytes)} to ${formatSize(bounds.maxBytes)}` };
  }
  return { value: bytes };
}

/** Bytes for a person: "256MiB", "1.5GiB", "12B". */
export function formatSize(bytes: number): string {
  for (const unit of ["TiB", "GiB", "MiB", "KiB"]) {
    const count = bytes / SIZE_BYTES[unit]!;
    if (count >= 1) return `${Number(count.toFixed(1))}${unit}`;
  }
  return `${bytes}B`;
}

const HOST_NAME = /^(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?$/;
const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.|$)){4}$/;
const LOOKS_LIKE_IPV4 = /^[\d.]+$/;

/** Addresses that mean "every interface": good for listening, useless for reaching a node. */
export function isWildcardHost(host: string): boolean {
  return host === "0.0.0.0" || host === "::" || host === "[::]" || host === "*";
}

/** `host:port`; an IPv6 host in brackets. With `reachable` a wildcard host is refused. */
export function parseAddress(value: unknown, options: { readonly reachable: boolean }): Parsed<string> {
  const match = /^(\[[0-9A-Fa-f:.]+\]|[^:[\]\s/]+):(\d{1,5})$/.exec(typeof value === "string" ? value.trim() : "");
  const host = match?.[1] ?? "";
  const port = Number(match?.[2]);
  const hostIsGood = host.startsWith("[") ? URL.canParse(`http://${host}/`) : LOOKS_LIKE_IPV4.test(host) ? IPV4.test(host) : HOST_NAME.test(host);
  if (match === null || !hostIsGood) {
    return { reason: `${show(value)} is not an address`, remedy: 'write host:port, such as "127.0.0.1:7001" (an IPv6 host in brackets)' };
  }
  if (port < 1 || port > 65_535) return { reason: `${show(value)} has port ${port}`, remedy: "give a port from 1 to 65535" };
  if (options.reachable && isWildcardHost(host)) {
    return { reason: `other programs cannot reach ${host}`, remedy: "give the name or address under which this machine is reached" };
  }
  return { value: `${host}:${port}` };
}

/** `http://host:port` without path, query or user, as a URL origin; with `tls` also https. */
export function parseOrigin(value: unknown, options: { readonly tls?: boolean; readonly example?: string } = {}): Parsed<string> {
  const remedy = `write a URL with scheme, host and port only, such as "${options.example ?? "http://10.0.0.1:8080"}"`;
  if (typeof value !== "string" || !URL.canParse(value)) return { reason: `${show(value)} is not a URL`, remedy };
  const url = new URL(value);
  if (url.protocol !== "http:" && !(options.tls === true && url.protocol === "https:")) return { reason: `${show(value)} has scheme ${url.protocol.slice(0, -1)}`, remedy };
  if (url.pathname !== "/" || url.search !== "" || url.hash !== "" || url.username !== "" || url.password !== "") {
    return { reason: `${show(value)} has more than scheme, host and port`, remedy };
  }
  if (isWildcardHost(url.hostname)) return { reason: `other nodes cannot reach ${url.hostname}`, remedy: "give the name or address under which this machine is reached" };
  return { value: url.origin };
}

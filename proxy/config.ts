/**
 * What the guardian tells the proxy, as JSON in the environment variable SLUICE_PROXY_CONFIG, and what the proxy tells the guardian over IPC.
 *
 * Always holds: the operator's file has been checked by the node; what arrives here wrong is a fault between the two processes, and is
 * reported by the name of its key.
 */
import { AppError } from "../proto/errors.ts";
import { clientsSetting, type ClientsSetting } from "./clients.ts";
import { COOKIE_DEFAULTS, COOKIE_NAME_PATTERN, type CookieSettings } from "./cookie.ts";
import { DEFAULT_LIMITS, LIMIT_ORDER, type Limits } from "./limits.ts";
import type { MetricsSnapshot } from "./metrics.ts";
import { FACT_VALUES } from "./decide.ts";
import type { PathRule } from "./rules.ts";

export const CONFIG_VARIABLE = "SLUICE_PROXY_CONFIG";

export interface ProxyConfig {
  /** `host:port`; port 0 takes a free one, which the "listening" message names. */
  readonly listen: string;
  /** A descriptor of the socket that is bound to `listen`: the guardian's, which outlives this process. Without one the proxy makes its own. */
  readonly listenFd: number | undefined;
  /** Where other nodes reach this proxy; only shown. */
  readonly advertise: string | undefined;
  /** Origin of the application, `http://host:port`. */
  readonly target: string;
  readonly maxLagMs: number;
  /** How long requests are held while there is no primary, or nobody to answer. */
  readonly holdMs: number;
  /** How many followers must have a write before its response goes out, unless the request says another number; and how long that may take. */
  readonly ack: number;
  readonly ackTimeoutMs: number;
  readonly clients: ClientsSetting;
  readonly cookie: CookieSettings;
  /** How many proxies stand in front whose X-Forwarded-For, -Proto, -Host and Forwarded are believed. */
  readonly trustedHops: number;
  /** Share of requests that get a line in the log, 0 to 1. */
  readonly accessLog: number;
  readonly rules: readonly PathRule[];
  /** Path of the engine's unix socket. */
  readonly engineSocket: string;
  readonly node: { readonly name: string };
  readonly log: { readonly level: string; readonly format: "json" | "pretty" };
  readonly limits: Limits;
}

/** What the guardian says to the proxy. */
export type GuardianMessage =
  /** Finish what runs, and end. `followed`: another process accepts on the same socket already, so there is no hurry; else the node stops. */
  { readonly type: "stop"; readonly followed: boolean };

/** Messages to the guardian. */
export type ProxyMessage =
  | { readonly type: "listening"; readonly address: string }
  /** It was told to end (SIGTERM), and goes on until a successor listens, which the guardian says by `stop`. */
  | { readonly type: "leaving" }
  /** After `stop`: no request is running any more. */
  | { readonly type: "drained" }
  | { readonly type: "fatal"; readonly message: string; readonly hint: string }
  | { readonly type: "metrics"; readonly metrics: MetricsSnapshot };

const HOLD_MS_DEFAULT = 15_000;
const ACK_MS_DEFAULT = 2_000;

type Fields = Readonly<Record<string, unknown>>;

/** Reads the JSON text; CONFIG_INVALID names the first key that is wrong. */
export function parseConfig(text: string | undefined): ProxyConfig {
  if (text === undefined) throw invalid("it is not set; the proxy is started by `sluice mount`");
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw invalid(`it is not JSON: ${(error as Error).message}`);
  }
  const fields = record(json, "the document");
  const log = record(fields["log"] ?? {}, "log");
  return {
    listen: string(fields, "listen"),
    listenFd: fields["listenFd"] === undefined ? undefined : count(fields, "listenFd"),
    advertise: fields["advertise"] === undefined ? undefined : string(fields, "advertise"),
    target: origin(string(fields, "target")),
    maxLagMs: count(fields, "maxLagMs"),
    holdMs: fields["holdMs"] === undefined ? HOLD_MS_DEFAULT : count(fields, "holdMs"),
    ack: fields["ack"] === undefined ? 0 : count(fields, "ack"),
    ackTimeoutMs: fields["ackTimeoutMs"] === undefined ? ACK_MS_DEFAULT : count(fields, "ackTimeoutMs"),
    clients: clientsSetting(fields["clients"] === undefined ? "cookie" : string(fields, "clients")),
    cookie: cookie(record(fields["cookie"] ?? {}, "cookie")),
    trustedHops: fields["trustedHops"] === undefined ? 0 : count(fields, "trustedHops"),
    accessLog: share(fields["accessLog"] ?? 0, "accessLog"),
    rules: rules(fields["rules"] ?? []),
    engineSocket: string(fields, "engineSocket"),
    node: { name: string(record(fields["node"], "node"), "name") },
    log: { level: typeof log["level"] === "string" ? log["level"] : "info", format: log["format"] === "pretty" ? "pretty" : "json" },
    limits: limits(record(fields["limits"] ?? {}, "limits")),
  };
}

/** Splits `host:port` or `[v6]:port`. */
export function hostAndPort(address: string): { host: string; port: number } {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw invalid(`"${address}" is not host:port`);
  return { host: match[1] ?? match[2] ?? "", port };
}

function invalid(reason: string): AppError {
  return new AppError("CONFIG_INVALID", [CONFIG_VARIABLE, reason]);
}

function record(value: unknown, name: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid(`${name} is not an object`);
  return value as Fields;
}

function string(fields: Fields, key: string): string {
  const value = fields[key];
  if (typeof value !== "string" || value === "") throw invalid(`${key} is not a text`);
  return value;
}

function count(fields: Fields, key: string): number {
  const value = fields[key];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw invalid(`${key} is not a whole number from 0`);
  return value;
}

function origin(target: string): string {
  const text = target.includes("://") ? target : `http://${target}`;
  if (!URL.canParse(text)) throw invalid(`target "${target}" is not host:port`);
  return new URL(text).origin;
}

function rules(value: unknown): PathRule[] {
  if (!Array.isArray(value)) throw invalid("rules is not a list");
  return value.map((item: unknown, index) => {
    const rule = record(item, `rules[${index}]`);
    const to = oneOf(rule["to"] ?? "auto", ["auto", "local", "primary"], `rules[${index}].to`);
    const consistency = oneOf(rule["consistency"] ?? "session", FACT_VALUES.consistency, `rules[${index}].consistency`);
    const { databases, cookie: withCookie = true } = rule;
    if (typeof withCookie !== "boolean") throw invalid(`rules[${index}].cookie is neither true nor false`);
    if (databases !== undefined && !(Array.isArray(databases) && databases.every((name) => typeof name === "string"))) throw invalid(`rules[${index}].databases is not a list of texts`);
    return { path: string(rule, "path"), to, consistency, cookie: withCookie, ...(databases === undefined ? {} : { databases: databases as string[] }) };
  });
}

function oneOf<const T extends string>(value: unknown, values: readonly T[], name: string): T {
  if (!values.includes(value as T)) throw invalid(`${name} is none of ${values.join(", ")}`);
  return value as T;
}

function share(value: unknown, name: string): number {
  if (typeof value !== "number" || !(value >= 0 && value <= 1)) throw invalid(`${name} is not a number from 0 to 1`);
  return value;
}

function cookie(fields: Fields): CookieSettings {
  const { name = COOKIE_DEFAULTS.name, domain = "", secure = false } = fields;
  if (typeof name !== "string" || !COOKIE_NAME_PATTERN.test(name)) throw invalid("cookie.name is not the name of a cookie");
  if (typeof domain !== "string" || !/^[A-Za-z0-9.-]*$/.test(domain)) throw invalid("cookie.domain is not a domain");
  if (typeof secure !== "boolean") throw invalid("cookie.secure is neither true nor false");
  const sameSite = oneOf(fields["sameSite"] ?? COOKIE_DEFAULTS.sameSite, ["lax", "strict", "none"], "cookie.sameSite");
  return { name, domain, secure, sameSite, maxAgeMs: fields["maxAgeMs"] === undefined ? COOKIE_DEFAULTS.maxAgeMs : count(fields, "maxAgeMs") };
}

function limits(fields: Fields): Limits {
  const result = { ...DEFAULT_LIMITS };
  for (const key of Object.keys(fields)) {
    if (!(key in result)) throw invalid(`limits.${key} is not known`);
    result[key as keyof Limits] = count(fields, key);
  }
  for (const [smaller, larger, reason] of LIMIT_ORDER) {
    if (result[smaller] > result[larger]) throw invalid(`limits.${smaller} is larger than limits.${larger}, but ${reason}`);
  }
  return result;
}

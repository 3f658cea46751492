/**
 * The shape of the configuration file: every key, its type, its default, and what must hold between keys.
 *
 * Always holds: the keys here are all keys there are; a default stands here and nowhere else (`sluice.example.yml` is compared with them).
 * The schema knows the file only; what depends on the machine (ports, folders, programs) is checked by host-check.ts.
 */
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import { z } from "zod";
import { RUN_FILES, splitAddress, type Config, type ProxyLimits } from "../core/config.ts";
import { completeLease, LEASE_KEYS, leaseSchema } from "./lease-schema.ts";
import { formatKey, isInside, lineOf, nearest, type Problem } from "./problem.ts";
import { duration, flag, folder, HOUR_MS, listenAddress, matching, oneOf, parsed, reachableAddress, SPLIT } from "./types.ts";
import { isWildcardHost, parseOrigin, parseSize, type Parsed } from "./units.ts";

const numberWithin = (min: number, max: number, isWhole: boolean) => parsed((value): Parsed<number> => {
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (typeof number === "number" && number >= min && number <= max && (!isWhole || Number.isInteger(number))) return { value: number };
  return { reason: `${shown(value)} is not a ${isWhole ? "whole number" : "number"} from ${min} to ${max}`, remedy: "write such a number" };
});

const ruleSchema = z.strictObject({
  path: matching(/^[/*]/, "the path does not start with a slash", 'write a path such as "/admin/*"'),
  to: oneOf(["auto", "local", "primary"]).default("auto"),
  consistency: oneOf(["eventual", "session", "strong"]).default("session"),
  cookie: flag.default(true),
  databases: z.array(z.string()).min(1, `the list is empty${SPLIT}name the databases, or remove the key`).optional(),
});

const cookieSchema = z.strictObject({
  name: matching(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/, "it is not the name of a cookie", "use up to 64 letters, digits, dashes and underscores").default("__txid"),
  domain: matching(/^[A-Za-z0-9.-]*$/, "it is not a domain", "write a domain such as example.org, or remove the key").default(""),
  secure: flag.default(false),
  sameSite: oneOf(["lax", "strict", "none"]).default("lax"),
  maxAge: duration(1_000, 365 * 24 * HOUR_MS).prefault("5m"),
});

const size = (minBytes: number, maxBytes: number) => parsed((value) => parseSize(value, { minBytes, maxBytes }));

const limitsSchema = z.strictObject({
  head: size(1 << 10, 1 << 20).prefault("32KiB"),
  headers: numberWithin(1, 10_000, true).prefault(200),
  headTime: duration(100, HOUR_MS).prefault("30s"),
  body: size(1 << 20, 2 ** 50).prefault("1GiB"),
  bodyIdle: duration(100, HOUR_MS).prefault("30s"),
  idle: duration(100, HOUR_MS).prefault("75s"),
  response: duration(3_000, 24 * HOUR_MS).prefault("2m"),
  connections: numberWithin(1, 1_000_000, true).prefault(20_000),
  connectionsPerClient: numberWithin(1, 1_000_000, true).prefault(2_000),
  held: numberWithin(0, 100_000, true).prefault(1_000),
  restart: duration(0, HOUR_MS).prefault("5s"),
  stop: duration(0, HOUR_MS).prefault("10s"),
});

const databaseSchema = z.strictObject({
  durability: oneOf(["async", "sync"]).default("async"),
  syncReplicas: numberWithin(1, 16, true).prefault(1),
  syncTimeout: duration(100, 5 * 60_000).prefault("5s"),
  replicate: flag.default(true),
});

const NODE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

const schema = z.strictObject({
  node: z.strictObject({
    name: matching(NODE_NAME, "it is not a name", "use up to 63 letters, digits, dots, dashes and underscores").optional(),
    region: matching(/^[A-Za-z0-9._-]{0,63}$/, "it is not a name", "use up to 63 letters, digits, dots, dashes and underscores").default(""),
  }).prefault({}),
  data: folder.default("/var/lib/sluice"),
  fuse: z.strictObject({
    mount: folder.default("/sluice"),
    driver: oneOf(["auto", "passthrough", "fuse-native"]).default("auto"),
  }).prefault({}),
  listen: listenAddress.prefault("127.0.0.1:7001"),
  advertise: reachableAddress.optional(),
  admin: listenAddress.prefault("127.0.0.1:7101"),
  lease: leaseSchema,
  proxy: z.strictObject({
    listen: listenAddress.prefault("0.0.0.0:8080"),
    advertise: parsed((value) => parseOrigin(value)).optional(),
    target: reachableAddress,
    maxLag: duration(0, HOUR_MS).prefault("5s"),
    hold: duration(0, HOUR_MS).prefault("15s"),
    ack: numberWithin(0, 16, true).prefault(0),
    ackTimeout: duration(0, 60_000).prefault("2s"),
    clients: matching(/^(?:cookie|none|address|header:[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64})$/, "it is not known", "write cookie, none, address, or header:NAME").default("cookie"),
    cookie: cookieSchema.prefault({}),
    trustedHops: numberWithin(0, 16, true).prefault(0),
    accessLog: numberWithin(0, 1, false).prefault(0),
    limits: limitsSchema.prefault({}),
    rules: z.array(ruleSchema).default([]),
  }).optional(),
  exec: z.array(z.string()).min(1, `the list is empty${SPLIT}give the command and its arguments, or remove the key`).optional(),
  log: z.strictObject({
    level: oneOf(["trace", "debug", "info", "warn", "error", "fatal", "silent"]).default("info"),
    format: oneOf(["auto", "json", "pretty"]).default("auto"),
  }).prefault({}),
  databases: z.record(z.string(), databaseSchema).default({}),
  retention: z.strictObject({
    duration: duration(1_000, 3650 * 24 * HOUR_MS).prefault("10m"),
    bytes: parsed((value) => parseSize(value, { minBytes: 2 ** 20, maxBytes: 2 ** 50 })).prefault("256MiB"),
  }).prefault({}),
});

type FileValues = z.infer<typeof schema>;

/** Known keys by parent ("" is the top), for suggestions. */
const KNOWN_KEYS: Readonly<Record<string, readonly string[]>> = {
  "": Object.keys(schema.shape), node: ["name", "region"], fuse: ["mount", "driver"], ...LEASE_KEYS,
  proxy: ["listen", "advertise", "target", "maxLag", "hold", "ack", "ackTimeout", "clients", "cookie", "trustedHops", "accessLog", "limits", "rules"], log: ["level", "format"], retention: ["duration", "bytes"],
  "proxy.rules[]": Object.keys(ruleSchema.shape), "proxy.cookie": Object.keys(cookieSchema.shape), "proxy.limits": Object.keys(limitsSchema.shape), "databases[]": Object.keys(databaseSchema.shape),
};

export interface SchemaInput {
  readonly value: unknown;
  readonly file: string;
  readonly lines: Readonly<Record<string, number>>;
  /** Folder that relative paths start from. */
  readonly base: string;
}

/** Checks the values of a file. Either a complete configuration or every problem found, in the order of the file. */
export function applySchema(input: SchemaInput): { readonly config: Config } | { readonly problems: readonly Problem[] } {
  const result = schema.safeParse(input.value ?? {}, { reportInput: true });
  const problems = result.success ? [] : result.error.issues.flatMap((issue) => explain(issue, input));
  if (result.success) {
    const config = complete(result.data, input, problems);
    if (config !== undefined && problems.length === 0) return { config };
  }
  return { problems: problems.toSorted((a, b) => a.line - b.line) };
}

/** Fills in what depends on other keys, and checks what must hold between keys. */
function complete(values: FileValues, input: SchemaInput, problems: Problem[]): Config | undefined {
  // A key that is missing is shown at the line of the one that makes it necessary.
  const refuse = (key: string, reason: string, remedy: string, lineOfKey = key): void => void problems.push({ file: input.file, line: lineOf(input.lines, lineOfKey), key, reason, remedy });
  const data = resolve(input.base, values.data);
  const mount = resolve(input.base, values.fuse.mount);
  const name = values.node.name ?? hostname();
  if (!NODE_NAME.test(name)) refuse("node.name", `the host name "${name}" cannot serve as the name of a node`, "give node.name");

  if (isInside(mount, data) || isInside(data, mount)) {
    refuse(mount === "/" || isInside(data, mount) ? "data" : "fuse.mount", `data (${data}) and fuse.mount (${mount}) overlap`, "give two folders of which neither lies in the other");
  }
  const socketBytes = Buffer.byteLength(join(data, "run", RUN_FILES.engineSocket));
  // sun_path of unix(7) has room for 107 bytes and a NUL.
  if (socketBytes > 107) refuse("data", `the path is ${socketBytes - 107} bytes too long for the sockets in it`, "choose a shorter path");

  const listenHost = splitAddress(values.listen).host;
  if (values.advertise === undefined && isWildcardHost(listenHost)) {
    refuse("advertise", `it is missing, and other nodes cannot reach ${listenHost}`, 'give the address under which they reach this node, such as "10.0.0.1:7001"', "listen");
  }
  const advertise = values.advertise ?? values.listen;
  const lease = completeLease(values.lease, { base: input.base, name, listen: values.listen, advertise, folders: { data, "fuse.mount": mount }, refuse });

  const proxy = values.proxy;
  const listeners = [["listen", values.listen], ["admin", values.admin], ...(proxy === undefined ? [] : [["proxy.listen", proxy.listen]])] as [string, string][];
  for (const [index, [key, address]] of listeners.entries()) {
    const other = listeners.slice(0, index).find(([, earlier]) => collide(earlier, address));
    if (other !== undefined) refuse(key, `${address} is already used by ${other[0]}`, "choose another port");
  }
  if (proxy !== undefined) {
    const target = splitAddress(proxy.target);
    const own = splitAddress(proxy.listen);
    const local = ["127.0.0.1", "localhost", "::1", own.host];
    if (target.port === own.port && local.includes(target.host) && (isWildcardHost(own.host) || own.host === target.host)) {
      refuse("proxy.target", `${proxy.target} is the proxy itself`, "give the address of the application");
    }
  }
  for (const [index, word] of (values.exec ?? []).entries()) {
    if (index === 0 && word === "") refuse("exec[0]", "the command is empty", "give the program to start");
    if (word.includes("\0")) refuse(`exec[${index}]`, "it contains a NUL character", "remove it");
  }
  if (proxy?.cookie.sameSite === "none" && !proxy.cookie.secure) refuse("proxy.cookie.sameSite", "browsers drop a cookie with SameSite=None that is not Secure", "set proxy.cookie.secure to true", "proxy");
  if (problems.length > 0 || lease === undefined) return undefined;

  return {
    source: { file: input.file, lines: { ...input.lines } },
    node: { name, region: values.node.region },
    data,
    fuse: { mount, driver: values.fuse.driver },
    listen: values.listen,
    advertise,
    admin: values.admin,
    lease,
    proxy: proxy === undefined ? undefined : {
      listen: proxy.listen, target: proxy.target, maxLagMs: proxy.maxLag, holdMs: proxy.hold, ack: proxy.ack, ackTimeoutMs: proxy.ackTimeout, clients: proxy.clients, trustedHops: proxy.trustedHops, accessLog: proxy.accessLog,
      cookie: { name: proxy.cookie.name, domain: proxy.cookie.domain, secure: proxy.cookie.secure, sameSite: proxy.cookie.sameSite, maxAgeMs: proxy.cookie.maxAge },
      limits: proxyLimits(proxy.limits),
      rules: proxy.rules.map(({ databases, ...rule }) => ({ ...rule, ...(databases === undefined ? {} : { databases }) })),
      advertise: proxy.advertise ?? `http://${proxyHost(proxy.listen, advertise)}:${splitAddress(proxy.listen).port}`,
    },
    exec: values.exec,
    log: values.log,
    databases: patternsInOrder(input.value).map((pattern) => {
      const { syncTimeout, ...rule } = values.databases[pattern]!;
      return { pattern, ...rule, syncTimeoutMs: syncTimeout };
    }),
    retention: { durationMs: values.retention.duration, bytes: values.retention.bytes },
  };
}

/** The operator's names are short; the proxy's say what is counted. */
function proxyLimits(limits: z.infer<typeof limitsSchema>): ProxyLimits {
  return {
    headBytes: limits.head, headerCount: limits.headers, headMs: limits.headTime, bodyBytes: limits.body, bodyIdleMs: limits.bodyIdle, keepAliveMs: limits.idle,
    responseHeadMs: limits.response, connections: limits.connections, connectionsPerClient: limits.connectionsPerClient, heldRequests: limits.held, targetRestartMs: limits.restart, stopMs: limits.stop,
  };
}

/** The host of the proxy's own address, or of `advertise` where the proxy listens on every interface; with brackets where needed. */
function proxyHost(listen: string, advertise: string): string {
  const host = splitAddress(isWildcardHost(splitAddress(listen).host) ? advertise : listen).host;
  return host.includes(":") ? `[${host}]` : host;
}

/** A JavaScript object moves keys that look like numbers to the front, which no pattern of a database is likely to be. */
function patternsInOrder(value: unknown): string[] {
  return Object.keys((value as { databases?: object } | null)?.databases ?? {});
}

/** Whether two listeners cannot exist together: the same port on one host, or on all of them. */
function collide(a: string, b: string): boolean {
  const [first, second] = [splitAddress(a), splitAddress(b)];
  return first.port === second.port && (first.host === second.host || isWildcardHost(first.host) || isWildcardHost(second.host));
}

type Issue = z.core.$ZodIssue;

/** A schema issue in plain words. */
function explain(issue: Issue, input: SchemaInput): Problem[] {
  const key = formatKey(issue.path);
  const problem = (at: string, reason: string, remedy: string): Problem => ({ file: input.file, line: lineOf(input.lines, at), key: at, reason, remedy });
  const [reason, remedy] = issue.message.split(SPLIT);
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((unknown) => unknownKey(unknown, key, formatKey([...issue.path, unknown]), problem));
    case "invalid_type":
      if (issue.input === undefined) return [problem(key, "it is missing", `add it${MISSING_HINTS[key] ?? ""}`)];
      return [problem(key, `${shown(issue.input)} is not ${TYPE_NAMES[issue.expected] ?? issue.expected}`, `write ${TYPE_NAMES[issue.expected] ?? issue.expected}${quoteHint(issue)}`)];
    case "invalid_union":
      return [problem(key, `${shown(issue.input)} is not true or false`, "write true or false")];
    case "invalid_value": {
      if (issue.input === undefined) return [problem(key, "it is missing", `write one of ${issue.values.join(", ")}`)];
      // The only value of a key is not what a near word was meant to be: "sync" is the opposite of "async".
      const near = typeof issue.input === "string" && issue.values.length > 1 ? nearest(issue.input, issue.values.map(String)) : undefined;
      const known = issue.values.length === 1 ? `write ${String(issue.values[0])}, the only one so far` : `write one of ${issue.values.join(", ")}`;
      return [problem(key, `${shown(issue.input)} is not known`, near === undefined ? known : `did you mean "${near}"?`)];
    }
    default:
      if (issue.code === "custom" && issue.input === undefined) return [problem(key, "it is missing", `add it${MISSING_HINTS[key] ?? ""}`)];
      return [problem(key, reason ?? "it cannot be used", remedy ?? "see sluice.example.yml")];
  }
}

function unknownKey(unknown: string, parent: string, at: string, problem: (at: string, reason: string, remedy: string) => Problem): Problem {
  const siblings = KNOWN_KEYS[parent.replace(/\[[^\]]*\]$/, "[]")] ?? [];
  const near = nearest(unknown, siblings);
  if (near !== undefined) return problem(at, "this key is not known", `did you mean "${near}"?`);
  const elsewhere = Object.entries(KNOWN_KEYS).find(([place, keys]) => !place.endsWith("[]") && keys.includes(unknown));
  if (elsewhere !== undefined) return problem(at, "this key is not known here", `it belongs ${elsewhere[0] === "" ? "to the top level" : `below "${elsewhere[0]}"`}`);
  return problem(at, "this key is not known", siblings.length === 0 ? "remove it" : `remove it, or use one of ${siblings.join(", ")}`);
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  string: "a text", object: "a group of keys", record: "a group of keys", array: "a list", boolean: "true or false", number: "a number",
};

const MISSING_HINTS: Readonly<Record<string, string>> = {
  lease: ": it names the primary, as in `lease: {primary: 10.0.0.1:7001}`",
  "proxy.target": ": the address of the application, such as 127.0.0.1:3000",
};

function quoteHint(issue: { readonly expected: string; readonly input?: unknown }): string {
  return issue.expected === "string" && ["number", "boolean"].includes(typeof issue.input) ? ", with quotes around it" : "";
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return "an empty value";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a group of keys";
  return typeof value === "string" ? `"${value}"` : String(value);
}

/**
 * The configuration of a node as the parts of Sluice see it: complete, checked, with every default filled in.
 *
 * Always holds: durations are milliseconds and end in `Ms`, sizes are bytes, paths are absolute, addresses are `host:port` with a literal
 * IPv6 host in brackets. It is plain data, so that it crosses a process boundary as JSON unchanged. It lies in the core, apart from the code
 * that reads the file, so that the engine does not carry a YAML parser and a schema library in its memory.
 */
import { assert } from "./assert.ts";

export interface Config {
  /** The file it was read from, and on which line each key stands ("fuse.mount" → 3): for errors that are found later. */
  readonly source: { readonly file: string; readonly lines: Readonly<Record<string, number>> };
  readonly node: { readonly name: string; readonly region: string };
  /** Folder of backing files and log. */
  readonly data: string;
  readonly fuse: { readonly mount: string; readonly driver: FuseDriver };
  /** gRPC between nodes. */
  readonly listen: string;
  /** Where other nodes reach `listen`. */
  readonly advertise: string;
  /** HTTP for the operator. */
  readonly admin: string;
  readonly lease: LeaseConfig;
  readonly proxy: ProxySettings | undefined;
  /** The application: command and arguments. */
  readonly exec: readonly string[] | undefined;
  readonly log: LogConfig;
  /** First match wins: see {@link databaseSettings}. */
  readonly databases: readonly DatabaseRule[];
  readonly retention: { readonly durationMs: number; readonly bytes: number };
}

export type FuseDriver = "auto" | "passthrough" | "fuse-native";

/** How the nodes agree on who is primary. */
export type LeaseConfig = {
  readonly ttlMs: number;
  /** Whether this node may become primary. */
  readonly candidate: boolean;
  /** auto: it takes the lease when nobody has it; manual: only when an operator says so. */
  readonly promote: "auto" | "manual";
} & (
  /** `primary`: the `advertise` address of the primary. */
  | { readonly type: "static"; readonly primary: string }
  | { readonly type: "local"; readonly local: { readonly path: string } }
  | { readonly type: "etcd"; readonly etcd: EtcdSettings }
  | { readonly type: "consul"; readonly consul: ConsulSettings }
);

export interface EtcdSettings {
  /** URLs without a path, all http or all https. */
  readonly endpoints: readonly string[];
  /** All keys begin with it and a slash. */
  readonly prefix: string;
  readonly user: string | undefined;
  readonly password: string | undefined;
  /** Files: whom this node believes, and who it is. */
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  /** The node runs an etcd server of its own. */
  readonly spawn: { readonly data: string; readonly peers: Readonly<Record<string, string>>; /** Where it takes clients: an endpoint of this node. */ readonly client: string } | undefined;
}

export interface ConsulSettings {
  /** URL without a path. */
  readonly url: string;
  /** All keys begin with it and a slash. */
  readonly key: string;
  readonly token: string | undefined;
}

export interface ProxySettings {
  readonly listen: string;
  /** URL without a path where other nodes' proxies forward to. */
  readonly advertise: string;
  /** `host:port` of the application. */
  readonly target: string;
  readonly maxLagMs: number;
  /** How long requests are held while there is no primary. */
  readonly holdMs: number;
  /** How many followers must have a write before its response goes out, and how long that may take. */
  readonly ack: number;
  readonly ackTimeoutMs: number;
  /** `cookie`, `none`, `address` or `header:NAME`. */
  readonly clients: string;
  readonly cookie: { readonly name: string; readonly domain: string; readonly secure: boolean; readonly sameSite: "lax" | "strict" | "none"; readonly maxAgeMs: number };
  /** Proxies in front whose forwarding fields are believed. */
  readonly trustedHops: number;
  /** Share of requests with a line in the log. */
  readonly accessLog: number;
  readonly limits: ProxyLimits;
  readonly rules: readonly ProxyRule[];
}

/** Those bounds of the proxy that are the operator's, under the names that the proxy has for them. */
export interface ProxyLimits {
  readonly headBytes: number;
  readonly headerCount: number;
  readonly headMs: number;
  readonly bodyBytes: number;
  readonly bodyIdleMs: number;
  readonly keepAliveMs: number;
  readonly responseHeadMs: number;
  readonly connections: number;
  readonly connectionsPerClient: number;
  readonly heldRequests: number;
  readonly targetRestartMs: number;
  readonly stopMs: number;
}

export interface ProxyRule {
  readonly path: string;
  readonly to: "auto" | "local" | "primary";
  readonly consistency: "eventual" | "session" | "strong";
  readonly cookie: boolean;
  readonly databases?: readonly string[];
}

export interface LogConfig {
  readonly level: "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent";
  /** "auto" is pretty on a terminal and JSON elsewhere. */
  readonly format: "auto" | "json" | "pretty";
}

/** "sync": a COMMIT returns only when `syncReplicas` followers have stored its transaction; after `syncTimeoutMs` it fails. */
export type Durability = "async" | "sync";

export interface DatabaseRule {
  /** Glob over the path below the mount: `*` and `?` stop at a slash, `**` does not. */
  readonly pattern: string;
  readonly durability: Durability;
  readonly syncReplicas: number;
  readonly syncTimeoutMs: number;
  readonly replicate: boolean;
}

/** What holds for a database that no rule names. */
export const DEFAULT_DATABASE_RULE: DatabaseRule = { pattern: "**", durability: "async", syncReplicas: 1, syncTimeoutMs: 5_000, replicate: true };

/** The rule for the database at this path below the mount ("app.db", "cache/a.db"): the first whose pattern matches the whole path. */
export function databaseSettings(config: Pick<Config, "databases">, path: string): DatabaseRule {
  return config.databases.find((rule) => globToRegExp(rule.pattern).test(path)) ?? DEFAULT_DATABASE_RULE;
}

/** A glob as an anchored expression. `**` followed by a slash also matches no folder at all. */
export function globToRegExp(glob: string): RegExp {
  const source = glob.replace(/\*\*\/|\*\*|\*|\?|[.+^${}()|[\]\\]/g, (token) => {
    switch (token) {
      case "**/": return "(?:.*/)?";
      case "**": return ".*";
      case "*": return "[^/]*";
      case "?": return "[^/]";
      default: return `\\${token}`;
    }
  });
  return new RegExp(`^${source}$`, "su");
}

/** The two halves of a checked `host:port`; the host without brackets. */
export function splitAddress(address: string): { host: string; port: number } {
  const at = address.lastIndexOf(":");
  assert(at > 0, `not an address: ${address}`);
  return { host: address.slice(0, at).replace(/^\[(.*)\]$/, "$1"), port: Number(address.slice(at + 1)) };
}

/** Unix sockets and records of a running node, below `<data>/run`. */
export const RUN_FILES = { engineSocket: "engine.sock", adminSocket: "admin.sock", mountRecord: "mount.json", lock: "lock" } as const;

/**
 * The part of the configuration file below `lease`: its keys, their defaults, and what must hold between them.
 *
 * Always holds: only the section of the chosen type is completed; those of other types are checked by form and left out. The defaults stand
 * here and nowhere else.
 */
import { resolve } from "node:path";
import { z } from "zod";
import { splitAddress, type EtcdSettings, type LeaseConfig } from "../core/config.ts";
import { isInside } from "./problem.ts";
import { duration, file, flag, folder, HOUR_MS, matching, oneOf, parsed, reachableAddress, SPLIT } from "./types.ts";
import { formatDuration, parseOrigin } from "./units.ts";

const url = (example: string) => parsed((value) => parseOrigin(value, { tls: true, example }));
const secret = matching(/^[^\0]+$/, "it is empty", "give it, or remove the key");

const spawnSchema = z.strictObject({
  data: folder.default("/var/lib/sluice-etcd"),
  peers: z.record(z.string(), parsed((value) => parseOrigin(value, { example: "http://10.0.0.1:2380" }))),
});

const localSchema = z.strictObject({ path: file.default("/var/lib/sluice-lease.db") });

const etcdSchema = z.strictObject({
  endpoints: z.array(url("http://10.0.0.1:2379")).min(1, `the list is empty${SPLIT}give the URLs of the etcd servers, such as "http://10.0.0.1:2379"`).default(["http://127.0.0.1:2379"]),
  prefix: matching(/^(?:\/[A-Za-z0-9._-]+){1,8}$/, "it is not the beginning of a key", "write a slash and a name, such as /sluice").default("/sluice"),
  user: secret.optional(),
  password: secret.optional(),
  ca: file.optional(),
  cert: file.optional(),
  key: file.optional(),
  spawn: spawnSchema.optional(),
});

const consulSchema = z.strictObject({
  url: url("http://127.0.0.1:8500").prefault("http://127.0.0.1:8500"),
  key: matching(/^[A-Za-z0-9._-]+(?:\/[A-Za-z0-9._-]+){0,7}$/, "it is not the beginning of a key", "write a name without a slash at its ends, such as sluice").default("sluice"),
  token: secret.optional(),
});

export const leaseSchema = z.strictObject({
  type: oneOf(["static", "local", "etcd", "consul"]).default("static"),
  primary: reachableAddress.optional(),
  ttl: duration(1_000, HOUR_MS).prefault("10s"),
  candidate: flag.default(true),
  promote: oneOf(["auto", "manual"]).default("auto"),
  local: localSchema.prefault({}),
  etcd: etcdSchema.prefault({}),
  consul: consulSchema.prefault({}),
});

/** Known keys by parent, for suggestions. */
export const LEASE_KEYS: Readonly<Record<string, readonly string[]>> = {
  lease: Object.keys(leaseSchema.shape), "lease.local": Object.keys(localSchema.shape), "lease.etcd": Object.keys(etcdSchema.shape),
  "lease.etcd.spawn": Object.keys(spawnSchema.shape), "lease.consul": Object.keys(consulSchema.shape),
};

/** Sessions of Consul are not shorter. */
const CONSUL_TTL_MIN_MS = 10_000;

export interface LeaseContext {
  /** Folder that relative paths start from. */
  readonly base: string;
  readonly name: string;
  readonly listen: string;
  readonly advertise: string;
  /** By key: where nothing else may lie. */
  readonly folders: Readonly<Record<string, string>>;
  refuse(key: string, reason: string, remedy: string, lineOfKey?: string): void;
}

type Values = z.infer<typeof leaseSchema>;

/** The settings of the chosen type; undefined where a problem was told. */
export function completeLease(values: Values, context: LeaseContext): LeaseConfig | undefined {
  const { refuse } = context;
  const common = { ttlMs: values.ttl, candidate: values.candidate, promote: values.promote };
  if (values.type !== "static" && values.primary !== undefined) {
    refuse("lease.primary", `with lease.type ${values.type} the nodes elect the primary`, "remove it, or write lease.type static");
    return undefined;
  }
  const path = (given: string): string => resolve(context.base, given);
  switch (values.type) {
    case "static": {
      const { primary } = values;
      if (primary === undefined) {
        refuse("lease.primary", "it is missing", "add it: the advertise address of the primary, or of this node if it is the primary");
        return undefined;
      }
      if (primary === context.listen && primary !== context.advertise) {
        refuse("lease.primary", `it is the listen address of this node, but other nodes know it as ${context.advertise}`, `write ${context.advertise} to make this node the primary`);
      }
      return { ...common, type: "static", primary };
    }
    case "local": {
      const file = path(values.local.path);
      keepApart("lease.local.path", file, context);
      return { ...common, type: "local", local: { path: file } };
    }
    case "etcd": {
      const etcd = completeEtcd(values.etcd, path, context);
      return etcd === undefined ? undefined : { ...common, type: "etcd", etcd };
    }
    case "consul": {
      const { url, key, token } = values.consul;
      if (values.ttl < CONSUL_TTL_MIN_MS) refuse("lease.ttl", `Consul has no sessions shorter than ${formatDuration(CONSUL_TTL_MIN_MS)}`, `write ${formatDuration(CONSUL_TTL_MIN_MS)} or more`);
      return { ...common, type: "consul", consul: { url, key, token } };
    }
  }
}

function completeEtcd(values: Values["etcd"], path: (given: string) => string, context: LeaseContext): EtcdSettings | undefined {
  const { refuse } = context;
  const { endpoints, prefix, user, password, spawn } = values;
  const first = endpoints[0]!;
  const scheme = new URL(first).protocol;
  const other = endpoints.find((endpoint) => new URL(endpoint).protocol !== scheme);
  if (other !== undefined) refuse("lease.etcd.endpoints", `${first} and ${other} have different schemes`, "write http for all, or https for all");
  const pairs = [["user", "password"], ["password", "user"], ["cert", "key"], ["key", "cert"]] as const;
  for (const [here, missing] of pairs) {
    if (values[here] !== undefined && values[missing] === undefined) refuse(`lease.etcd.${missing}`, `it is missing, and ${here} is of no use without it`, "add it", `lease.etcd.${here}`);
  }
  for (const key of ["ca", "cert"] as const) {
    if (values[key] !== undefined && scheme === "http:") refuse(`lease.etcd.${key}`, `the endpoints are http, so it would not be looked at`, "write https in lease.etcd.endpoints, or remove it");
  }
  const files = { ca: values.ca && path(values.ca), cert: values.cert && path(values.cert), key: values.key && path(values.key) };
  if (spawn === undefined) return { endpoints, prefix, user, password, ...files, spawn: undefined };

  const peer = spawn.peers[context.name];
  if (peer === undefined) {
    refuse("lease.etcd.spawn.peers", `it does not name this node, ${context.name}`, `add it, as in {${context.name}: "http://10.0.0.1:2380"}`);
    return undefined;
  }
  const data = path(spawn.data);
  keepApart("lease.etcd.spawn.data", data, context);
  if (scheme === "https:") refuse("lease.etcd.endpoints", "an etcd that the node starts has no certificates", "write http, or run etcd apart from the node and remove lease.etcd.spawn");
  const own = new Set(["127.0.0.1", "localhost", "[::1]", new URL(peer).hostname, splitAddress(context.advertise).host]);
  const client = endpoints.find((endpoint) => own.has(new URL(endpoint).hostname));
  if (client === undefined) {
    refuse("lease.etcd.endpoints", "none of them is on this machine, where the node starts an etcd", 'add its own, such as "http://127.0.0.1:2379"');
    return undefined;
  }
  return { endpoints, prefix, user, password, ...files, spawn: { data, peers: spawn.peers, client } };
}

/** A place of its own: neither in a folder of the node's nor around one. */
function keepApart(key: string, path: string, context: LeaseContext): void {
  for (const [name, folder] of Object.entries(context.folders)) {
    if (isInside(path, folder) || isInside(folder, path)) context.refuse(key, `${path} and ${name} (${folder}) overlap`, "choose a place outside of it");
  }
}

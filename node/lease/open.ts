/**
 * The lease store that the configuration asks for.
 *
 * Always holds: only the module of the chosen type is loaded, because a node is to fit beside its application. Nothing is connected here: a
 * store that cannot be reached says so with the first call, and the node goes on trying.
 */
import type { LeaseConfig } from "../core/config.ts";
import type { LeaseStore } from "./lease.ts";

export interface IdentityFacts {
  /** The epoch of a static primary; asked once for each acquisition. */
  readonly epoch: () => number;
}

export async function openLeaseStore(config: LeaseConfig, identity: IdentityFacts): Promise<LeaseStore> {
  switch (config.type) {
    case "static": {
      const { StaticStore } = await import("./static.ts");
      return new StaticStore({ primary: config.primary, epoch: identity.epoch });
    }
    case "local": {
      const { LocalStore } = await import("./local.ts");
      return new LocalStore(config.local.path);
    }
    case "etcd": {
      const [{ KeyValueStore }, { EtcdKeyValue }] = await Promise.all([import("./key-value-store.ts"), import("./etcd.ts")]);
      return new KeyValueStore(new EtcdKeyValue(config.etcd));
    }
    case "consul": {
      const [{ KeyValueStore }, { ConsulKeyValue }] = await Promise.all([import("./key-value-store.ts"), import("./consul.ts")]);
      return new KeyValueStore(new ConsulKeyValue(config.consul));
    }
  }
}

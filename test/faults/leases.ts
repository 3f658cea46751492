/**
 * The types of lease that the fault tests can be run with.
 *
 * Always holds: a type that this release does not have is refused by name, not skipped in silence. `local` is a file that all nodes of this machine
 * share, past the network, so it cannot be cut off; `etcd` is a real server in a namespace of its own.
 */
import { spawnSync, type ChildProcess } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import Database from "better-sqlite3";
import { sluice, until } from "../support/cluster.ts";
import { STATIC_LEASE, STORE, type FaultCluster, type LeaseKind } from "./cluster.ts";

async function primaryOf(cluster: FaultCluster): Promise<(typeof cluster.nodes)[number] | undefined> {
  for (const node of cluster.nodes) if ((await node.status())?.roleState === "primary") return node;
  return undefined;
}

/** `sluice handoff` on whoever is the primary. It may be refused: nobody may be there to take the lease under other faults. */
async function handoff(cluster: FaultCluster): Promise<void> {
  const primary = await primaryOf(cluster);
  if (primary !== undefined) await sluice("handoff", "-c", primary.config);
}

/** What every node has of a database in `diverged/`, exported as an operator would, by session. */
async function divergedEntries(cluster: FaultCluster, database: string): Promise<Record<string, number[]>> {
  const all: Record<string, number[]> = {};
  for (const node of cluster.nodes) {
    const { code, output } = await sluice("diverged", "list", "--json", "-c", node.config);
    if (code !== 0) throw new Error(`diverged list on ${node.name}: ${output}`);
    for (const { id, database: of } of (JSON.parse(output) as { entries: { id: string; database: string }[] }).entries) {
      if (of !== database) continue;
      const target = join(cluster.folder, `${node.name}-${id.replaceAll("/", "_")}.export`);
      const exported = await sluice("diverged", "export", id, target, "-c", node.config);
      if (exported.code !== 0) throw new Error(`diverged export ${id} on ${node.name}: ${exported.output}`);
      if (!fs.statSync(target).isFile()) throw new Error(`diverged ${id} on ${node.name} is no whole database: ${exported.output}`);
      const db = new Database(target, { readonly: true });
      try {
        for (const { client, n } of db.prepare("SELECT client, n FROM entry").all() as { client: string; n: number }[]) (all[client] ??= []).push(n);
      } finally {
        db.close();
      }
    }
  }
  return all;
}

const LOCAL_LEASE: LeaseKind = {
  type: "local", elections: true, handoff, diverged: divergedEntries,
  yaml: (cluster) => `{type: local, ttl: 2s, local: {path: ${join(cluster.folder, "lease.db")}}}`,
};

/** A real etcd server in the network of the nodes. Its data outlive its restarts. */
function etcdLease(): LeaseKind {
  let server: ChildProcess | undefined;
  return {
    type: "etcd", elections: true, handoff, diverged: divergedEntries,
    yaml: (cluster) => `{type: etcd, ttl: 2s, etcd: {endpoints: ["http://${cluster.network.address(STORE)}:2379"]}}`,
    store: {
      async start(cluster) {
        if (server !== undefined) return;
        if (spawnSync("which", ["etcd"]).status !== 0) throw new Error("etcd is not installed: test/support/install-tools.sh does it");
        const url = `http://${cluster.network.address(STORE)}`;
        const log = fs.openSync(join(cluster.folder, "etcd.log"), "a");
        const child = cluster.network.spawn(STORE, ["etcd", "--name", "s", "--data-dir", join(cluster.folder, "etcd"), "--listen-client-urls", `${url}:2379`, "--advertise-client-urls", `${url}:2379`,
          "--listen-peer-urls", `${url}:2380`, "--initial-advertise-peer-urls", `${url}:2380`, "--initial-cluster", `s=${url}:2380`], { stdio: ["ignore", log, log] });
        fs.closeSync(log);
        server = child;
        await until("etcd answers", async () => {
          if (child.exitCode !== null) throw new Error(`etcd ended with ${child.exitCode}: ${fs.readFileSync(join(cluster.folder, "etcd.log"), "utf8").slice(-2_000)}`);
          const answer = await fetch(`${url}:2379/health`, { signal: AbortSignal.timeout(1_000) }).catch(() => undefined);
          return answer?.ok;
        });
      },
      async stop() {
        const child = server;
        server = undefined;
        if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
        const gone = new Promise((resolve) => child.once("exit", resolve));
        child.kill("SIGKILL");
        await Promise.race([gone, sleep(5_000, undefined, { ref: false })]);
      },
    },
  };
}

/** The type of lease of this name. */
export function leaseKind(type: string): LeaseKind {
  const kinds: Readonly<Record<string, () => LeaseKind>> = { static: () => STATIC_LEASE, local: () => LOCAL_LEASE, etcd: etcdLease };
  const make = kinds[type];
  if (make === undefined) throw new Error(`LEASE=${type}: there are ${Object.keys(kinds).join(", ")}`);
  return make();
}

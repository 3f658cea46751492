/**
 * A cluster under faults: network, disks, nodes and lease store, and what each kind of fault does to them.
 *
 * Always holds: `apply` resolves once the fault has taken effect and answers the call that ends it; every ending is safe to call late or
 * twice. What differs between types of lease is in `LeaseKind` and nowhere else.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MARK_VARIABLE } from "../support/leftovers.ts";
import { FaultNetwork } from "./network.ts";
import { FaultNode } from "./node.ts";
import type { Fault } from "./plan.ts";

/** A type of lease, as the harness has to know it. */
export interface LeaseKind {
  readonly type: string;
  /** Whether the role moves: then handoffs are in the plan, and an acknowledged write may be in `diverged/` instead. */
  readonly elections: boolean;
  /** The YAML below `lease:`. */
  yaml(cluster: FaultCluster): string;
  /** The lease store as a member of the network, when it is a server. */
  readonly store?: { start(cluster: FaultCluster): Promise<void>; stop(): Promise<void> };
  /** Gives the role of the primary to another node. */
  handoff?(cluster: FaultCluster): Promise<void>;
  /** Entries of a database that the nodes list as diverged, by session. */
  diverged?(cluster: FaultCluster, database: string): Promise<Readonly<Record<string, readonly number[]>>>;
}

/** The configuration says who writes; it never changes. */
export const STATIC_LEASE: LeaseKind = {
  type: "static", elections: false,
  yaml: (cluster) => `{type: static, primary: "${cluster.nodes[0]!.address}:7001"}`,
};

/** The lease store as a member of the network. */
export const STORE = "store";

export class FaultCluster {
  readonly folder: string;
  readonly network: FaultNetwork;
  readonly nodes: readonly FaultNode[];
  readonly lease: LeaseKind;

  private constructor(folder: string, network: FaultNetwork, nodes: readonly FaultNode[], lease: LeaseKind) {
    this.folder = folder;
    this.network = network;
    this.nodes = nodes;
    this.lease = lease;
  }

  static async start(options: { readonly nodes: readonly string[]; readonly lease: LeaseKind; readonly more?: string }): Promise<FaultCluster> {
    const mark = process.env[MARK_VARIABLE];
    const folder = mkdtempSync(join(tmpdir(), "faults-"));
    const network = FaultNetwork.create(mark === undefined ? `sluice-faults-${process.pid}` : `sluice-test-${mark}-${basename(folder)}`);
    const nodes: FaultNode[] = [];
    const cluster = new FaultCluster(folder, network, nodes, options.lease);
    try {
      if (options.lease.store !== undefined) {
        network.add(STORE);
        await options.lease.store.start(cluster);
      }
      for (const name of options.nodes) nodes.push(new FaultNode(network, name, folder));
      for (const node of nodes) node.configure(options.lease.yaml(cluster), options.more);
      for (const node of nodes) await node.start();
      for (const node of nodes) await node.ready();
      return cluster;
    } catch (error) {
      for (const node of nodes) process.stderr.write(`-- node ${node.name}:\n${node.output.slice(-3_000)}\n`);
      await cluster.dispose();
      throw error;
    }
  }

  node(name: string): FaultNode {
    return this.nodes.find((node) => node.name === name)!;
  }

  /** Makes a fault happen. The answer ends it; a kill has no end. */
  async apply(fault: Fault): Promise<() => Promise<void>> {
    const nothing = (): Promise<void> => Promise.resolve();
    switch (fault.kind) {
      case "kill":
        this.node(fault.node).signal(fault.part, "SIGKILL");
        return nothing;
      case "pause": {
        const pids = this.node(fault.node).signal(fault.part, "SIGSTOP");
        return async () => pids.forEach((pid) => {
          try {
            process.kill(pid, "SIGCONT");
          } catch {
            // Killed meanwhile: another fault may overlap.
          }
        });
      }
      case "cut":
        return this.#lose(fault.oneWay ? [[fault.from, fault.to]] : [[fault.from, fault.to], [fault.to, fault.from]]);
      case "isolate":
        return this.#lose(this.#others(fault.node, true).flatMap((other) => [[fault.node, other], [other, fault.node]] as const));
      case "only-store":
        return this.#lose(this.#others(fault.node, false).flatMap((other) => [[fault.node, other], [other, fault.node]] as const));
      case "store-cut":
        return this.#lose([[fault.node, STORE], [STORE, fault.node]]);
      case "store-restart":
        await this.lease.store!.stop();
        return () => this.lease.store!.start(this);
      case "slow": {
        const node = this.node(fault.node);
        await node.delay(fault.delayMs);
        return () => node.delay(0);
      }
      case "disk-full": {
        const { disk } = this.node(fault.node);
        disk.fill();
        return async () => disk.empty();
      }
      case "handoff":
        await this.lease.handoff!(this);
        return nothing;
    }
  }

  #others(name: string, store: boolean): string[] {
    return [...this.nodes.map((node) => node.name).filter((other) => other !== name), ...(store && this.lease.store !== undefined ? [STORE] : [])];
  }

  async #lose(pairs: readonly (readonly [string, string])[]): Promise<() => Promise<void>> {
    for (const [from, to] of pairs) this.network.lose(from, to);
    return async () => {
      for (const [from, to] of pairs) this.network.heal(from, to);
    };
  }

  async dispose(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.dispose()));
    await this.lease.store?.stop();
    await sleep(50);
    this.network.dispose();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

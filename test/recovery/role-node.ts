/**
 * A node in this process with everything but mount, guardian and proxy: identity, store, role machine, a lease in a real file, and the real streams
 * to others like it.
 *
 * What it cannot show: locks and caches of the kernel, and fences, which are taken as given.
 */
import * as fs from "node:fs";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { EngineRole, LEASE_CLOCK } from "../../node/engine-role.ts";
import { Identity } from "../../node/identity.ts";
import { LocalStore } from "../../node/lease/local.ts";
import { ReplicationClient } from "../../node/replication/client.ts";
import { peerHandlers, publishedPositions } from "../../node/replication/peers.ts";
import { ReplicationServer } from "../../node/replication/server.ts";
import { toWireHistory } from "../../node/replication/wire-history.ts";
import { Roles } from "../../node/roles/roles.ts";
import type { Store } from "../../node/store/store.ts";
import { CHANNEL_OPTIONS, PROTOCOL_VERSION, ReplicationService, toWire } from "../../proto/grpc.ts";
import { BOOT, openStore, type OpenedStore } from "./node-store.ts";

export interface RoleNodeOptions {
  readonly root: string;
  readonly name: string;
  /** The file of the lease store. */
  readonly lease: string;
  readonly ttlMs: number;
  readonly boot?: Buffer;
}

export class RoleNode {
  readonly name: string;
  readonly store: Store;
  readonly reports: OpenedStore["reports"];
  readonly leases: LocalStore;
  readonly roles: Roles;
  readonly role: EngineRole;
  readonly server: ReplicationServer;
  readonly identity: Identity;
  readonly #grpc: grpc.Server;

  private constructor(options: RoleNodeOptions, grpcServer: grpc.Server, port: number) {
    const { root, name, boot = BOOT, ttlMs } = options;
    this.name = name;
    this.#grpc = grpcServer;
    fs.mkdirSync(root, { recursive: true });
    const opened = openStore(root, { name, boot });
    this.store = opened.store;
    this.reports = opened.reports;
    const identity = new Identity(root, (message) => void this.reports.push({ message, error: undefined }));
    this.identity = identity;
    this.leases = new LocalStore(options.lease);
    const self = { name, advertise: `127.0.0.1:${port}`, region: "", proxy: "" };
    const hello = () => ({
      version: PROTOCOL_VERSION, clusterId: identity.clusterId, nodeId: identity.nodeId, node: self,
      positions: publishedPositions(this.store).map(([database, position]) => toWire(database, position)),
      histories: publishedPositions(this.store).map(([database]) => toWireHistory(database, this.store.databases.get(database)!.database.epochs)),
    });
    const report = (_level: string, message: string, error?: unknown): void => void this.reports.push({ message, error });
    const facts = {
      self, nodeId: identity.nodeId, clusterId: () => identity.clusterId, epoch: () => this.roles.epoch, isPrimary: () => this.roles.state === "primary", mayDecide: () => this.roles.state === "primary" || this.roles.state === "handing",
      candidate: true, epochSeen: () => this.role.epochSeen(), handOff: (to: string | undefined) => this.roles.handOff(to),
    };
    this.server = new ReplicationServer(this.store, facts, (message, error) => report("error", message, error));
    this.store.quorum = this.server.quorum;
    grpcServer.addService(ReplicationService.service, { ...this.server.handlers(), ...peerHandlers(this.store, facts) });
    const member = { ...self, nodeId: identity.nodeId, candidate: true };
    this.role = new EngineRole({
      dataDir: root, boot: boot.toString("hex"), store: this.store, leases: this.leases, self: member, server: this.server, syncReplicas: [], isSync: () => false, mount: () => undefined, hello,
      startClient: (address) => new ReplicationClient({
        store: this.store, address, self, nodeId: identity.nodeId, clusterId: () => identity.clusterId, adoptClusterId: (id) => identity.adoptClusterId(id),
        onChange: () => undefined, onTakeLease: () => void this.roles.take(), seenEpoch: () => identity.seenEpoch, sawEpoch: (epoch) => identity.sawEpoch(epoch), report,
      }),
      joinCluster: async () => {
        const own = identity.clusterId;
        const stored = await this.leases.clusterId(own === "" ? randomBytes(8).toString("hex") : own, 20_000);
        if (own === "") identity.adoptClusterId(stored);
      },
      drain: () => Promise.resolve(), undrain: () => undefined, watchdog: () => undefined, tell: () => undefined, report,
    });
    // It takes the lease only when it is told to: a test says who is elected.
    this.roles = new Roles({ store: this.leases, self: member, ttlMs, auto: false, clock: LEASE_CLOCK, host: this.role, fixedPrimary: undefined });
  }

  /** Starts as an engine does: what lies in the data folder is taken up, and the lease store asked. */
  static async start(options: RoleNodeOptions): Promise<RoleNode> {
    const grpcServer = new grpc.Server(CHANNEL_OPTIONS);
    const port = await new Promise<number>((resolve, reject) => grpcServer.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) => (error === null ? resolve(bound) : reject(error))));
    const node = new RoleNode(options, grpcServer, port);
    await node.role.begin(node.roles, false);
    return node;
  }

  /** Whether it has all that its primary has named, of each of these databases. */
  caughtUp(names: readonly string[]): boolean {
    return this.role.client?.connected === true && names.every((name) => this.role.client!.caughtUp(name));
  }

  /** What it said with a cause, and that is not merely that another node was not there. */
  get errors(): OpenedStore["reports"] {
    return this.reports.filter(({ error }) => error !== undefined);
  }

  /** Ends. `clean`: as a stop does it; else as if it were killed. `free`: the lease is given back. */
  async end(options: { readonly clean: boolean; readonly free: boolean }): Promise<void> {
    await this.roles.halt();
    await this.role.client?.end();
    this.server.close();
    this.#grpc.forceShutdown();
    if (options.clean) await this.store.flushAll();
    if (options.free) await this.roles.giveBack();
    await this.store.close({ clean: options.clean });
    await this.leases.close();
  }
}

/** The lease file of a test. */
export const leaseFile = (folder: string): string => join(folder, "lease.db");

/**
 * The engine process: mount, store, replication and admin endpoint of one node, wired together.
 *
 * Always holds: it is started by the guardian and ends with it; it serves applications only after every follower's database is fenced (or the
 * primary's log is taken up); an error that nobody handles ends it, because a node that has lost track of itself must not answer, and the
 * guardian starts a new one on the same mount.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import * as grpc from "@grpc/grpc-js";
import { startAdminServer, type AdminServer } from "./admin/server.ts";
import { ClusterService, type NodeFacts } from "./cluster-service.ts";
import { databaseSettings, splitAddress, type Config } from "./core/config.ts";
import { EngineRole, LEASE_CLOCK } from "./engine-role.ts";
import { EngineStatus } from "./engine-status.ts";
import { connectNative, openOwn, type NativeSession } from "./fuse-native/session.ts";
import { OWN_OPEN_FLAGS } from "./core/own-open.ts";
import { SOCKET_NAME } from "./fuse-native/protocol.ts";
import { TRUSTED_DIRECTORY, trustedName } from "./fuse/policy.ts";
import { startFuse, type FuseSession } from "./fuse/session.ts";
import { ENGINE_FDS, isMessage, reportError, type EngineToGuardian, type FenceLevel, type GuardianToEngine } from "./guardian/messages.ts";
import { endApplication } from "./guardian/orphan.ts";
import { Identity } from "./identity.ts";
import { createLogger, type Logger } from "./log.ts";
import type { LeaseStore, Member } from "./lease/lease.ts";
import { openLeaseStore } from "./lease/open.ts";
import { BulkDoor } from "./replication/bulk-door.ts";
import { ReplicationClient } from "./replication/client.ts";
import { peerHandlers, publishedPositions } from "./replication/peers.ts";
import { ReplicationServer } from "./replication/server.ts";
import { toWireHistory } from "./replication/wire-history.ts";
import { Roles } from "./roles/roles.ts";
import { highestEpochOnDisk } from "./store/sidecar.ts";
import { Store } from "./store/store.ts";
import { VERSION } from "./version.ts";
import { SIDECAR_INTERVAL_MS } from "./core/limits.ts";
import { AppError } from "../proto/errors.ts";
import { CHANNEL_OPTIONS, ClusterService as ClusterDefinition, PROTOCOL_VERSION, ReplicationService, toWire } from "../proto/grpc.ts";
import type { Hello } from "../proto/gen/sluice/v1/Hello.ts";
import type { NodeRef } from "../proto/gen/sluice/v1/NodeRef.ts";

const CLUSTER_ID_MS = 2_000;
/** How long a promotion may take, a handoff by the primary included. */
const PROMOTE_MS = 10_000;

type Init = Extract<GuardianToEngine, { type: "init" }>;

class Engine {
  readonly #config: Config;
  readonly #init: Init;
  readonly #log: Logger;
  readonly #identity: Identity;
  readonly #store: Store;
  readonly #leases: LeaseStore;
  readonly #roles: Roles;
  readonly #role: EngineRole;
  readonly #server: ReplicationServer;
  readonly #door = new BulkDoor();
  readonly #cluster: ClusterService;
  readonly #self: NodeRef;
  readonly #fences = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
  readonly #startedAt = new Date();
  #nextFence = 1;
  #fuse: FuseSession | undefined;
  /** The same session, where another process serves the mount. */
  #native: NativeSession | undefined;
  #admin: AdminServer | undefined;
  #servers: grpc.Server[] = [];
  #maintenance: NodeJS.Timeout | undefined;
  #serving = false;
  #everReady = false;
  #readySaid = false;
  #stopping = false;
  #proxyCounters: unknown;

  constructor(init: Init, log: Logger, identity: Identity, leases: LeaseStore) {
    const { config } = init;
    this.#init = init;
    this.#config = config;
    this.#log = log;
    this.#identity = identity;
    this.#leases = leases;
    this.#self = { name: config.node.name, advertise: config.advertise, region: config.node.region, proxy: config.proxy?.advertise ?? "" };
    const member: Member = { nodeId: identity.nodeId, name: config.node.name, advertise: config.advertise, proxy: this.#self.proxy!, region: config.node.region, candidate: config.lease.candidate };
    this.#store = new Store({
      dataDir: config.data, nodeId: BigInt(`0x${identity.nodeId}`), nodeName: config.node.name, boot: identity.boot,
      replicates: (name) => databaseSettings(config, name).replicate,
      sync: (name) => {
        const rule = databaseSettings(config, name);
        return rule.durability === "sync" ? { replicas: rule.syncReplicas, timeoutMs: rule.syncTimeoutMs } : undefined;
      }, retention: config.retention, leaseCanEnd: config.lease.type !== "static",
      ...(init.driver.driver === "passthrough" ? {} : { mount: { path: (name) => join(init.mountPoint, name), openFlags: OWN_OPEN_FLAGS, openIndex: (name) => this.#native?.openIndex(name) } }),
      host: {
        fence: (name, level) => this.#fence(name, level),
        hide: async (path) => this.#fuse?.hide(path),
        reveal: (path) => this.#fuse?.reveal(path),
        invalidateAttributes: (path) => this.#fuse?.invalidateAttributes(path),
        invalidateEntry: (path) => this.#fuse?.invalidateEntry(path),
        dropCached: (path, data) => this.#fuse?.dropCached(path, data),
        openOnMount: (path) => this.#openOnMount(path),
        setVirtualNames: (names) => this.#fuse?.setVirtualNames(this.#virtualNames(names)),
        primaryName: () => this.#otherPrimary()?.name,
        lagMs: () => this.#role.client?.lagMs(),
        report: (message, error) => this.#report(message, error),
      },
    });
    const facts = {
      self: this.#self, nodeId: identity.nodeId, clusterId: () => identity.clusterId, epoch: () => this.#roles.epoch, isPrimary: () => this.#isPrimary() && !this.#isOverdue(),
      mayDecide: () => (this.#isPrimary() || this.#roles.state === "handing") && !this.#isOverdue(),
      candidate: config.lease.candidate, epochSeen: () => this.#role.epochSeen(), handOff: (to: string | undefined) => this.handOff(to),
    };
    this.#peerHandlers = peerHandlers(this.#store, facts);
    this.#server = new ReplicationServer(this.#store, facts, (message, error) => this.#report(message, error), this.#door, config.databases.some(({ durability }) => durability === "sync"));
    this.#cluster = new ClusterService(this.#store, () => this.#nodeFacts(), async (databases, timeoutMs) => {
      const { client } = this.#role;
      if (client === undefined) throw new AppError("NODE_UNAVAILABLE", ["the primary", "none is known"]);
      return client.primaryPositions(databases, timeoutMs);
    }, this.#server);
    this.#store.quorum = this.#server.quorum;
    this.#role = new EngineRole({
      dataDir: config.data, boot: identity.boot.toString("hex"), store: this.#store, leases, self: member, server: this.#server, mount: () => this.#fuse,
      syncReplicas: config.databases.filter(({ durability }) => durability === "sync").map(({ syncReplicas }) => syncReplicas), isSync: (name) => databaseSettings(config, name).durability === "sync",
      hello: () => this.#hello(), startClient: (address) => this.#startClient(address), joinCluster: () => this.#joinCluster(),
      drain: (timeoutMs) => this.#cluster.drain(timeoutMs), undrain: () => this.#cluster.undrain(),
      watchdog: (fenceAtMs) => say({ type: "lease", fenceAtMs }), tell: () => this.#tell(),
      report: (level, message, error) => this.#log[level](error === undefined ? {} : { err: error }, message),
    });
    this.#roles = new Roles({
      store: leases, self: member, ttlMs: config.lease.ttlMs, auto: config.lease.promote === "auto", clock: LEASE_CLOCK, host: this.#role,
      fixedPrimary: config.lease.type === "static" ? { ...member, nodeId: "", name: "", proxy: "", region: "", advertise: config.lease.primary } : undefined,
    });
  }

  readonly #peerHandlers: grpc.UntypedServiceImplementation;

  /** The lease may have ended elsewhere, whatever this node has come to know: it may have been stopped for a while. */
  #isOverdue(): boolean {
    const until = this.#roles.surelyUntilMs;
    return until !== undefined && LEASE_CLOCK.now() >= until;
  }

  #isPrimary(): boolean {
    return this.#roles.state === "primary";
  }

  /** The node that this one follows, as it introduced itself or as the lease names it. */
  #otherPrimary(): NodeRef | undefined {
    if (this.#store.role === "primary") return undefined;
    const held = this.#roles.primary;
    const introduced = this.#role.client?.primary;
    if (held === undefined) return undefined;
    return introduced?.advertise === held.holder.advertise ? introduced : held.holder.name === "" ? undefined : held.holder;
  }

  #nodeFacts(): NodeFacts {
    const primary = this.#isPrimary();
    const { client } = this.#role;
    const until = this.#roles.surelyUntilMs;
    return {
      // Between roles nobody is told that this node writes: writes are held until it is known who does.
      self: this.#self, role: primary ? "primary" : "follower", epoch: this.#roles.epoch, ready: primary || (client?.ready ?? false), connected: primary || (client?.connected ?? false),
      primary: primary ? this.#self : this.#otherPrimary() ?? null, validMs: primary && until !== undefined ? Math.max(1, Math.round(until - LEASE_CLOCK.now())) : 0,
    };
  }

  #report(message: string, error: unknown): void {
    if (error === undefined) this.#log.warn(message);
    else this.#log.error({ err: error, ...(error instanceof AppError ? { hint: error.hint } : {}) }, message);
  }

  /** `.primary` is absent on the primary and while none is known. */
  #virtualNames(names: ReadonlySet<string>): ReadonlySet<string> {
    return this.#otherPrimary() !== undefined ? names : new Set([...names].filter((name) => name !== ".primary"));
  }

  #fence(database: string, level: FenceLevel): Promise<void> {
    const id = this.#nextFence++;
    return new Promise((resolve, reject) => {
      this.#fences.set(id, { resolve, reject });
      say({ type: "fence", id, database, level });
    });
  }

  #openOnMount(path: string): Promise<number> {
    if (this.#native !== undefined) return openOwn(this.#init.mountPoint, path);
    // Below the trusted directory: no other program's system call holds its lock.
    return new Promise((resolve, reject) => {
      fs.open(join(this.#init.mountPoint, TRUSTED_DIRECTORY, trustedName(path)), OWN_OPEN_FLAGS, (error, fd) => (error === null ? resolve(fd) : reject(error)));
    });
  }

  receive(message: GuardianToEngine): void {
    if (message.type === "fenced") {
      const waiting = this.#fences.get(message.id);
      this.#fences.delete(message.id);
      if (message.error === undefined) waiting?.resolve();
      else waiting?.reject(new Error(message.error));
    } else if (message.type === "proxyMetrics") {
      this.#proxyCounters = message.metrics;
    } else if (message.type === "handOff") {
      this.#handOffBeforeStop().finally(() => say({ type: "handedOff" }));
    } else if (message.type === "stop" || message.type === "leave") {
      void this.stop({ stays: message.type === "leave" });
    }
  }

  async start(): Promise<void> {
    const { config } = this;
    const runDir = join(config.data, "run");
    this.#store.open();
    const { driver, mountPoint, resume } = this.#init;
    const filesDir = join(config.data, "files");
    if (driver.driver === "fuse-native") this.#native = await connectNative({ socket: join(runDir, SOCKET_NAME), mountPoint, filesDir, hooks: this.#store });
    this.#fuse = this.#native ?? await startFuse({
      fuseFd: ENGINE_FDS.fuse, mountPoint, filesDir, runDir, hooks: this.#store, resume, trusted: [this.#init.guardianPid, process.pid], databases: config.databases,
    });
    this.#fuse.ended.then(() => {
      if (!this.#stopping) this.#log.error("The mount is gone");
      if (!this.#stopping) process.kill(process.pid, "SIGKILL");
    }, () => undefined);
    await this.#role.begin(this.#roles, resume);
    this.#fuse.openGate();
    this.#serving = true;
    await this.#listen(runDir, driver);
    say({ type: "serving" });
    this.#maintenance = setInterval(() => this.#maintain(), SIDECAR_INTERVAL_MS);
    this.#tell();
    this.#log.info({ role: this.#store.role, epoch: this.#roles.epoch, databases: this.#store.databases.size }, "Serving");
  }

  get config(): Config {
    return this.#config;
  }

  async #listen(runDir: string, driver: { driver: string; reason: string }): Promise<void> {
    const replication = new grpc.Server(CHANNEL_OPTIONS);
    replication.addService(ReplicationService.service, { ...this.#server.handlers(), ...this.#peerHandlers });
    const local = new grpc.Server(CHANNEL_OPTIONS);
    local.addService(ClusterDefinition.service, this.#cluster.handlers());
    const socket = join(runDir, "engine.sock");
    fs.rmSync(socket, { force: true });
    await this.#door.listen(replication, splitAddress(this.#config.listen));
    await bind(local, `unix:${socket}`);
    this.#servers = [replication, local];
    const source = new EngineStatus({
      config: this.#config, version: VERSION, nodeId: this.#identity.nodeId, startedAt: this.#startedAt, clusterId: () => this.#identity.clusterId, epoch: () => this.#roles.epoch,
      roleState: () => this.#roles.state, otherPrimary: () => this.#otherPrimary(), everReady: () => this.#everReady,
      store: this.#store, server: this.#server, client: () => this.#role.client, serving: () => this.#serving, driver,
      handOff: (to) => this.handOff(to), promote: (force) => this.promote(force), electionLacks: () => this.#roles.lacking, upgrade: () => say({ type: "upgrade" }),
      requestCounts: () => this.#fuse?.requestCounts() ?? {}, proxyCounters: () => this.#proxyCounters,
    });
    this.#admin = await startAdminServer({
      address: this.#config.admin, socket: join(runDir, "admin.sock"), source, onError: (error, route) => this.#report(`${route} failed`, error),
    });
  }

  #hello(): Hello {
    return {
      version: PROTOCOL_VERSION, clusterId: this.#identity.clusterId, nodeId: this.#identity.nodeId, node: this.#self,
      positions: publishedPositions(this.#store).map(([name, position]) => toWire(name, position)),
      histories: publishedPositions(this.#store).map(([name]) => toWireHistory(name, this.#store.databases.get(name)!.database.epochs)),
    };
  }

  #startClient(address: string): ReplicationClient {
    return new ReplicationClient({
      store: this.#store, address, self: this.#self, nodeId: this.#identity.nodeId, clusterId: () => this.#identity.clusterId,
      adoptClusterId: (id) => this.#identity.adoptClusterId(id),
      onChange: () => this.#tell(),
      onTakeLease: () => void this.#roles.take(),
      seenEpoch: () => this.#identity.seenEpoch, sawEpoch: (epoch) => this.#identity.sawEpoch(epoch),
      report: (level, message, error) => this.#log[level](error === undefined ? {} : { err: error }, message),
    });
  }

  /** The cluster's id is the lease store's; a node of another cluster must not write here. */
  async #joinCluster(): Promise<void> {
    const own = this.#identity.clusterId;
    if (this.#leases.type === "static") return this.#identity.foundCluster();
    const stored = await this.#leases.clusterId(own === "" ? randomBytes(8).toString("hex") : own, CLUSTER_ID_MS);
    if (own === "") this.#identity.adoptClusterId(stored);
    else if (own !== stored) throw new AppError("FOREIGN_CLUSTER", ["the lease store", stored, own]);
  }

  /** Role, holder or readiness have changed. */
  #tell(): void {
    this.#cluster.changed();
    this.#store.announceNames();
    this.#everReady ||= this.#isPrimary() || (this.#role.client?.ready ?? false);
    if (this.#readySaid || !this.#everReady || !this.#serving) return;
    this.#readySaid = true;
    say({ type: "ready", role: this.#store.role });
  }

  #maintain(): void {
    if (this.#stopping) return;
    void this.#role.electorate?.tend();
    if (this.#store.maintain(Date.now())) setTimeout(() => this.#maintain(), 20);
  }

  async handOff(to: string | undefined): Promise<string> {
    const target = await this.#roles.handOff(to);
    return (await this.#leases.members(CLUSTER_ID_MS)).find(({ nodeId }) => nodeId === target)?.name ?? target;
  }

  /** Makes this node the primary: by a handoff from the one that there is, else by taking the free lease; `force`: whatever an election lacks. */
  async promote(force: boolean): Promise<string> {
    if (this.#isPrimary()) return this.#self.name!;
    if (!this.#config.lease.candidate) throw new AppError("HANDOFF_REFUSED", ["this node is no candidate (lease.candidate: false)"]);
    const primary = this.#roles.primary;
    try {
      if (primary !== undefined && this.#leases.type !== "static") await this.#role.peers.requestHandoff(primary.holder.advertise, this.#self.name!, PROMOTE_MS);
      else {
        this.#role.forced = force;
        await this.#roles.take();
      }
      for (const until = Date.now() + PROMOTE_MS; Date.now() < until; await sleep(10)) if (this.#isPrimary()) return this.#self.name!;
    } finally {
      // It is for this attempt, however it ends: a later election waits again.
      this.#role.forced = false;
    }
    const { lacking } = this.#roles;
    if (lacking !== undefined) throw new AppError("ELECTION_LACKS", [lacking]);
    throw new AppError("HANDOFF_REFUSED", [`this node did not become the primary within ${PROMOTE_MS / 1_000} s (${this.#roles.state})`]);
  }

  /** A primary that is going to stop lets a candidate go on at once, where there is one. */
  async #handOffBeforeStop(): Promise<void> {
    if (!this.#isPrimary() || this.#leases.type === "static") return;
    try {
      const to = await this.handOff(undefined);
      this.#log.info({ to }, "The lease is handed over");
    } catch (error) {
      this.#log.info(`Nobody takes the lease over: ${(error as Error).message}`);
    }
  }

  /** `stays`: another engine goes on over the same mount, in the same role. */
  async stop(options: { readonly stays: boolean }): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    clearInterval(this.#maintenance);
    const wasPrimary = this.#store.role === "primary";
    const epoch = this.#roles.epoch;
    // A change of role that is under way opens files: it ends before they are closed.
    await this.#roles.halt();
    await this.#role.client?.end();
    await this.#store.flushAll().catch((error: unknown) => this.#report("The last capture failed", error));
    this.#store.quorum = undefined;
    this.#server.close();
    this.#cluster.close();
    this.#door.close();
    for (const server of this.#servers) server.forceShutdown();
    await this.#admin?.close();
    await this.#store.close({ clean: !options.stays });
    if (wasPrimary && this.#leases.type === "static" && !options.stays) this.#identity.markClean(epoch);
    if (!options.stays) await this.#roles.giveBack();
    await this.#leases.close().catch(() => undefined);
    say({ type: "stopped" });
    // The guardian starts the next engine as after a death: what the FUSE thread has not answered is asked again.
    if (options.stays) process.kill(process.pid, "SIGKILL");
    // The guardian unmounts; the FUSE thread ends with that, and this process after it.
    await this.#fuse?.ended;
    process.exit(0);
  }
}

function bind(server: grpc.Server, address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error, port) => (error === null ? resolve(port) : reject(error)));
  });
}

function say(message: EngineToGuardian): void {
  process.send?.(message);
}

let engine: Engine | undefined;

process.on("disconnect", () => {
  // The guardian is dead: the mount is nobody's, and the fences are gone. The application that it started must not write on, past everybody.
  if (engine !== undefined) endApplication(engine.config.data);
  // SIGKILL, because exit() waits for the FUSE thread.
  process.kill(process.pid, "SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);

process.on("message", (message: unknown) => {
  if (!isMessage(message)) return;
  const known = message as GuardianToEngine;
  if (known.type !== "init") return engine?.receive(known);
  void begin(known);
});

async function begin(init: Init): Promise<void> {
  const log = await createLogger(init.config.log, { node: init.config.node.name, part: "engine" });
  const die = (error: unknown): void => {
    log.fatal({ err: error }, "The engine cannot go on");
    say({ type: "fatal", error: reportError(error) });
    setTimeout(() => process.kill(process.pid, "SIGKILL"), 50);
  };
  process.on("uncaughtException", die);
  process.on("unhandledRejection", die);
  try {
    const identity = new Identity(init.config.data, (message) => log.warn(message));
    engine = new Engine(init, log, identity, await openLeaseStore(init.config.lease, { epoch: () => identity.startEpoch(highestEpochOnDisk(join(init.config.data, "log"))) }));
    await engine.start();
  } catch (error) {
    die(error);
  }
}

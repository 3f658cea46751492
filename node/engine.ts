/**
 * The engine process: mount, store, replication and admin endpoint of one node, wired together.
 *
 * Always holds: it is started by the guardian and ends with it; it serves applications only after every follower's database is fenced (or the
 * primary's log is taken up); an error that nobody handles ends it, because a node that has lost track of itself must not answer, and the
 * guardian starts a new one on the same mount.
 */
import fs from "node:fs";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { startAdminServer, type AdminServer } from "./admin/server.ts";
import { ClusterService } from "./cluster-service.ts";
import { StaticLease } from "./lease/fixed-role.ts";
import { databaseSettings, isStaticPrimary, type Config } from "./core/config.ts";
import { EngineStatus } from "./engine-status.ts";
import { connectNative, openOwn, type NativeSession } from "./fuse-native/session.ts";
import { OWN_OPEN_FLAGS, SOCKET_NAME } from "./fuse-native/protocol.ts";
import { TRUSTED_DIRECTORY, trustedName } from "./fuse/policy.ts";
import { startFuse, type FuseSession } from "./fuse/session.ts";
import { ENGINE_FDS, isMessage, reportError, type EngineToGuardian, type GuardianToEngine } from "./guardian/messages.ts";
import { Identity } from "./identity.ts";
import { createLogger, type Logger } from "./log.ts";
import { ReplicationClient } from "./replication/client.ts";
import { ReplicationServer } from "./replication/server.ts";
import { Store } from "./store/store.ts";
import { VERSION } from "./version.ts";
import { SIDECAR_INTERVAL_MS } from "./core/limits.ts";
import { AppError } from "../proto/errors.ts";
import { CHANNEL_OPTIONS, ClusterService as ClusterDefinition, ReplicationService } from "../proto/grpc.ts";
import type { NodeRef } from "../proto/gen/sluice/v1/NodeRef.ts";

type Init = Extract<GuardianToEngine, { type: "init" }>;

class Engine {
  readonly #config: Config;
  readonly #init: Init;
  readonly #log: Logger;
  readonly #identity: Identity;
  readonly #store: Store;
  readonly #lease: StaticLease;
  readonly #server: ReplicationServer;
  readonly #cluster: ClusterService;
  readonly #self: NodeRef;
  readonly #fences = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
  readonly #startedAt = new Date();
  #nextFence = 1;
  #fuse: FuseSession | undefined;
  /** The same session, where another process serves the mount. */
  #native: NativeSession | undefined;
  #client: ReplicationClient | undefined;
  #admin: AdminServer | undefined;
  #servers: grpc.Server[] = [];
  #maintenance: NodeJS.Timeout | undefined;
  #serving = false;
  #readySaid = false;
  #stopping = false;
  #proxyCounters: unknown;

  constructor(init: Init, log: Logger) {
    const { config } = init;
    this.#init = init;
    this.#config = config;
    this.#log = log;
    this.#identity = new Identity(config.data);
    const primary = isStaticPrimary(config);
    if (config.lease.type !== "static") throw new AppError("CONFIG_INVALID", [config.source.file, `lease.type: the engine does not run elections yet; write static instead of ${config.lease.type}`]);
    this.#lease = new StaticLease({ advertise: config.advertise, primary: config.lease.primary, epoch: primary ? this.#identity.startEpoch() : 0 });
    if (primary) this.#identity.foundCluster();
    this.#self = { name: config.node.name, advertise: config.advertise, region: config.node.region, proxy: config.proxy?.advertise ?? "" };
    this.#store = new Store({
      dataDir: config.data, nodeId: BigInt(`0x${this.#identity.nodeId}`), nodeName: config.node.name, boot: this.#identity.boot,
      replicates: (name) => databaseSettings(config, name).replicate, retention: config.retention,
      ...(init.driver.driver === "passthrough" ? {} : { mount: { path: (name) => join(init.mountPoint, name), openFlags: OWN_OPEN_FLAGS, openIndex: (name) => this.#native?.openIndex(name) } }),
      host: {
        fence: (name, on) => this.#fence(name, on),
        hide: async (path) => this.#fuse?.hide(path),
        reveal: (path) => this.#fuse?.reveal(path),
        invalidateAttributes: (path) => this.#fuse?.invalidateAttributes(path),
        invalidateEntry: (path) => this.#fuse?.invalidateEntry(path),
        openOnMount: (path) => this.#openOnMount(path),
        setVirtualNames: (names) => this.#fuse?.setVirtualNames(this.#virtualNames(names)),
        primaryName: () => (this.#lease.current().holder === "self" ? undefined : this.#client?.primary?.name),
        lagMs: () => this.#client?.lagMs(),
        report: (message, error) => this.#report(message, error),
      },
    });
    const epoch = (): number => this.#epoch();
    this.#server = new ReplicationServer(this.#store, {
      self: this.#self, nodeId: this.#identity.nodeId, clusterId: () => this.#identity.clusterId, epoch, isPrimary: () => this.#lease.current().holder === "self",
    }, (message, error) => this.#report(message, error));
    this.#cluster = new ClusterService(this.#store, () => {
      const { role } = this.#store;
      const other = this.#client?.primary;
      return {
        self: this.#self, role, epoch: epoch(), ready: role === "primary" || (this.#client?.ready ?? false), connected: role === "primary" || (this.#client?.connected ?? false),
        primary: role === "primary" ? this.#self : other === undefined ? null : other,
      };
    }, async (databases, timeoutMs) => {
      if (this.#client === undefined) throw new AppError("NODE_UNAVAILABLE", ["the primary", "none is known"]);
      return this.#client.primaryPositions(databases, timeoutMs);
    });
  }

  #epoch(): number {
    const lease = this.#lease.current();
    return lease.holder === "self" ? lease.epoch : (this.#client?.epoch ?? 0);
  }

  #report(message: string, error: unknown): void {
    if (error === undefined) this.#log.warn(message);
    else this.#log.error({ err: error, ...(error instanceof AppError ? { hint: error.hint } : {}) }, message);
  }

  /** `.primary` is absent on the primary and while none is known. */
  #virtualNames(names: ReadonlySet<string>): ReadonlySet<string> {
    const known = this.#lease.current().holder !== "self" && this.#client?.primary !== undefined;
    return known ? names : new Set([...names].filter((name) => name !== ".primary"));
  }

  #fence(database: string, on: boolean): Promise<void> {
    const id = this.#nextFence++;
    return new Promise((resolve, reject) => {
      this.#fences.set(id, { resolve, reject });
      say({ type: "fence", id, database, on });
    });
  }

  #openOnMount(path: string): Promise<number> {
    if (this.#native !== undefined) return openOwn(this.#init.mountPoint, path);
    // Below the trusted directory: no other program's system call holds its lock.
    return new Promise((resolve, reject) => {
      fs.open(join(this.#init.mountPoint, TRUSTED_DIRECTORY, trustedName(path)), "r+", (error, fd) => (error === null ? resolve(fd) : reject(error)));
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
    } else if (message.type === "stop") {
      void this.stop();
    }
  }

  async start(): Promise<void> {
    const { config } = this;
    const runDir = join(config.data, "run");
    this.#store.open();
    const { driver, mountPoint } = this.#init;
    const filesDir = join(config.data, "files");
    if (driver.driver === "fuse-native") this.#native = await connectNative({ socket: join(runDir, SOCKET_NAME), mountPoint, filesDir, hooks: this.#store });
    this.#fuse = this.#native ?? await startFuse({
      fuseFd: ENGINE_FDS.fuse, mountPoint, filesDir, runDir, hooks: this.#store, resume: this.#init.resume, trusted: [this.#init.guardianPid, process.pid],
    });
    this.#fuse.ended.then(() => {
      if (!this.#stopping) this.#log.error("The mount is gone");
      if (!this.#stopping) process.kill(process.pid, "SIGKILL");
    }, () => undefined);
    const lease = this.#lease.current();
    this.#fuse.setRole(lease.holder === "self" ? "primary" : "follower");
    if (lease.holder === "self") await this.#store.becomePrimary(lease.epoch, { live: this.#init.resume });
    else await this.#store.becomeFollower({ live: this.#init.resume });
    this.#fuse.openGate();
    this.#serving = true;
    await this.#listen(runDir, driver);
    say({ type: "serving" });
    if (lease.holder === "other") this.#follow(lease.advertise);
    this.#maintenance = setInterval(() => this.#maintain(), SIDECAR_INTERVAL_MS);
    this.#sayReady();
    this.#log.info({ role: this.#store.role, epoch: this.#epoch(), databases: this.#store.databases.size }, "Serving");
  }

  get config(): Config {
    return this.#config;
  }

  async #listen(runDir: string, driver: { driver: string; reason: string }): Promise<void> {
    const replication = new grpc.Server(CHANNEL_OPTIONS);
    replication.addService(ReplicationService.service, this.#server.handlers());
    const local = new grpc.Server(CHANNEL_OPTIONS);
    local.addService(ClusterDefinition.service, this.#cluster.handlers());
    const socket = join(runDir, "engine.sock");
    fs.rmSync(socket, { force: true });
    await bind(replication, this.#config.listen);
    await bind(local, `unix:${socket}`);
    this.#servers = [replication, local];
    const source = new EngineStatus({
      config: this.#config, version: VERSION, nodeId: this.#identity.nodeId, startedAt: this.#startedAt, clusterId: () => this.#identity.clusterId, epoch: () => this.#epoch(),
      store: this.#store, server: this.#server, client: () => this.#client, serving: () => this.#serving, driver,
      requestCounts: () => this.#fuse?.requestCounts() ?? {}, proxyCounters: () => this.#proxyCounters,
    });
    this.#admin = await startAdminServer({
      address: this.#config.admin, socket: join(runDir, "admin.sock"), source, onError: (error, route) => this.#report(`${route} failed`, error),
    });
  }

  #follow(address: string): void {
    this.#client = new ReplicationClient({
      store: this.#store, address, self: this.#self, nodeId: this.#identity.nodeId, clusterId: () => this.#identity.clusterId,
      adoptClusterId: (id) => this.#identity.adoptClusterId(id),
      onChange: () => {
        this.#cluster.changed();
        this.#store.announceNames();
        this.#sayReady();
      },
      report: (level, message, error) => this.#log[level](error === undefined ? {} : { err: error }, message),
    });
  }

  #sayReady(): void {
    if (this.#readySaid || !(this.#store.role === "primary" || (this.#client?.ready ?? false))) return;
    this.#readySaid = true;
    say({ type: "ready", role: this.#store.role });
  }

  #maintain(): void {
    if (this.#stopping) return;
    if (this.#store.maintain(Date.now())) setTimeout(() => this.#maintain(), 20);
  }

  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    clearInterval(this.#maintenance);
    this.#client?.close();
    await this.#store.flushAll().catch((error: unknown) => this.#report("The last capture failed", error));
    this.#server.close();
    this.#cluster.close();
    for (const server of this.#servers) server.forceShutdown();
    await this.#admin?.close();
    await this.#store.close({ clean: true });
    const lease = this.#lease.current();
    if (lease.holder === "self") this.#identity.markClean(lease.epoch);
    say({ type: "stopped" });
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
  // The guardian is dead: the mount is nobody's. SIGKILL, because exit() waits for the FUSE thread.
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
    engine = new Engine(init, log);
    await engine.start();
  } catch (error) {
    die(error);
  }
}

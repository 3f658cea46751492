/**
 * What the engine answers to the operator: status, readiness, metrics, import and export.
 *
 * Always holds: it only reads; the numbers are those of this moment and of this process. Counters begin anew with each engine.
 */
import { statSync } from "node:fs";
import { resolve } from "node:path";
import type { AdminSource, CommandResult, DivergedCommand, DatabaseStatus, Metric, NodeStatus, StatusPosition } from "./admin/status.ts";
import { processMetrics, proxyMetrics, proxyRates } from "./admin/metrics-text.ts";
import type { Config } from "./core/config.ts";
import { runDiverged } from "./diverged-command.ts";
import type { ReplicationClient } from "./replication/client.ts";
import type { ReplicationServer } from "./replication/server.ts";
import { exportDatabase } from "./store/transfer.ts";
import { verifyRunning } from "./store/verify-live.ts";
import { identityFindings } from "./identity-files.ts";
import type { VerifyReport } from "./verify-command.ts";
import type { RoleState } from "./roles/role-machine.ts";
import type { Store } from "./store/store.ts";
import type { StoredDatabase } from "./store/stored-database.ts";
import { AppError } from "../proto/errors.ts";
import { formatHex16, type Position } from "../proto/position.ts";

export interface EngineParts {
  readonly config: Config;
  readonly version: string;
  readonly nodeId: string;
  readonly startedAt: Date;
  clusterId(): string;
  epoch(): number;
  roleState(): RoleState;
  otherPrimary(): { readonly name?: string | undefined; readonly advertise?: string | undefined } | undefined;
  /** This node has once been the primary, or caught up with it. */
  everReady(): boolean;
  handOff(to: string | undefined): Promise<string>;
  promote(force: boolean): Promise<string>;
  /** What an election that is under way here lacks, if anything but time. */
  electionLacks(): string | undefined;
  upgrade(): void;
  readonly store: Store;
  readonly server: ReplicationServer;
  client(): ReplicationClient | undefined;
  serving(): boolean;
  readonly driver: { readonly driver: string; readonly reason: string };
  requestCounts(): Record<string, number>;
  proxyCounters(): unknown;
}

const show = (position: Position): StatusPosition => ({ epoch: position.epoch, txid: formatHex16(position.txid), checksum: formatHex16(position.checksum) });

export class EngineStatus implements AdminSource {
  readonly #parts: EngineParts;

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  health(): boolean {
    return this.#parts.serving();
  }

  ready(): { ready: boolean; reason: string } {
    const { store } = this.#parts;
    const client = this.#parts.client();
    if (!this.#parts.serving()) return { ready: false, reason: "The mount does not serve yet" };
    if (this.#parts.roleState() === "primary") return { ready: true, reason: "This node is the primary" };
    if (client?.ready === true || (store.role === "follower" && this.#parts.everReady())) return { ready: true, reason: `This node follows ${client?.primary?.name ?? "the primary"} and has caught up` };
    return { ready: false, reason: client?.connected === true ? "This node has not caught up with the primary yet" : "This node has no stream from the primary yet" };
  }

  #database({ database, primary, follower }: StoredDatabase): DatabaseStatus {
    const client = this.#parts.client();
    const lagMs = client?.lagMs(database.name);
    const state = database.deleted ? "deleted" : database.distrust !== undefined ? `reading: ${database.distrust}` : client?.snapshotting(database.name) === true ? "snapshot" : "ok";
    return {
      name: database.name, ...show(database.position), pageSize: database.pageSize, pageCount: database.sums.pageCount, logBytes: database.log.bytes,
      ...(database.log.entries[0] === undefined ? {} : { logFrom: formatHex16(database.log.entries[0].min) }),
      lagTransactions: primary !== undefined || client === undefined ? 0 : client.lagTransactions(database.name),
      ...(follower !== undefined && lagMs !== undefined ? { lagMs } : primary !== undefined ? { lagMs: 0 } : {}),
      state,
    };
  }

  status(): NodeStatus {
    const { config, store, server } = this.#parts;
    const client = this.#parts.client();
    const databases = [...store.databases.values()].filter(({ database }) => database.position.txid > 0);
    const isPrimary = this.#parts.roleState() === "primary";
    const primary = isPrimary ? { name: config.node.name, advertise: config.advertise } : this.#parts.otherPrimary();
    const clusterId = this.#parts.clusterId();
    const electionLacks = this.#parts.electionLacks();
    const proxy = proxyRates(this.#parts.proxyCounters());
    return {
      node: { name: config.node.name, id: this.#parts.nodeId, region: config.node.region, advertise: config.advertise, ...(clusterId === "" ? {} : { clusterId }) },
      version: this.#parts.version, startedAt: this.#parts.startedAt.toISOString(), role: store.role, roleState: this.#parts.roleState(), epoch: this.#parts.epoch(),
      ...(primary === undefined ? {} : { primary: { name: primary.name ?? "", advertise: primary.advertise ?? "" } }),
      ...(electionLacks === undefined ? {} : { electionLacks }),
      ready: this.ready().ready, ...(store.role === "follower" ? { connected: client?.connected ?? false } : {}),
      mount: { path: config.fuse.mount, ...this.#parts.driver },
      databases: databases.map((entry) => this.#database(entry)),
      followers: server.followers.map((follower) => ({
        name: follower.node.name, nodeId: follower.nodeId, address: follower.peer, region: follower.node.region, connectedSince: new Date(follower.connectedSinceMs).toISOString(),
        positions: [...follower.positions].map(([name, position]) => ({ name, ...show(position) })),
      })),
      local: store.localFiles(), damage: this.#damage(), aside: store.aside.count, diverged: store.diverged.totals(), ...(proxy === undefined ? {} : { proxy }),
    };
  }

  #damage(): { found: number; healed: number } {
    const followers = [...this.#parts.store.databases.values()].flatMap(({ follower }) => follower ?? []);
    return { found: followers.reduce((sum, { damaged }) => sum + damaged, 0), healed: followers.reduce((sum, { healed }) => sum + healed, 0) };
  }

  metrics(): Metric[] {
    const { store, server } = this.#parts;
    const client = this.#parts.client();
    const entries = [...store.databases.values()].filter(({ database }) => database.position.txid > 0);
    const per = (value: (entry: StoredDatabase) => number): Metric["samples"] => entries.map((entry) => ({ labels: { database: entry.database.name }, value: value(entry) }));
    const gauge = (name: string, help: string, samples: Metric["samples"]): Metric => ({ name, help, type: "gauge", samples });
    const counter = (name: string, help: string, samples: Metric["samples"]): Metric => ({ name, help, type: "counter", samples });
    const { found, healed } = this.#damage();
    const diverged = store.diverged.totals();
    return [
      gauge("sluice_primary", "1 on the primary", [{ value: this.#parts.roleState() === "primary" ? 1 : 0 }]),
      gauge("sluice_ready", "1 when applications can be sent here", [{ value: this.ready().ready ? 1 : 0 }]),
      gauge("sluice_epoch", "Epoch of the lease", [{ value: this.#parts.epoch() }]),
      gauge("sluice_followers", "Followers that are connected", [{ value: server.followers.length }]),
      gauge("sluice_txid", "Newest transaction here", per(({ database }) => database.position.txid)),
      gauge("sluice_database_pages", "Pages of the database", per(({ database }) => database.sums.pageCount)),
      gauge("sluice_log_bytes", "Bytes of transaction log on the disk", per(({ database }) => database.log.bytes)),
      gauge("sluice_lag_transactions", "Transactions that the primary has and this node has not", per(({ database }) => client?.lagTransactions(database.name) ?? 0)),
      gauge("sluice_lag_seconds", "How long this node has been behind", per(({ database }) => (client?.lagMs(database.name) ?? 0) / 1_000)),
      counter("sluice_commits_total", "Transactions captured", per(({ primary }) => primary?.stats.commits ?? 0)),
      counter("sluice_flushes_total", "Transaction files written by capture", per(({ primary }) => primary?.stats.flushes ?? 0)),
      counter("sluice_diffs_total", "Databases read as a whole because nothing else told what changed", per(({ primary }) => primary?.stats.diffs ?? 0)),
      counter("sluice_capture_gaps_total", "WALs that did not continue where the log ended", per(({ primary }) => primary?.stats.gaps ?? 0)),
      counter("sluice_sync_commits_total", "Commits that waited until followers had stored them (durability sync)", per(({ primary }) => primary?.sync?.held ?? 0)),
      counter("sluice_sync_refused_total", "Commits that were refused and rolled back because too few followers had stored them", per(({ primary }) => primary?.sync?.refused ?? 0)),
      counter("sluice_sync_unheld_total", "Commits of a database with durability sync that gave no signal by which they could be held", per(({ primary }) => primary?.sync?.unheld ?? 0)),
      counter("sluice_checkpoints_total", "Checkpoints of this follower", per(({ follower }) => follower?.replica?.checkpoints ?? 0)),
      counter("sluice_damaged_pages_total", "Pages found changed past SQLite's locks", [{ value: found }]),
      counter("sluice_healed_pages_total", "Damaged pages put right from the primary", [{ value: healed }]),
      counter("sluice_fuse_requests_total", "Requests of the kernel, by operation", Object.entries(this.#parts.requestCounts()).map(([operation, value]) => ({ labels: { operation }, value }))),
      gauge("sluice_diverged_entries", "Diverged histories kept; what an operator has not looked at yet has seen=\"false\"", [
        { labels: { seen: "false" }, value: diverged.unseen }, { labels: { seen: "true" }, value: diverged.entries - diverged.unseen },
      ]),
      gauge("sluice_diverged_transactions", "Transactions in them: committed here, and lost against another primary's history", [{ value: diverged.transactions }]),
      gauge("sluice_aside_files", "Files set aside", [{ value: store.aside.count }]),
      ...processMetrics("engine"),
      ...(this.#parts.proxyCounters() === undefined ? [] : proxyMetrics(this.#parts.proxyCounters())),
    ];
  }

  async handOff(to: string | undefined): Promise<{ primary: string }> {
    return { primary: await this.#parts.handOff(to) };
  }

  async promote(force: boolean): Promise<{ primary: string }> {
    return { primary: await this.#parts.promote(force) };
  }

  upgrade(): void {
    this.#parts.upgrade();
  }

  async import(name: string, source: string): Promise<CommandResult> {
    const path = resolve(source);
    if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) throw new AppError("NOT_A_DATABASE", [source, "there is no such file"]);
    const database = await this.#parts.store.import(name, path);
    const { position, sums, pageSize } = database;
    return { database: name, txid: formatHex16(position.txid), checksum: formatHex16(position.checksum), pages: sums.pageCount, bytes: sums.pageCount * pageSize };
  }

  diverged(command: DivergedCommand): Promise<object> {
    return runDiverged(this.#parts.store.diverged, command);
  }

  async verify(name: string | undefined): Promise<VerifyReport> {
    const { store, config } = this.#parts;
    const entries = name === undefined ? [...store.databases.values()] : [store.databases.get(name)].filter((entry) => entry !== undefined);
    if (name !== undefined && entries.length === 0) throw new AppError("DATABASE_NOT_FOUND", [name]);
    const databases = [];
    for (const entry of entries) databases.push(await verifyRunning(entry));
    return { running: true, node: name === undefined ? identityFindings(config.data) : [], databases };
  }

  async repair(name: string | undefined): Promise<{ repaired: readonly CommandResult[] }> {
    const { store } = this.#parts;
    const client = this.#parts.client();
    const what = name ?? "databases";
    if (store.role === "primary") throw new AppError("REPAIR_REFUSED", [what, "this node is the primary; hand the lease over first (`sluice handoff`), then repair"]);
    if (client === undefined) throw new AppError("REPAIR_REFUSED", [what, "this node follows no primary now"]);
    const names = name === undefined ? (await this.verify(undefined)).databases.filter(({ findings }) => findings.some(({ mends }) => mends !== "note")).map((one) => one.name) : [name];
    const repaired: CommandResult[] = [];
    for (const one of names) {
      await client.refetch(one);
      const { position, sums, pageSize } = store.databases.get(one)!.database;
      repaired.push({ database: one, txid: formatHex16(position.txid), checksum: formatHex16(position.checksum), pages: sums.pageCount, bytes: sums.pageCount * pageSize });
    }
    return { repaired };
  }

  async export(name: string, target: string): Promise<CommandResult> {
    const entry = this.#parts.store.databases.get(name);
    if (entry === undefined) throw new AppError("DATABASE_NOT_FOUND", [name]);
    const { position, pages, bytes } = await exportDatabase(entry, resolve(target));
    return { database: name, txid: formatHex16(position.txid), checksum: formatHex16(position.checksum), pages, bytes };
  }
}

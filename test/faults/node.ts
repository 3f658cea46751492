/**
 * One node of a fault test: `bin/sluice mount` in a namespace of its own, on a small disk of its own, with the application behind its proxy and a
 * delaying relay before what other nodes reach.
 *
 * Always holds: whatever ends the node, it is started again until `stop` is called, as a supervisor of services does it; everything it says is in
 * `<folder>/output`.
 */
import { spawnSync, type ChildProcess } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { NodeStatus } from "../../node/admin/status.ts";
import { unmount } from "../../node/fuse/mount.ts";
import { until } from "../support/cluster.ts";
import { SmallDisk } from "./disk.ts";
import type { FaultNetwork } from "./network.ts";

const SLUICE = new URL("../../bin/sluice", import.meta.url).pathname;
const APP = new URL("app.js", import.meta.url).pathname;
const RELAY = new URL("delay-relay.ts", import.meta.url).pathname;
const DISK_MIB = 96;
const RESTART_MS = 300;

/** The application's databases, by what is promised for their commits. */
export const DATABASES = { async: "entries.db", sync: "sync.db" } as const;
export const PARTS = ["guardian", "engine", "proxy", "application"] as const;
export type Part = (typeof PARTS)[number];

export class FaultNode {
  readonly name: string;
  readonly folder: string;
  readonly mount: string;
  readonly config: string;
  readonly address: string;
  readonly disk: SmallDisk;
  readonly #network: FaultNetwork;
  #relay: ChildProcess | undefined;
  #process: ChildProcess | undefined;
  #loop: Promise<void> = Promise.resolve();
  #wanted = false;
  /** How many times the node was started. */
  starts = 0;
  /** Exit codes and signals so far. */
  readonly ends: string[] = [];

  constructor(network: FaultNetwork, name: string, folder: string) {
    this.name = name;
    this.folder = join(folder, name);
    this.#network = network;
    this.mount = join(this.folder, "mnt");
    this.config = join(this.folder, "sluice.yml");
    this.address = network.add(name);
    fs.mkdirSync(this.mount, { recursive: true });
    this.disk = new SmallDisk(join(this.folder, "disk"), DISK_MIB);
  }

  /** `lease`: the YAML below `lease:`, and what else belongs at the top level. */
  configure(lease: string, more = ""): void {
    const { address } = this;
    fs.writeFileSync(this.config, [
      `node: {name: ${this.name}, region: test}`, `data: ${join(this.disk.folder, "data")}`, `fuse: {mount: ${this.mount}, driver: passthrough}`,
      "listen: 127.0.0.1:7001", `advertise: ${address}:7001`, "admin: 0.0.0.0:7101", `lease: ${lease}`,
      `proxy: {listen: "0.0.0.0:8080", advertise: "http://${address}:8081", target: "127.0.0.1:3000"}`,
      `databases: {"${DATABASES.sync}": {durability: sync, syncReplicas: 1, syncTimeout: 3s}}`,
      `exec: [env, "FOLDER=${this.mount}", PORT=3000, NODE=${this.name}, ${process.execPath}, ${APP}]`,
      "log: {level: info, format: json}", more, "",
    ].join("\n"));
  }

  get proxyUrl(): string {
    return `http://${this.address}:8080`;
  }

  get output(): string {
    return fs.readFileSync(join(this.folder, "output"), "utf8");
  }

  /** What the node has complained of last. */
  complaints(lines = 15): string {
    return this.output.split("\n").filter((line) => !line.includes('"level":30')).slice(-lines).join("\n");
  }

  async start(): Promise<void> {
    const { address } = this;
    const relay = this.#network.spawn(this.name, [process.execPath, RELAY, `${address}:7001=127.0.0.1:7001`, `${address}:8081=127.0.0.1:8080`], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.#relay = relay;
    await new Promise((resolve, reject) => relay.once("message", resolve).once("exit", (code) => reject(new Error(`the relay of ${this.name} ended with ${code}`))));
    this.#wanted = true;
    this.#loop = this.#supervise();
  }

  async #supervise(): Promise<void> {
    while (this.#wanted) {
      const log = fs.openSync(join(this.folder, "output"), "a");
      const child = this.#network.spawn(this.name, [SLUICE, "mount", "-c", this.config], { stdio: ["ignore", log, log] });
      fs.closeSync(log);
      this.#process = child;
      this.starts++;
      const how = await new Promise<string>((resolve) => child.once("exit", (code, signal) => resolve(signal ?? `code ${code}`)));
      this.#process = undefined;
      this.ends.push(how);
      if (this.#wanted) await sleep(RESTART_MS);
    }
  }

  /** The processes of the node that live now. The guardian's children are told apart by what they run. */
  pids(): Partial<Record<Part, number>> {
    const guardian = this.#process?.pid;
    if (guardian === undefined) return {};
    const pids: Partial<Record<Part, number>> = { guardian };
    for (const id of fs.readdirSync("/proc")) {
      if (!/^\d+$/.test(id)) continue;
      try {
        const stat = fs.readFileSync(`/proc/${id}/stat`, "latin1");
        if (Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) !== guardian) continue;
        const command = fs.readFileSync(`/proc/${id}/cmdline`, "latin1");
        const part = /node\/engine\.[jt]s/.test(command) ? "engine" : /proxy\/main\.[jt]s/.test(command) ? "proxy" : command.includes(APP) ? "application" : undefined;
        if (part !== undefined) pids[part] = Number(id);
      } catch {
        // It has ended meanwhile.
      }
    }
    return pids;
  }

  /** Sends a signal to one part, or to all of them; the ids of those that got it. */
  signal(part: Part | "all", signal: NodeJS.Signals): number[] {
    const pids = this.pids();
    return PARTS.filter((one) => part === "all" || part === one).flatMap((one) => {
      const pid = pids[one];
      try {
        return pid !== undefined && process.kill(pid, signal) ? [pid] : [];
      } catch {
        return []; // Gone already.
      }
    });
  }

  /** Delays everything that other nodes send here or get from here. */
  async delay(ms: number): Promise<void> {
    const relay = this.#relay;
    if (relay?.connected !== true) return;
    await new Promise((resolve) => relay.once("message", resolve).send({ delayMs: ms }));
  }

  async status(): Promise<NodeStatus | undefined> {
    try {
      return (await (await fetch(`http://${this.address}:7101/status`, { signal: AbortSignal.timeout(5_000) })).json()) as NodeStatus;
    } catch {
      return undefined; // Not up.
    }
  }

  ready(limitMs = 90_000): Promise<NodeStatus> {
    return until(`node ${this.name} is ready (ends: ${this.ends.join(", ")})`, async () => {
      const status = await this.status();
      return status?.ready === true ? status : undefined;
    }, limitMs);
  }

  /** SIGTERM, and no new start. */
  async stop(): Promise<void> {
    this.#wanted = false;
    this.#process?.kill("SIGCONT");
    this.#process?.kill("SIGTERM");
    await Promise.race([this.#loop, sleep(30_000, undefined, { ref: false })]);
  }

  async dispose(): Promise<void> {
    this.signal("all", "SIGCONT");
    await this.stop();
    this.signal("all", "SIGKILL");
    await Promise.race([this.#loop, sleep(5_000, undefined, { ref: false })]);
    this.#relay?.kill("SIGKILL");
    for (let n = 0; n < 3; n++) {
      try {
        unmount(this.mount);
      } catch {
        break; // Not mounted (any more).
      }
    }
    spawnSync("umount", ["-l", this.mount], { stdio: "ignore" });
    this.disk.dispose();
  }
}

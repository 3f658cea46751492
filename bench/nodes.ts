/**
 * A primary and a follower on this machine, started as an operator starts them: `bin/sluice mount -c FILE` from the build.
 *
 * Always holds: dispose() ends all processes of both nodes and unmounts; nothing here makes a synchronous call on a mount.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { NodeStatus } from "../node/admin/status.ts";
import { until } from "../test/support/cluster.ts";
import { freePorts } from "../test/support/ports.ts";
import { Unavailable } from "./question.ts";

export const SLUICE = fileURLToPath(new URL("../bin/sluice", import.meta.url));

const START_MS_MAX = 120_000;
/** How often a condition is looked at whose time counts. */
const LOOK_MS = 20;

export type Driver = "passthrough" | "fuse-native";

interface Addresses {
  readonly listen: number;
  readonly admin: number;
  readonly proxy: number;
  readonly app: number;
  readonly primary: number;
}

export class BenchNode {
  readonly name: string;
  readonly mount: string;
  readonly data: string;
  readonly config: string;
  readonly #admin: number;
  #process: ChildProcess | undefined;
  #output = "";

  constructor(name: string, folder: string, addresses: Addresses, driver: Driver, extra = "") {
    this.name = name;
    this.mount = join(folder, name, "mnt");
    this.data = join(folder, name, "data");
    this.config = join(folder, name, "sluice.yml");
    this.#admin = addresses.admin;
    mkdirSync(this.mount, { recursive: true });
    const local = (port: number): string => `127.0.0.1:${port}`;
    writeFileSync(this.config, [
      `node: {name: ${name}}`, `data: ${this.data}`, `fuse: {mount: ${this.mount}, driver: ${driver}}`, `listen: ${local(addresses.listen)}`,
      `admin: ${local(addresses.admin)}`, `lease: {type: static, primary: "${local(addresses.primary)}"}`,
      `proxy: {listen: "${local(addresses.proxy)}", target: "${local(addresses.app)}"}`, "log: {level: warn, format: json}", extra, "",
    ].join("\n"));
  }

  path(name: string): string {
    return join(this.mount, name);
  }

  /** Starts it and waits until it is ready. Resolves with the time that took, in ms. */
  async start(driver: Driver): Promise<number> {
    const startedAt = performance.now();
    const child = spawn(SLUICE, ["mount", "-c", this.config], { stdio: ["ignore", "pipe", "pipe"], detached: true });
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (this.#output = (this.#output + data.toString()).slice(-10_000)));
    const status = await until(`node ${this.name}`, async () => {
      if (child.exitCode !== null) throw new Unavailable(`node ${this.name} ended with ${child.exitCode}: ${this.#output.trim()}`);
      const now = await this.status();
      return now?.ready === true ? now : undefined;
    }, START_MS_MAX, LOOK_MS);
    const took = performance.now() - startedAt;
    if (status.mount.driver !== driver) throw new Unavailable(`the node runs driver ${status.mount.driver} although its configuration asks for ${driver}`);
    return took;
  }

  async status(): Promise<NodeStatus | undefined> {
    try {
      return (await (await fetch(`http://127.0.0.1:${this.#admin}/status`)).json()) as NodeStatus;
    } catch {
      return undefined; // Not up yet.
    }
  }

  /** Text of the virtual file `NAME-pos`; reading it on the primary captures what has been committed. */
  async position(name: string): Promise<string> {
    return await readFile(this.path(`${name}-pos`), "latin1").catch(() => "");
  }

  /** Guardian, engine and proxy, by name. */
  processes(): { guardian: number; engine: number; proxy: number } {
    const guardian = this.#process!.pid!;
    const children = readdirSync("/proc").filter((id) => /^\d+$/.test(id)).flatMap((id) => {
      try {
        const stat = readFileSync(`/proc/${id}/stat`, "latin1");
        const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
        return parent === guardian ? [{ pid: Number(id), command: readFileSync(`/proc/${id}/cmdline`, "latin1") }] : [];
      } catch {
        return []; // It has ended meanwhile.
      }
    });
    const find = (part: string): number => {
      const found = children.find(({ command }) => command.includes(part));
      if (found === undefined) throw new Error(`node ${this.name} has no ${part} process`);
      return found.pid;
    };
    return { guardian, engine: find("node/engine."), proxy: find("proxy/main.") };
  }

  /** Ends it as an operator does; after a long time by force. */
  async stop(): Promise<void> {
    const child = this.#process;
    if (child === undefined) return;
    this.#process = undefined;
    if (child.exitCode === null && child.signalCode === null) {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      if ((await Promise.race([gone, sleep(45_000, "late", { ref: false })])) === "late") {
        child.kill("SIGKILL");
        await gone;
      }
    }
    // Where the node has done its work nothing is mounted any more and this fails, as it should.
    if (existsSync("/proc/self/mounts") && readFileSync("/proc/self/mounts", "utf8").includes(` ${this.mount} `)) spawnSync("umount", ["-l", this.mount]);
  }
}

export class Nodes {
  readonly primary: BenchNode;
  readonly follower: BenchNode;
  readonly driver: Driver;

  private constructor(primary: BenchNode, follower: BenchNode, driver: Driver) {
    this.primary = primary;
    this.follower = follower;
    this.driver = driver;
  }

  /** Configured, not started. `extra`: further YAML for both. */
  static async make(folder: string, driver: Driver, extra = ""): Promise<Nodes> {
    const [a, b, c, d, e, f, app] = await freePorts(7);
    const primary = new BenchNode("primary", folder, { listen: a!, admin: b!, proxy: c!, app: app!, primary: a! }, driver, extra);
    return new Nodes(primary, new BenchNode("follower", folder, { listen: d!, admin: e!, proxy: f!, app: app!, primary: a! }, driver, extra), driver);
  }

  async start(): Promise<void> {
    await this.primary.start(this.driver);
    await this.follower.start(this.driver);
  }

  /** Resolves when the follower holds what the primary holds; with the time that took, in ms. */
  async inStep(name: string, limitMs = 300_000): Promise<number> {
    const startedAt = performance.now();
    await until(`the follower to hold all of ${name}`, async () => {
      const want = await this.primary.position(name);
      return want !== "" && want === (await this.follower.position(name));
    }, limitMs, LOOK_MS);
    return performance.now() - startedAt;
  }

  async dispose(): Promise<void> {
    await this.follower.stop();
    await this.primary.stop();
  }
}

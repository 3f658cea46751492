/**
 * Real nodes for a test: `bin/sluice mount` from the build, on free ports, below one temporary folder.
 *
 * Always holds: dispose() ends every process that was started and every mount, also after a failure. Waits are on conditions. A test may kill
 * any process of a node; the ids are those that the node itself shows.
 */
import { spawn, type ChildProcess } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { NodeStatus } from "../../node/admin/status.ts";
import { unmount } from "../../node/fuse/mount.ts";
import { freePorts } from "./ports.ts";
import { isRunning } from "./running.ts";

const SLUICE = new URL("../../bin/sluice", import.meta.url).pathname;

/** A wait that is not in vain costs nothing, and a busy machine may need long. */
const PATIENCE_MS = 120_000;

/** Resolves when `condition` gives something true; throws with `what`, as it is then, after a generous time. */
export async function until<T>(what: string | (() => string), condition: () => T | Promise<T>, limitMs = PATIENCE_MS, pauseMs = 200): Promise<NonNullable<T>> {
  const end = Date.now() + limitMs;
  for (let pause = 5; ; pause = Math.min(pauseMs, pause * 1.5)) {
    const value = await condition();
    if (value) return value as NonNullable<T>;
    if (Date.now() > end) throw new Error(`waited in vain for: ${typeof what === "string" ? what : what()}`);
    await sleep(pause);
  }
}

export interface NodePorts {
  readonly listen: number;
  readonly admin: number;
  readonly proxy: number;
  readonly app: number;
}

export class TestNode {
  readonly name: string;
  readonly folder: string;
  readonly mount: string;
  readonly data: string;
  readonly config: string;
  readonly ports: NodePorts;
  process: ChildProcess | undefined;
  /** Everything the node has said. */
  output = "";
  #exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }> | undefined;

  constructor(name: string, folder: string, ports: NodePorts, primary: number, extra: string) {
    this.name = name;
    this.folder = join(folder, name);
    this.mount = join(this.folder, "mnt");
    this.data = join(this.folder, "data");
    this.config = join(this.folder, "sluice.yml");
    this.ports = ports;
    fs.mkdirSync(this.mount, { recursive: true });
    const address = `127.0.0.1:${ports.listen}`;
    fs.writeFileSync(this.config, [
      `node: {name: ${name}, region: test}`, `data: ${this.data}`, `fuse: {mount: ${this.mount}, driver: ${process.env["SLUICE_TEST_DRIVER"] ?? "auto"}}`, `listen: ${address}`, `advertise: ${address}`,
      `admin: 127.0.0.1:${ports.admin}`, ...(/^lease:/m.test(extra) ? [] : [`lease: {type: static, primary: "127.0.0.1:${primary}"}`]), "log: {level: info, format: json}", extra.replaceAll("$PROXY", String(ports.proxy)).replaceAll("$APP", String(ports.app)).replaceAll("$FOLDER", folder), "",
    ].join("\n"));
  }

  /** Names another node as the primary, for the next start. */
  follow(primary: TestNode): void {
    const text = fs.readFileSync(this.config, "utf8");
    fs.writeFileSync(this.config, text.replace(/primary: "127\.0\.0\.1:\d+"/, `primary: "127.0.0.1:${primary.ports.listen}"`));
  }

  start(): void {
    const child = spawn(SLUICE, ["mount", "-c", this.config], { stdio: ["ignore", "pipe", "pipe"] });
    this.process = child;
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (this.output += data.toString()));
    this.#exited = new Promise((resolve) => child.on("exit", (code, signal) => resolve({ code, signal })));
  }

  async status(): Promise<NodeStatus | undefined> {
    try {
      // On a connection of its own: a kept one may have been closed by the node while the test was busy with something else.
      return (await (await fetch(`http://127.0.0.1:${this.ports.admin}/status`, { headers: { connection: "close" } })).json()) as NodeStatus;
    } catch {
      return undefined; // Not up.
    }
  }

  async ready(): Promise<void> {
    await until(() => `node ${this.name} is ready; it says:\n${this.output}`, async () => {
      if (this.process?.exitCode !== null) throw new Error(`node ${this.name} ended with ${this.process?.exitCode}:\n${this.output}`);
      return (await this.status())?.ready;
    });
  }

  /** SIGTERM, and the exit code. */
  async stop(): Promise<number | null> {
    this.process?.kill("SIGTERM");
    return (await this.#exited)?.code ?? null;
  }

  exited(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    return this.#exited!;
  }

  /** Ids of the node's processes by their part: found by the data folder's lock that they share, or by the guardian's children. */
  pids(): { guardian: number; engine: number | undefined; proxy: number | undefined; proxies: readonly number[] } {
    const guardian = this.process?.pid ?? 0;
    const children = fs.readdirSync("/proc").filter((id) => /^\d+$/.test(id)).flatMap((id) => {
      try {
        const stat = fs.readFileSync(`/proc/${id}/stat`, "latin1");
        const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
        return parent === guardian ? [{ pid: Number(id), command: fs.readFileSync(`/proc/${id}/cmdline`, "latin1") }] : [];
      } catch {
        return []; // It has ended meanwhile.
      }
    });
    // One that was told to stop finishes its requests, perhaps beside the next one.
    const proxies = children.filter(({ command }) => command.includes("proxy/main")).map(({ pid }) => pid);
    return { guardian, engine: children.find(({ command }) => command.includes("engine"))?.pid, proxy: proxies.at(-1), proxies };
  }

  /** kill -9 of everything that belongs to the node. */
  async killAll(): Promise<void> {
    const { guardian, engine, proxies } = this.pids();
    for (const pid of [guardian, engine, ...proxies]) {
      try {
        if (pid) process.kill(pid, "SIGKILL");
      } catch {
        // Gone already.
      }
    }
    await this.#exited;
    await until(`processes of ${this.name} to be gone`, () => [engine, ...proxies].every((pid) => pid === undefined || !isRunning(pid)));
  }

  path(name: string): string {
    return join(this.mount, name);
  }
}

export class TestCluster {
  readonly folder: string;
  readonly nodes: TestNode[];

  private constructor(folder: string, nodes: TestNode[]) {
    this.folder = folder;
    this.nodes = nodes;
  }

  /** The first node is the primary, unless `extra` has a lease of its own. `extra`: further YAML for each node; $PROXY and $APP are its ports, $FOLDER is the cluster's. */
  static async make(names: readonly string[], extra: string | ((name: string) => string) = ""): Promise<TestCluster> {
    const folder = fs.mkdtempSync(join(tmpdir(), "sluice-test-cluster-"));
    const ports = await freePorts(names.length * 4);
    const nodes = names.map((name, i) => new TestNode(name, folder, { listen: ports[i * 4]!, admin: ports[i * 4 + 1]!, proxy: ports[i * 4 + 2]!, app: ports[i * 4 + 3]! }, ports[0]!, typeof extra === "string" ? extra : extra(name)));
    return new TestCluster(folder, nodes);
  }

  static async start(names: readonly string[], extra: string | ((name: string) => string) = ""): Promise<TestCluster> {
    const cluster = await TestCluster.make(names, extra);
    try {
      for (const node of cluster.nodes) node.start();
      for (const node of cluster.nodes) await node.ready();
    } catch (error) {
      await cluster.dispose();
      throw error;
    }
    return cluster;
  }

  /** Resolves when every follower holds what the primary holds of `name`, compared by position. */
  async inStep(name: string, limitMs = PATIENCE_MS): Promise<string> {
    const [primary, ...followers] = this.nodes;
    return until(`all nodes to hold the same of ${name}`, async () => {
      // Reading it captures; a follower has it only once the database has arrived.
      if (fs.existsSync(primary!.path(`${name}-pos`))) fs.readFileSync(primary!.path(`${name}-pos`));
      const positions = await Promise.all([primary!, ...followers].map(async (node) => {
        const database = (await node.status())?.databases.find((entry) => entry.name === name);
        return database === undefined ? undefined : `${database.epoch}/${database.txid}/${database.checksum}`;
      }));
      return positions[0] !== undefined && positions.every((position) => position === positions[0]) ? positions[0] : undefined;
    }, limitMs);
  }

  async dispose(): Promise<void> {
    for (const node of this.nodes) {
      if (node.process === undefined) continue;
      if (node.process.exitCode === null && node.process.signalCode === null) {
        node.process.kill("SIGTERM");
        await Promise.race([node.exited(), sleep(20_000, undefined, { ref: false })]);
      }
      await node.killAll().catch(() => undefined);
      for (let n = 0; n < 3; n++) {
        try {
          unmount(node.mount);
        } catch {
          break; // Not mounted (any more).
        }
      }
    }
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Runs `sluice` with arguments; resolves with its exit code and output. */
export function sluice(...args: string[]): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(SLUICE, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (output += data.toString()));
    child.on("exit", (code) => resolve({ code, output }));
  });
}

/**
 * The etcd server that a node runs itself (`lease.etcd.spawn`), as a supervised child.
 *
 * Always holds: it takes clients only at this node's own endpoint, and peers only at this node's own peer URL; it ends with the guardian, also
 * when that one is killed, so that a new one finds ports and data free. What is a member of what is in its data folder: the list of peers counts
 * only at the first start.
 */
import { spawn } from "node:child_process";
import { assert } from "../core/assert.ts";
import type { Config } from "../core/config.ts";
import type { GuardianLog } from "./guardian-log.ts";
import { Supervised } from "./supervised.ts";

/** Revisions of keys are of no use to anybody after this time. */
const COMPACTION = "1h";

/** Program and arguments; pure. undefined: this node runs none. */
export function etcdCommand(config: Pick<Config, "lease" | "node">): readonly string[] | undefined {
  const { lease, node } = config;
  if (lease.type !== "etcd" || lease.etcd.spawn === undefined) return undefined;
  const { data, peers, client } = lease.etcd.spawn;
  const peer = peers[node.name];
  assert(peer !== undefined, "the configuration was checked");
  const members = Object.entries(peers).map(([name, url]) => `${name}=${url}`).join(",");
  return [
    // The signal comes from the kernel when the parent dies. setpriv becomes etcd, so the pid is etcd's own.
    "setpriv", "--pdeathsig", "KILL", "--", "etcd", "--name", node.name, "--data-dir", data,
    "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
    "--initial-cluster", members, "--initial-cluster-state", "new", "--initial-cluster-token", `sluice${lease.etcd.prefix}`,
    "--auto-compaction-mode", "periodic", "--auto-compaction-retention", COMPACTION, "--logger", "zap", "--log-outputs", "stderr",
  ];
}

/** The child, not yet started; undefined where the configuration asks for none. */
export function superviseEtcd(config: Pick<Config, "lease" | "node">, log: GuardianLog): Supervised | undefined {
  const command = etcdCommand(config);
  if (command === undefined) return undefined;
  return new Supervised({
    spawn(restart) {
      const [program, ...args] = command;
      const child = spawn(program!, args, {
        // A session of its own: an interrupt at the terminal is the guardian's to handle. Its own log is long and of no use while it works.
        detached: true, stdio: ["ignore", "ignore", "inherit"], env: { ...process.env, ETCD_LOG_LEVEL: "warn", ETCD_UNSUPPORTED_ARCH: process.arch === "arm64" ? "arm64" : "" },
      });
      log.info({ pid: child.pid, restart }, "etcd started");
      return child;
    },
    onMessage: () => undefined,
    onDeath: (how, pauseMs) => log.error({ how, pauseMs }, "etcd ended; starting it again. Is the program etcd installed, and its port free?"),
  });
}

/**
 * The `sluice mount` process: mounts, starts engine, proxy and application, starts again what dies, and takes everything down in order.
 *
 * Always holds: it keeps the /dev/fuse description, so that requests of applications wait, rather than fail, while there is no engine; it
 * never makes a synchronous call on the mount; it takes down in the reverse order of starting, so that an application never sees its files
 * go away while it runs.
 *
 * ```
 *   mount -> etcd -> engine --serving--> proxy --ready--> application
 *   stop:    hand-off of the lease -> proxy's port closed, running requests -> application -> proxy gone -> engine (drains) -> unmount -> engine gone -> etcd
 * ```
 */
import { spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AppError } from "../../proto/errors.ts";
import { RUN_FILES, type Config } from "../core/config.ts";
import { bootId, bootTimeMs } from "../native/libc.ts";
import { Application, PASSED_SIGNALS } from "./application.ts";
import type { DataLock } from "./data-lock.ts";
import { superviseEtcd } from "./etcd-child.ts";
import { Fences } from "./fences.ts";
import type { GuardianLog } from "./guardian-log.ts";
import { ENGINE_FDS, PROXY_FDS, reportError, type EngineToGuardian, type GuardianToEngine } from "./messages.ts";
import { removeMountRecord, writeMountRecord, type MountRecord } from "./mount-record.ts";
import type { MountServer, Mounting } from "./mounting.ts";
import { ProxyProcesses } from "./proxy-processes.ts";
import { bindProxySocket } from "./proxy-socket.ts";
import { Supervised } from "./supervised.ts";

export interface GuardianParts {
  readonly mounting: Mounting;
  readonly log: GuardianLog;
  readonly lock: DataLock;
  readonly driver: { readonly driver: "passthrough" | "fuse-native"; readonly reason: string };
  /** Mounts by starting the process that serves, where the driver has one; else `mounting.mount` mounts. Throws DRIVER_UNAVAILABLE. */
  readonly startServer?: () => Promise<MountServer>;
  /** Files that Node runs as engine and as proxy. */
  readonly engineEntry: string;
  readonly proxyEntry: string;
}

/** Times that the operator waits for at most when the node is stopped, in ms. A second signal cuts them short. */
const GRACE_MS = { handOff: 5_000, requests: 3_000, application: 10_000, engine: 30_000, engineExit: 5_000, hurriedEngine: 2_000, fences: 1_000, etcd: 5_000 } as const;
/** What a proxy may take to stop beyond `proxy.limits.stop`. */
const PROXY_EXIT_MS = 2_000;
/** Deaths of the engine before it has served for the first time, after which the node gives up. */
const FIRST_STARTS_MAX = 5;

/**
 * Small young generations (MiB) and a small heap: long-lived, with short-lived garbage of small messages, and a node is to fit beside its application.
 * Collected by the thread itself: to wake four others for so little costs the application's processors twice as much. --expose-gc: core/garbage.ts.
 */
const ENGINE_FLAGS = ["--max-semi-space-size=2", "--optimize-for-size", "--single-threaded-gc", "--expose-gc"];
/** Without --optimize-for-size, which costs the proxy a third more processor time for each request. */
export const PROXY_FLAGS: readonly string[] = ["--max-semi-space-size=2", "--max-old-space-size=96"];

/**
 * For engine and proxy: glibc gives freed memory back, instead of keeping for each thread what a burst once needed. Large buffers, which come and
 * go with messages, get mappings of their own.
 */
const MALLOC = { MALLOC_ARENA_MAX: "1", MALLOC_TRIM_THRESHOLD_: "131072", MALLOC_MMAP_THRESHOLD_: "131072" } as const;

/**
 * Runs the node until it is stopped by a signal (exit code 0), by the end of the application (its code), or by a failure to start (1).
 * The host was checked, the data folder is locked and the mount point is an empty folder. Throws DRIVER_UNAVAILABLE when mounting fails, and
 * CONFIG_INVALID when the proxy's port cannot be had; then nothing was changed.
 */
export async function runGuardian(config: Config, parts: GuardianParts): Promise<number> {
  const { log, mounting } = parts;
  const mountPoint = config.fuse.mount;
  const proxySocket = config.proxy === undefined ? undefined : await bindProxySocket(config.proxy.listen);
  let fuseFd: number | undefined;
  let server: MountServer | undefined;
  try {
    server = await parts.startServer?.();
    if (server === undefined) fuseFd = mounting.mount(mountPoint);
  } catch (error) {
    if (proxySocket !== undefined) closeSync(proxySocket);
    if (error instanceof AppError) throw error;
    throw new AppError("DRIVER_UNAVAILABLE", [config.fuse.driver, (error as Error).message], { cause: error });
  }
  const device = mounting.device(mountPoint);
  let record: MountRecord = { pid: process.pid, mountPoint, bootId: bootId(), startedAt: new Date().toISOString(), ...(device === undefined ? {} : { device }) };
  writeMountRecord(config.data, record);
  log.info({ mount: mountPoint, data: config.data, ...parts.driver }, `Mounted with driver ${parts.driver.driver}: ${parts.driver.reason}`);

  const fences = new Fences((path) => mounting.trustedPath(mountPoint, path), mounting.trustedFlags);
  const hurry = new AbortController();
  const { promise: stopAsked, resolve: askToStop } = Promise.withResolvers<number>();
  const { promise: engineStopped, resolve: engineHasStopped } = Promise.withResolvers<void>();
  let application: Application | undefined;
  let served = false;
  let firstDeaths = 0;
  let stopping = false;
  let leaseTimer: NodeJS.Timeout | undefined;
  const { promise: handedOff, resolve: handOffIsOver } = Promise.withResolvers<void>();

  /** Whatever the engine does or cannot do: when the lease may have ended, nobody on this node writes. */
  const watchLease = (fenceAtMs: number | null): void => {
    clearTimeout(leaseTimer);
    if (fenceAtMs === null) return;
    leaseTimer = setTimeout(() => {
      fences.raise().catch((error: unknown) => log.error({ err: error }, "A fence could not be raised"));
      log.warn({}, "The lease is not renewed in time; nobody writes on this node until it is, or the node follows");
    }, Math.max(0, fenceAtMs - bootTimeMs()));
  };

  const giveUp = (why: object, text: string): void => {
    log.error(why, text);
    askToStop(1);
  };

  const engine = new Supervised({
    spawn(restart) {
      const child = spawn(process.execPath, [...ENGINE_FLAGS, parts.engineEntry], {
        // A session of its own: an interrupt at the terminal is the guardian's to handle.
        detached: true, stdio: ["ignore", "inherit", "inherit", fuseFd ?? "ignore", "ipc", parts.lock.fd], env: { ...process.env, ...MALLOC },
      });
      const init: GuardianToEngine = { type: "init", config, resume: restart && served, mountPoint, guardianPid: process.pid, driver: parts.driver };
      child.send(init, () => {});
      log.info({ pid: child.pid, resume: init.resume }, "Engine started");
      return child;
    },
    onMessage: (message) => onEngine(message as EngineToGuardian),
    onDeath(how, pauseMs) {
      if (!served && ++firstDeaths >= FIRST_STARTS_MAX) giveUp({ how }, "The engine ends before it serves the mount; giving up");
      else log.error({ how, pauseMs }, "The engine ended; starting it again. Requests on the mount wait meanwhile");
    },
  });
  const tellEngine = (message: GuardianToEngine): void => engine.send(message);

  const proxy = config.proxy === undefined || proxySocket === undefined ? undefined : new ProxyProcesses({
    spawn() {
      const child = spawn(process.execPath, [...PROXY_FLAGS, parts.proxyEntry], {
        detached: true, stdio: ["ignore", "inherit", "inherit", "ipc", parts.lock.fd, proxySocket], env: { ...process.env, ...MALLOC, SLUICE_PROXY_CONFIG: proxyConfig(config) },
      });
      log.info({ pid: child.pid }, "Proxy started");
      return child;
    },
    onMetrics: (metrics) => tellEngine({ type: "proxyMetrics", metrics }),
    socketFd: proxySocket, log, stopMs: config.proxy.limits.stopMs + PROXY_EXIT_MS,
  });

  function onEngine(message: EngineToGuardian): void {
    switch (message.type) {
      case "serving":
        if (!served && !stopping) proxy?.start();
        served = true;
        return;
      case "ready":
        log.info({ role: message.role }, "Ready");
        if (application === undefined && config.exec !== undefined && !stopping) startApplication(config.exec);
        return;
      case "fence":
        fences.set(message.database, message.level).then(
          () => tellEngine({ type: "fenced", id: message.id }),
          (error: unknown) => tellEngine({ type: "fenced", id: message.id, error: reportError(error).message }),
        );
        return;
      case "lease":
        watchLease(message.fenceAtMs);
        return;
      case "handedOff":
        handOffIsOver();
        return;
      case "upgrade":
        upgrade().catch((error: unknown) => log.error({ err: error }, "The upgrade failed"));
        return;
      case "stopped":
        engineHasStopped();
        return;
      case "fatal":
        if (served) log.error({ error: message.error }, message.error.message);
        else giveUp({ error: message.error }, message.error.message);
    }
  }

  /** The engine goes in order and leaves the mount as one that dies would; the next one takes it up. The proxy is followed, and stops gracefully. */
  async function upgrade(): Promise<void> {
    if (stopping) return;
    log.info({}, "Starting engine and proxy from the files as they are now");
    await engine.restart(() => tellEngine({ type: "leave" }), GRACE_MS.engine);
    await proxy?.replace();
  }

  function startApplication(command: readonly string[]): void {
    const started = (application = new Application(command));
    if (started.id !== undefined) writeMountRecord(config.data, (record = { ...record, application: started.id }));
    log.info({ command, pid: started.id?.pid }, "Application started");
    void started.exited.then(({ code, error }) => {
      if (!stopping) log.info({ code, ...(error === undefined ? {} : { error: error.message }) }, "The application ended; stopping");
      askToStop(code);
    });
  }

  const onStopSignal = (signal: NodeJS.Signals): void => {
    if (stopping) {
      log.warn({ signal }, "Second signal: not waiting any longer");
      hurry.abort();
    } else {
      log.info({ signal }, "Stopping");
      askToStop(0);
    }
  };
  const onPassedSignal = (signal: NodeJS.Signals): void => {
    if (application !== undefined) application.signal(signal);
    else if (signal === "SIGHUP" || signal === "SIGQUIT") onStopSignal(signal);
  };
  const handlers = [...(["SIGTERM", "SIGINT"] as const).map((name) => [name, onStopSignal] as const), ...PASSED_SIGNALS.map((name) => [name, onPassedSignal] as const)];
  for (const [name, handler] of handlers) process.on(name, handler);

  // The mount cannot be taken up by another server, as it can by another engine: programs have lost their files, so the node ends.
  void server?.ended.then((how) => {
    if (!stopping) giveUp({ how }, "The process that serves the mount ended, and the mount with it; stopping");
  });
  const etcd = superviseEtcd(config, log);
  etcd?.start();
  engine.start();
  const code = await stopAsked;
  stopping = true;

  // While the application still runs: its requests go on over the new primary.
  tellEngine({ type: "handOff" });
  await Promise.race([handedOff, engine.gone, sleep(GRACE_MS.handOff, undefined, { ref: false }), aborted(hurry.signal)]);
  // The application answers what is running; what has no end of its own, such as streams of events, ends with it.
  await proxy?.drain(GRACE_MS.requests, hurry.signal);
  await application?.stop(GRACE_MS.application, hurry.signal);
  await proxy?.end(hurry.signal);
  // An engine that has died already, or dies now, has nothing to drain: what it left is recovered at the next start.
  engine.retire();
  tellEngine({ type: "stop" });
  const hurried = aborted(hurry.signal).then(() => sleep(GRACE_MS.hurriedEngine, undefined, { ref: false }));
  const drained = await Promise.race([engineStopped.then(() => true), engine.gone.then(() => true), hurried.then(() => false), sleep(GRACE_MS.engine, false, { ref: false })]);
  if (!drained) log.warn({}, "The engine did not finish in time; what is missing is recovered at the next start");
  clearTimeout(leaseTimer);
  await Promise.race([fences.close(), sleep(GRACE_MS.fences, undefined, { ref: false })]);
  const result = mounting.unmount(mountPoint);
  await server?.end();
  // An engine that is served its ENODEV, or loses its connection with the server, ends by itself.
  await engine.end(undefined, drained ? GRACE_MS.engineExit : 0, hurry.signal);
  // After the engine, which gives its lease back there.
  await etcd?.end("SIGTERM", GRACE_MS.etcd, hurry.signal);
  if (fuseFd !== undefined) closeSync(fuseFd);
  if (result === "detached") {
    const holders = mounting.holders(mountPoint, record.device).map((holder) => `${holder.command} (${holder.pid})`);
    log.warn({ holders }, "Unmounted while programs still held files; they get errors now, and the node refuses to start until they end");
  } else {
    removeMountRecord(config.data);
  }
  for (const [name, handler] of handlers) process.off(name, handler);
  parts.lock.release();
  log.info({ code }, "Stopped");
  return code;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve());
  });
}

/** The proxy's configuration as it reads it from its environment. */
function proxyConfig(config: Config): string {
  const format = config.log.format === "auto" ? (process.stdout.isTTY ? "pretty" : "json") : config.log.format;
  return JSON.stringify({
    ...config.proxy, node: { name: config.node.name }, log: { level: config.log.level, format },
    engineSocket: join(config.data, "run", RUN_FILES.engineSocket), listenFd: PROXY_FDS.socket,
  });
}

// The numbers that engine and proxy rely on are the places in `stdio` above.
ENGINE_FDS satisfies { readonly fuse: 3; readonly ipc: 4; readonly dataLock: 5 };
PROXY_FDS satisfies { readonly ipc: 3; readonly dataLock: 4; readonly socket: 5 };

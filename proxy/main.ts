/**
 * The proxy process: what the guardian starts, and how it ends.
 *
 * Always holds: it serves only while its guardian lives (the IPC channel is open); SIGTERM ends it after the running requests, and where the guardian
 * has the socket only once a successor takes the connections, or after SUCCESSOR_MS; whatever keeps it from starting is said to the guardian by
 * name, and the process leaves with code 2.
 */
import pino, { type Logger } from "pino";
import { AppError } from "../proto/errors.ts";
import { CONFIG_VARIABLE, parseConfig, type GuardianMessage, type ProxyConfig, type ProxyMessage } from "./config.ts";
import { connectEngine } from "./engine-view.ts";
import { Metrics } from "./metrics.ts";
import { startServer } from "./server.ts";
import { Upstreams } from "./upstreams.ts";

const METRICS_EVERY_MS = 1_000;
const EXIT_CANNOT_START = 2;
/** How long a process that was told to end goes on for want of a successor. */
const SUCCESSOR_MS = 10_000;

async function main(): Promise<void> {
  const config = parseConfig(process.env[CONFIG_VARIABLE]);
  const log = await makeLog(config);
  const metrics = new Metrics();
  const view = connectEngine({
    socket: config.engineSocket, timeoutMs: config.maxLagMs,
    onChange: (present) => log.info(present ? "the engine is there" : "the engine is away"),
  });
  const upstreams = new Upstreams(config.target, config.limits);
  const server = await startServer({ config, view, upstreams, metrics, log }).catch((error: NodeJS.ErrnoException) => {
    throw new AppError("CONFIG_INVALID", ["proxy.listen", `cannot listen on ${config.listen}: ${error.code === "EADDRINUSE" ? "the port is in use" : error.message}`], { cause: error });
  });
  log.info({ address: server.address, target: config.target }, "the proxy listens");
  tell({ type: "listening", address: server.address });
  const ticker = setInterval(() => tell({ type: "metrics", metrics: metrics.snapshot() }), METRICS_EVERY_MS);

  let stopping = false;
  const stop = async (followed: boolean): Promise<void> => {
    if (stopping) return;
    stopping = true;
    log.info("the proxy stops");
    await server.stop({ followed, onDrained: () => tell({ type: "drained" }) });
    clearInterval(ticker);
    view.close();
    await upstreams.destroy();
    tell({ type: "metrics", metrics: metrics.snapshot() });
    if (process.connected) process.disconnect();
    process.exit(0);
  };
  let leaving = false;
  process.on("SIGTERM", () => {
    if (leaving || config.listenFd === undefined || !process.connected) return void stop(false);
    leaving = true;
    tell({ type: "leaving" });
    setTimeout(() => void stop(true), SUCCESSOR_MS);
  });
  process.on("message", (message: GuardianMessage) => message.type === "stop" && void stop(message.followed));
  // A terminal sends this to the whole group; the guardian says when to stop.
  process.on("SIGINT", () => process.connected || void stop(false));
  process.on("disconnect", () => {
    // Nobody supervises the node any more, and the engine ends as well: there is nothing left to decide by.
    if (!stopping) process.exit(1);
  });
}

async function makeLog(config: ProxyConfig): Promise<Logger> {
  const options = { name: "proxy", level: config.log.level, base: { name: "proxy", node: config.node.name } };
  if (config.log.format !== "pretty") return pino(options);
  const { default: pretty } = await import("pino-pretty");
  return pino(options, pretty({ sync: true }));
}

/** Sends a message to the guardian; without one (started by hand) nobody is told. */
function tell(message: ProxyMessage): void {
  if (process.connected) process.send?.(message, undefined, {}, () => {});
}

main().catch((error: unknown) => {
  const message = error instanceof Error ? error.message : String(error);
  const hint = error instanceof AppError ? error.hint : "";
  process.stderr.write(`sluice proxy: ${message}\n`);
  const leave = (): never => process.exit(EXIT_CANNOT_START);
  if (process.connected && process.send !== undefined) process.send({ type: "fatal", message, hint } satisfies ProxyMessage, leave);
  else leave();
});

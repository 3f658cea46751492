/**
 * The proxies that are compared, each in front of the same application: started, watched and ended.
 *
 * Sluice's are the real proxy process with the flags and the build that a node uses. Their engine is a stand-in (a gRPC server in this process), so
 * what a flush costs a real engine is not in the numbers. HAProxy and nginx are Debian's packages with one thread, one worker and the least
 * configuration that keeps connections alive on both sides and adds X-Forwarded-For. Always holds: a side's processor time is that of its one process.
 */
import { fork, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { connect, createServer, type AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { PROXY_FLAGS } from "../node/guardian/guardian.ts";
import { StandInEngine, type StandInState } from "../test/proxy/support.ts";
import { Skip, type Bench } from "./question.ts";

const OTHER = fileURLToPath(new URL("./proxy-other.ts", import.meta.url));
const PROXY = fileURLToPath(new URL("../dist/proxy/main.js", import.meta.url));
const TOOLS = fileURLToPath(new URL("../test/support/install-tools.sh", import.meta.url));
const PATIENCE_MS = 60_000;
const TICKS_PER_SECOND = 100;

/** What a side is asked. */
export interface Load {
  readonly method: "GET" | "POST";
  readonly headers: Readonly<Record<string, string>>;
}

export interface Side {
  readonly name: string;
  readonly port: number;
  /** 0: nobody is in between. */
  readonly pid: number;
  readonly load: Load;
}

export const READ: Load = { method: "GET", headers: {} };
const COOKIE: Load = { method: "GET", headers: { cookie: "session=0123456789abcdef; __txid=1&app.db:1.5" } };
/** A field that the fast path leaves to the general one. */
const GENERAL: Load = { method: "GET", headers: { te: "trailers" } };
const WRITE: Load = { method: "POST", headers: { "content-type": "text/plain" } };

/** Seconds of processor that a process has used. */
export function cpuSeconds(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function reachable(port: number, what: string): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const isOpen = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1", () => (socket.destroy(), resolve(true)));
      socket.once("error", () => resolve(false));
    });
    if (isOpen) return;
    if (Date.now() > deadline) throw new Error(`${what} does not listen`);
    await sleep(50);
  }
}

function kept(bench: Bench, child: ChildProcess): number {
  bench.use({ dispose: () => void child.kill("SIGKILL") });
  return child.pid!;
}

async function other(bench: Bench, kind: string, target = 0): Promise<{ port: number; pid: number }> {
  const port = await freePort();
  const pid = kept(bench, fork(OTHER, [kind, String(port), String(target)], { execArgv: ["--no-deprecation"] }));
  await reachable(port, kind);
  return { port, pid };
}

async function sluice(bench: Bench, name: string, target: number, state: Partial<StandInState>): Promise<{ port: number; pid: number }> {
  const engine = new StandInEngine(bench.path(`${name}.sock`), { name, role: "primary", epoch: 1, positions: { "app.db": { epoch: 1, txid: 5 } }, ...state });
  await engine.start();
  bench.use({ dispose: () => engine.stop() });
  const port = await freePort();
  const config = { listen: `127.0.0.1:${port}`, target: `127.0.0.1:${target}`, maxLagMs: 2_000, engineSocket: engine.socket, node: { name }, log: { level: "warn" }, limits: { connectionsPerClient: 20_000 } };
  const pid = kept(bench, fork(PROXY, [], { execArgv: [...PROXY_FLAGS], env: { ...process.env, SLUICE_PROXY_CONFIG: JSON.stringify(config) } }));
  await reachable(port, "Sluice's proxy");
  for (let told = false; !told; await sleep(20)) told = (await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } })).headers.get("sluice-txid") !== null;
  return { port, pid };
}

async function haproxy(bench: Bench, target: number): Promise<{ port: number; pid: number }> {
  const port = await freePort();
  const path = bench.path("haproxy.cfg");
  writeFileSync(path, [
    "global", "  nbthread 1", "  no strict-limits", "  maxconn 10500", "defaults", "  mode http", "  option http-keep-alive", "  http-reuse always", "  timeout connect 3s", "  timeout client 300s", "  timeout server 120s",
    "frontend in", `  bind 127.0.0.1:${port}`, "  option forwardfor", "  http-request set-header X-Forwarded-Proto http", "  default_backend out", "backend out", `  server app 127.0.0.1:${target}`, "",
  ].join("\n"));
  const pid = kept(bench, spawn("/usr/sbin/haproxy", ["-db", "-q", "-f", path], { stdio: "ignore" }));
  await reachable(port, "HAProxy");
  return { port, pid };
}

async function nginx(bench: Bench, target: number): Promise<{ port: number; pid: number }> {
  const port = await freePort();
  const path = bench.path("nginx.conf");
  writeFileSync(path, `daemon off; master_process off; worker_processes 1; pid ${bench.path("nginx.pid")}; error_log /dev/null;
    events { worker_connections 12000; }
    http { access_log off; client_body_temp_path ${bench.path("nginx-body")}; proxy_temp_path ${bench.path("nginx-proxy")};
      fastcgi_temp_path ${bench.path("nginx-f")}; uwsgi_temp_path ${bench.path("nginx-u")}; scgi_temp_path ${bench.path("nginx-s")};
      keepalive_timeout 300s; keepalive_requests 1000000000;
      upstream app { server 127.0.0.1:${target}; keepalive 256; keepalive_requests 1000000000; }
      server { listen 127.0.0.1:${port};
        location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
          proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto http; } } }`);
  const pid = kept(bench, spawn("/usr/sbin/nginx", ["-c", path], { stdio: "ignore" }));
  await reachable(port, "nginx");
  return { port, pid };
}

/** Starts them all. */
export async function startSides(bench: Bench): Promise<readonly Side[]> {
  spawnSync("sh", [TOOLS], { stdio: "ignore" });
  for (const tool of ["/usr/sbin/haproxy", "/usr/sbin/nginx"]) if (!existsSync(tool)) throw new Skip(`${tool} is missing and could not be installed`);
  const app = await other(bench, "app");
  const primary = await sluice(bench, "p", app.port, {});
  const follower = await sluice(bench, "f", app.port, { role: "follower", primary: { name: "p", proxy: `http://127.0.0.1:${primary.port}` } });
  return [
    { name: "direct", port: app.port, pid: 0, load: READ },
    { name: "Sluice, local read", ...follower, load: READ },
    { name: "Sluice, read with cookie", ...follower, load: COOKIE },
    { name: "Sluice, general path", ...follower, load: GENERAL },
    { name: "Sluice, forwarded write", ...follower, load: WRITE },
    { name: "http-proxy", ...(await other(bench, "http-proxy", app.port)), load: READ },
    { name: "undici pipe", ...(await other(bench, "undici", app.port)), load: READ },
    { name: "HAProxy, 1 thread", ...(await haproxy(bench, app.port)), load: READ },
    { name: "nginx, 1 worker", ...(await nginx(bench, app.port)), load: READ },
  ];
}

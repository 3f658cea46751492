/**
 * What the cases are sent to: Sluice as one node and as a follower before a primary, HAProxy and nginx as judges, and http-proxy, which is known to fail.
 *
 * Always holds: each is a real server on a free port with a recording back end of its own; all of them are started and ended by the test that asked
 * for them. HAProxy and nginx run with what their packages ship, one configuration each, everything below a temporary directory.
 */
import { fork, spawn, spawnSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { once } from "node:events";
import { startNode, temporary, until } from "../proxy/support.ts";
import { freePorts } from "../support/ports.ts";
import { Recorder } from "./recorder.ts";

export interface Subject {
  readonly name: string;
  readonly port: number;
  readonly recorder: Recorder;
}

async function recorderFor(t: TestContext): Promise<Recorder> {
  const recorder = await Recorder.start();
  t.after(() => recorder.stop());
  return recorder;
}

/** The primary with its application. */
export async function startSluice(t: TestContext): Promise<Subject> {
  const recorder = await recorderFor(t);
  const { proxy } = await startNode(t, { name: "a", target: recorder.port });
  await answers("Sluice", proxy.port, recorder);
  return { name: "sluice", port: proxy.port, recorder };
}

/** A follower that forwards everything, so that each request passes two proxies. */
export async function startSluiceChain(t: TestContext): Promise<Subject> {
  const recorder = await recorderFor(t);
  const primary = await startNode(t, { name: "a", target: recorder.port });
  const follower = await startNode(t, {
    name: "b", role: "follower", target: recorder.port, primary: { name: "a", proxy: primary.proxy.url }, rules: [{ path: "*", to: "primary" }],
  });
  await answers("Sluice", follower.proxy.port, recorder);
  return { name: "sluice, two nodes", port: follower.proxy.port, recorder };
}

/** The version of a judge as its package has it, or undefined when it is not installed. */
export function versionOf(judge: "haproxy" | "nginx"): string | undefined {
  const { stdout, stderr, error } = spawnSync(binary(judge), ["-v"], { encoding: "utf8" });
  if (error !== undefined) return undefined;
  return /(?:version |nginx\/)(\d+\.\d+\.\d+)/.exec(`${stdout}${stderr}`)?.[1];
}

export async function startHaproxy(t: TestContext): Promise<Subject> {
  const recorder = await recorderFor(t);
  const port = await freePort();
  const file = join(temporary(t), "haproxy.cfg");
  writeFileSync(file, [
    "global", "  maxconn 200", "defaults", "  mode http", "  timeout connect 10s", "  timeout client 60s", "  timeout server 60s", "  timeout http-request 60s",
    "  option http-keep-alive", "frontend f", `  bind 127.0.0.1:${port}`, "  default_backend b", "backend b", "  http-reuse always", `  server s 127.0.0.1:${recorder.port}`, "",
  ].join("\n"));
  run(t, binary("haproxy"), ["-db", "-f", file]);
  await answers("HAProxy", port, recorder);
  return { name: "haproxy", port, recorder };
}

export async function startNginx(t: TestContext): Promise<Subject> {
  const recorder = await recorderFor(t);
  const port = await freePort();
  const folder = temporary(t);
  const file = join(folder, "nginx.conf");
  const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `  ${name}_temp_path ${join(folder, name)};`);
  writeFileSync(file, [
    "daemon off;", "master_process off;", `pid ${join(folder, "pid")};`, `error_log ${join(folder, "error.log")};`, "events { worker_connections 200; }", "http {", ...paths, "  access_log off;",
    "  upstream b {", `    server 127.0.0.1:${recorder.port} max_fails=0;`, "    keepalive 4;", "  }",
    "  server {", `    listen 127.0.0.1:${port};`, "    client_max_body_size 0;", "    location / {", "      proxy_pass http://b;", "      proxy_http_version 1.1;", "      proxy_set_header Connection \"\";",
    "      proxy_set_header Host $http_host;", "      proxy_request_buffering off;", "      proxy_next_upstream off;", "    }", "  }", "}", "",
  ].join("\n"));
  run(t, binary("nginx"), ["-p", folder, "-e", join(folder, "error.log"), "-c", file]);
  await answers("nginx", port, recorder);
  return { name: "nginx", port, recorder };
}

/** The npm package http-proxy, in a process of its own. */
export async function startHttpProxy(t: TestContext): Promise<Subject> {
  const recorder = await recorderFor(t);
  const child = fork(new URL("./http-proxy-main.ts", import.meta.url), [String(recorder.port)], { execArgv: ["--no-deprecation"] });
  t.after(async () => {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  });
  const [{ port }] = (await once(child, "message")) as [{ port: number }];
  return { name: "http-proxy", port, recorder };
}

/** Debian keeps servers where only root's PATH leads. */
function binary(name: string): string {
  return [`/usr/sbin/${name}`, `/usr/local/sbin/${name}`].find(existsSync) ?? name;
}

function run(t: TestContext, command: string, args: readonly string[]): void {
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] });
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
  let ending = false;
  child.on("exit", (code) => {
    if (!ending) console.error(`${command} ended with ${code}: ${errors}`);
  });
  t.after(async () => {
    ending = true;
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  });
}

async function freePort(): Promise<number> {
  return (await freePorts(1))[0]!;
}

/** Waits until a request gets through to the back end, and forgets it. */
async function answers(name: string, port: number, recorder: Recorder): Promise<void> {
  await until(`${name} to pass a request on`, async () => {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    socket.write("POST /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    const answer = await new Promise<string>((resolve) => {
      let text = "";
      socket.on("data", (chunk: Buffer) => (text += chunk.toString("latin1"))).on("close", () => resolve(text));
    });
    return answer.startsWith("HTTP/1.1 200");
  });
  recorder.take();
}

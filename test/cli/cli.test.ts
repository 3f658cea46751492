/** The command line in real processes: exit codes, sentences, and that a refused `mount` changes nothing. No node is started. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { takeDataLock } from "../../node/guardian/data-lock.ts";
import { freePorts } from "../support/ports.ts";

const MAIN = fileURLToPath(new URL("../../node/main.ts", import.meta.url));
const BIN = fileURLToPath(new URL("../../bin/sluice", import.meta.url));
const BUILT = fileURLToPath(new URL("../../dist/node/main.js", import.meta.url));

interface Result { readonly code: number | null; readonly out: string; readonly err: string }

function run(program: string, args: readonly string[], options: { cwd?: string; env?: Record<string, string> } = {}): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], cwd: options.cwd, env: { ...process.env, ...options.env } });
    let out = "";
    let err = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => (out += chunk));
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => (err += chunk));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, out, err }));
  });
}

const sluice = (args: readonly string[], options?: { cwd?: string; env?: Record<string, string> }): Promise<Result> => run(process.execPath, [MAIN, ...args], options);

/** `t`: it is in use while that test runs. */
async function freePort(t?: TestContext): Promise<number> {
  const [port] = (await freePorts(1)) as [number];
  if (t !== undefined) {
    const server = createServer().listen(port, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    t.after(() => server.close());
  }
  return port;
}

/** A folder with a good configuration; `extra` lines are added or replace. */
async function workplace(t: TestContext, extra: Readonly<Record<string, string>> = {}): Promise<{ folder: string; file: string }> {
  const folder = mkdtempSync(join(tmpdir(), "cli-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const settings = { node: "{name: n1}", data: "data", fuse: "{mount: mnt}", listen: `127.0.0.1:${await freePort()}`, admin: `127.0.0.1:${await freePort()}`, lease: '{primary: "10.9.8.7:7001"}', ...extra };
  const file = join(folder, "sluice.yml");
  writeFileSync(file, Object.entries(settings).map(([key, value]) => `${key}: ${value}\n`).join(""));
  return { folder, file };
}

const USAGE_ERRORS: readonly (readonly [args: readonly string[], sentence: RegExp])[] = [
  [[], /^Sluice: /],
  [["mont"], /^sluice: There is no command "mont"\nDid you mean `sluice mount`\?/],
  [["xyzzy"], /^sluice: There is no command "xyzzy"\n`sluice help`/],
  [["__proto__"], /^sluice: There is no command/],
  [["mount", "extra"], /^sluice: "extra" is one argument too many\nUsage: sluice mount \[-c FILE\]/],
  [["mount", "--fast"], /^sluice: Unknown option '--fast'\nUsage: sluice mount/],
  [["mount", "-c"], /^sluice: Option '-c, --config <value>' argument missing\nUsage/],
  [["import", "a.db"], /^sluice: --name is missing/],
  [["import", "--name", "a.db"], /^sluice: SOURCE\.db is missing/],
  [["import", "--name", "a.db", "/nonexistent.db"], /^sluice: There is no file \/nonexistent\.db/],
  [["export", "--name", "a.db", "/etc/passwd"], /^sluice: \/etc\/passwd exists already/],
  [["repair"], /^sluice: --from is missing/],
  [["repair", "--from", "backup"], /^sluice: "backup" is nothing to repair from\nThe only one is a peer/],
  [["verify", "--deep"], /^sluice: Unknown option '--deep'\nUsage: sluice verify/],
  [["check-config", "/nonexistent.yml"], /^sluice: Cannot use configuration \/nonexistent\.yml: there is no such file; check the path\nCorrect the key/],
  [["mount", "-c", "/nonexistent.yml"], /^sluice: Cannot use configuration \/nonexistent\.yml: there is no such file/],
  [["status", "-c", "/nonexistent.yml"], /^sluice: Cannot use configuration \/nonexistent\.yml: there is no such file/],
];

for (const [args, sentence] of USAGE_ERRORS) {
  test(`sluice ${args.join(" ")} exits with 2 and says why`, async () => {
    const { code, out, err } = await sluice(args);
    assert.equal(code, 2);
    assert.match(err, sentence);
    assert.equal(out, "");
  });
}

test("version and help exit with 0", async () => {
  for (const args of [["version"], ["--version"]]) assert.match((await sluice(args)).out, /^\d+\.\d+\.\d+\n$/);
  for (const args of [["help"], ["--help"]]) assert.match((await sluice(args)).out, /sluice mount .*\n[^]*sluice check-config/);
  assert.match((await sluice(["import", "-h"])).out, /^Usage: sluice import \[-c FILE\] --name app\.db SOURCE\.db\n/);
});

test("check-config accepts a good file, found by argument, by -c, or in the working folder", async (t) => {
  const { folder, file } = await workplace(t);
  for (const args of [[file], ["-c", file], []]) {
    assert.deepEqual(await sluice(["check-config", ...args], { cwd: folder }), { code: 0, out: `${file} can be used.\n`, err: "" });
  }
  assert.deepEqual(readdirSync(folder), ["sluice.yml"]);
});

test("check-config lists every problem", async (t) => {
  const { file } = await workplace(t, { lisen: "1", log: "{level: x}" });
  const { code, err } = await sluice(["check-config", file]);
  assert.equal(code, 2);
  assert.deepEqual(err.split("\n").filter((line) => line.startsWith("sluice: ")).length, 2);
});

test("status, import and export say that the node does not run, and exit with 1", async (t) => {
  const { folder, file } = await workplace(t);
  for (const args of [["status", "-c", file], ["import", "-c", file, "--name", "a.db", file], ["export", "-c", file, "--name", "a.db", join(folder, "x.db")]]) {
    const { code, err } = await sluice(args);
    assert.equal(code, 1);
    assert.match(err, /^sluice: The node of .*sluice\.yml does not run .*\nStart it with `sluice mount`/);
  }
});

test("import and export go by the socket with absolute paths and show what the node answers", async (t) => {
  const { folder, file } = await workplace(t);
  mkdirSync(join(folder, "data/run"), { recursive: true });
  const asked: string[] = [];
  const node = createHttpServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    const body = request.url!.startsWith("/export") ? { error: { code: "DATABASE_NOT_FOUND", message: 'Cannot find database "a b.db"', hint: "Look." } } : { ok: true, txid: "000000000000000a", pages: 2, bytes: 8192 };
    response.end(JSON.stringify(body));
  }).listen(join(folder, "data/run/admin.sock"));
  t.after(() => node.close());
  assert.deepEqual(await sluice(["import", "-c", file, "--name", "a b.db", "sluice.yml"], { cwd: folder }), { code: 0, out: "Imported a b.db: 2 pages, 8KiB, at TXID 000000000000000a\n", err: "" });
  assert.deepEqual(await sluice(["export", "-c", file, "--name", "a b.db", "out.db"], { cwd: folder }), { code: 1, out: "", err: 'sluice: Cannot find database "a b.db"\nLook.\n' });
  const path = (name: string): string => encodeURIComponent(join(folder, name)).replaceAll("%20", "+");
  assert.deepEqual(asked, [`POST /import?name=a+b.db&source=${path("sluice.yml")}`, `POST /export?name=a+b.db&target=${path("out.db")}`]);
});

test("verify works while no node runs; repair says to start it", async (t) => {
  const { folder, file } = await workplace(t);
  assert.deepEqual(await sluice(["verify", "-c", file]), { code: 0, out: "There are no databases here.\n", err: "" });
  mkdirSync(join(folder, "data/log"), { recursive: true });
  writeFileSync(join(folder, "data/cluster-id"), "zz");
  const { code, out } = await sluice(["verify", "-c", file]);
  assert.equal(code, 1);
  assert.match(out, /^\S*data\/cluster-id: it does not hold 16 hexadecimal digits; write the id of the cluster into it/);
  const json = JSON.parse((await sluice(["verify", "--json", "-c", file])).out) as { sound: boolean; findings: { file: string }[] };
  assert.equal(json.sound, false);
  assert.equal(json.findings[0]!.file, join(folder, "data/cluster-id"));
  const repair = await sluice(["repair", "--from", "peer", "-c", file]);
  assert.equal(repair.code, 1);
  assert.match(repair.err, /does not run .*\nStart it with `sluice mount -c \S+sluice\.yml`, then repair/);
  const none = await sluice(["verify", "-c", file, "--name", "app.db"]);
  assert.equal(none.code, 1);
  assert.match(none.err, /Cannot find database "app\.db"/);
});

/** Everything below a folder, with modes, so that a change shows. */
function picture(folder: string): string[] {
  return ["", ...readdirSync(folder, { recursive: true, encoding: "utf8" }).sort()].map((name) => `${name} ${statSync(join(folder, name)).mode.toString(8)}`);
}

interface Refusal {
  readonly what: string;
  readonly sentence: RegExp;
  prepare(t: TestContext, folder: string): Promise<Record<string, string>> | Record<string, string>;
}

const REFUSALS: readonly Refusal[] = [
  { what: "a port that is in use", sentence: /line 4: listen: port \d+ is in use by \S+ \(process \d+\); stop that program, or choose another port/, prepare: async (t) => ({ listen: `127.0.0.1:${await freePort(t)}` }) },
  { what: "an admin port that is in use", sentence: /line 5: admin: port \d+ is in use/, prepare: async (t) => ({ admin: `127.0.0.1:${await freePort(t)}` }) },
  { what: "a proxy port that is in use", sentence: /line 7: proxy\.listen: port \d+ is in use/, prepare: async (t) => ({ proxy: `{target: "127.0.0.1:3000", listen: "127.0.0.1:${await freePort(t)}"}` }) },
  { what: "an address of another machine", sentence: /line 4: listen: 203\.0\.113\.9 is not an address of this machine/, prepare: () => ({ listen: "203.0.113.9:7001" }) },
  { what: "a mount point that is not empty", sentence: /line 3: fuse\.mount: \S*mnt is not empty; give an empty folder/, prepare: (_t, folder) => (mkdirSync(join(folder, "mnt/x"), { recursive: true }), {}) },
  { what: "a mount point that is a file", sentence: /line 3: fuse\.mount: \S*mnt is not a folder/, prepare: (_t, folder) => (writeFileSync(join(folder, "mnt"), ""), {}) },
  { what: "a mount point where something is mounted", sentence: /line 3: fuse\.mount: another file system is mounted at \/proc/, prepare: () => ({ fuse: "{mount: /proc}" }) },
  { what: "a data folder with other files", sentence: /line 2: data: \S*data holds other files \(thesis\.doc\)/, prepare: (_t, folder) => (mkdirSync(join(folder, "data")), writeFileSync(join(folder, "data/thesis.doc"), ""), {}) },
  { what: "a data folder that is a file", sentence: /line 2: data: \S*data is not a folder/, prepare: (_t, folder) => (writeFileSync(join(folder, "data"), ""), {}) },
  { what: "a data folder whose cluster-id is damaged", sentence: /line 2: data: \S*data\/cluster-id is damaged: it does not hold 16 hexadecimal digits; write the id of the cluster into it/, prepare: (_t, folder) => (mkdirSync(join(folder, "data")), writeFileSync(join(folder, "data/cluster-id"), "x"), {}) },
  { what: "a command that does not exist", sentence: /line 7: exec: there is no program "no-such-program" in PATH; install it/, prepare: () => ({ exec: "[no-such-program]" }) },
  { what: "a command that is not executable", sentence: /line 7: exec: "\S*app\.sh" is not executable; change its mode/, prepare: (_t, folder) => (writeFileSync(join(folder, "app.sh"), ""), chmodSync(join(folder, "app.sh"), 0o644), { exec: `["${join(folder, "app.sh")}"]` }) },
];

for (const refusal of REFUSALS) {
  test(`mount refuses ${refusal.what} with exit code 2 and changes nothing`, async (t) => {
    const { folder } = await workplace(t);
    // Apart from the folder that is looked at.
    const { file } = await workplace(t);
    const extra = await refusal.prepare(t, folder);
    const settings = { node: "{name: n1}", data: join(folder, "data"), fuse: `{mount: ${join(folder, "mnt")}}`, listen: `127.0.0.1:${await freePort()}`, admin: `127.0.0.1:${await freePort()}`, lease: '{primary: "10.9.8.7:7001"}', ...extra };
    writeFileSync(file, Object.entries(settings).map(([key, value]) => `${key}: ${value}\n`).join(""));
    const before = picture(folder);
    const { code, out, err } = await sluice(["mount", "-c", file]);
    assert.equal(code, 2, err);
    assert.match(err, refusal.sentence);
    assert.equal(err.split("\n").filter((line) => line.startsWith("sluice: ")).length, 1, err);
    assert.equal(out, "");
    assert.deepEqual(picture(folder), before);
  });
}

test("mount refuses a data folder that another node uses, and names its process", async (t) => {
  const { folder, file } = await workplace(t);
  const lock = await takeDataLock(join(folder, "data"), { create: true });
  assert.ok(lock !== undefined && "release" in lock);
  const { code, err } = await sluice(["mount", "-c", file]);
  lock.release();
  assert.equal(code, 2);
  assert.match(err, new RegExp(`line 2: data: another node \\(process ${process.pid}\\) uses ${join(folder, "data")}; stop that node`));
});

test("bin/sluice runs the built command through a symbolic link, from any folder", { skip: existsSync(BUILT) ? false : "SKIPPED: dist/ is missing, run `make build`" }, async (t) => {
  const { folder } = await workplace(t);
  symlinkSync(BIN, join(folder, "sluice"));
  assert.match((await run(join(folder, "sluice"), ["version"], { cwd: "/" })).out, /^\d+\.\d+\.\d+\n$/);
});

test("bin/sluice in a checkout that is not built says so", async (t) => {
  const { folder } = await workplace(t);
  mkdirSync(join(folder, "bin"));
  copyFileSync(BIN, join(folder, "bin/sluice"));
  chmodSync(join(folder, "bin/sluice"), 0o755);
  assert.deepEqual(await run(join(folder, "bin/sluice"), ["version"]), { code: 2, out: "", err: `sluice: ${folder} is not built\nRun \`make build\` there.\n` });
});

test("check-config --json prints the configuration with all defaults", async (t) => {
  const { folder, file } = await workplace(t);
  const { code, out } = await sluice(["check-config", "--json", file]);
  const config = JSON.parse(out) as { data: string; retention: { bytes: number } };
  assert.deepEqual([code, config.data, config.retention.bytes], [0, join(folder, "data"), 256 * 2 ** 20]);
});

/**
 * Three nodes that run etcd themselves: from three configuration files to a store that survives the death of any one member.
 */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { parseConfig } from "../../node/config.ts";
import { identify, isAlive } from "../../node/guardian/process-id.ts";
import { openLeaseStore } from "../../node/lease/open.ts";
import { skipWithout } from "../support/programs.ts";
import { memberOf } from "./members.ts";
import { freePorts } from "./servers.ts";

const skip = skipWithout("etcd", "setpriv");

async function until(what: string, ask: () => Promise<boolean> | boolean): Promise<void> {
  for (const end = performance.now() + 90_000; performance.now() < end; await sleep(50)) if (await ask()) return;
  assert.fail(what);
}

test("three nodes with their own etcd have a lease store that goes on when one is killed, and it ends with its guardian", { skip }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "spawn-"));
  const ports = await freePorts(6);
  const names = ["a", "b", "c"];
  const peers = `{${names.map((name, index) => `${name}: "http://127.0.0.1:${ports[index + 3]!}"`).join(", ")}}`;
  const guardians = names.map((name, index) => {
    const text = `node: {name: ${name}}\nlease: {type: etcd, etcd: {endpoints: ["http://127.0.0.1:${ports[index]!}"], spawn: {data: ${name}/etcd, peers: ${peers}}}}`;
    const result = parseConfig(text, join(folder, "sluice.yml"), {});
    assert.ok("config" in result, JSON.stringify(result));
    const child = spawn(process.execPath, ["--no-warnings", new URL("./etcd-spawn-main.ts", import.meta.url).pathname, JSON.stringify(result.config)], { stdio: ["ignore", "pipe", "ignore"] });
    const pids: number[] = [];
    let text0 = "";
    child.stdout.on("data", (data: Buffer) => {
      text0 += data.toString();
      for (let at = text0.indexOf("\n"); at >= 0; at = text0.indexOf("\n")) {
        const line = JSON.parse(text0.slice(0, at)) as { text: string; pid?: number };
        text0 = text0.slice(at + 1);
        if (line.text === "etcd started") pids.push(line.pid!);
      }
    });
    return { child: child as ChildProcess, pids, config: result.config };
  });
  const stores = await Promise.all(guardians.map(({ config }) => openLeaseStore(config.lease, { epoch: () => 1 })));
  try {
    const options = { ttlMs: 60_000, minEpoch: 1, deadlineMs: 60_000 };
    const held = (await stores[0]!.acquire(memberOf(1), options))!;
    assert.ok(held !== undefined);
    for (const store of stores) assert.equal((await store.read(60_000))?.token, held.token);
    process.kill(guardians[1]!.pids[0]!, "SIGKILL");
    assert.equal(await stores[0]!.renew(held, { ttlMs: 60_000, deadlineMs: 30_000 }), true, "two of three go on");
    await until("the killed one is started again", () => guardians[1]!.pids.length === 2);
    assert.equal((await stores[1]!.read(60_000))?.token, held.token, "and it knows what the others know");
    await stores[0]!.release(held, 30_000);
    assert.ok((await stores[1]!.acquire(memberOf(2), options))!.epoch > held.epoch);
    // A guardian that is killed takes its etcd along.
    const orphan = identify(guardians[2]!.pids[0]!)!;
    guardians[2]!.child.kill("SIGKILL");
    await until("etcd ends with its guardian", () => !isAlive(orphan));
    const exits = guardians.slice(0, 2).map(({ child }) => once(child, "exit"));
    for (const { child } of guardians.slice(0, 2)) child.kill("SIGTERM");
    for (const exit of exits) assert.deepEqual((await exit)[0], 0);
    for (const { pids } of guardians) assert.equal(identify(pids.at(-1)!), undefined);
  } finally {
    for (const store of stores) await store.close();
    for (const { child } of guardians) child.kill("SIGKILL");
    await sleep(200);
    rmSync(folder, { recursive: true, force: true });
  }
});

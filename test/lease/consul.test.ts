/**
 * The lease in Consul: the contract against a real server, where one is on the PATH.
 */
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { LeaseConfig } from "../../node/core/config.ts";
import type { LeaseStore } from "../../node/lease/lease.ts";
import { openLeaseStore } from "../../node/lease/open.ts";
import { isAppError } from "../../proto/errors.ts";
import { skipWithout } from "../support/programs.ts";
import { contract, type RawAccess } from "./contract.ts";
import { memberOf } from "./members.ts";
import { ask, freePorts, Server } from "./servers.ts";
import { slowRelay } from "./slow-relay.ts";

// Debian does not carry it; it can be built from its source with Go.
const skip = skipWithout("consul");

const settingsFor = (url: string, token?: string): Extract<LeaseConfig, { type: "consul" }> => ({ type: "consul", ttlMs: 10_000, candidate: true, promote: "auto", consul: { url, key: "sluice", token } });
const openStore = (url: string, token?: string): Promise<LeaseStore> => openLeaseStore(settingsFor(url, token), { epoch: () => 1 });

async function startConsul(more: object = {}): Promise<{ server: Server; port: number; url: string }> {
  const [port, rpc, serf, grpc] = (await freePorts(4)) as [number, number, number, number];
  const url = `http://127.0.0.1:${port}`;
  const server: Server = new Server({
    command(folder) {
      writeFileSync(join(folder, "consul.json"), JSON.stringify({
        server: true, bootstrap_expect: 1, data_dir: join(folder, "data"), bind_addr: "127.0.0.1", client_addr: "127.0.0.1", node_name: "t", log_level: "warn", disable_update_check: true,
        ports: { http: port, server: rpc, serf_lan: serf, serf_wan: -1, dns: -1, grpc, grpc_tls: -1 }, connect: { enabled: false }, peering: { enabled: false }, ...more,
      }));
      return ["consul", "agent", "-config-file", join(folder, "consul.json")];
    },
    isReady: async () => ((await ask(`${url}/v1/status/leader`)) as string) !== "",
  });
  return { server, port, url };
}

function rawAccess(url: string): RawAccess {
  const pathOf = (name: string): string => `sluice/${name === "member" ? "members/0000000000000009" : name}`;
  return {
    pathOf,
    write: async (name, content) => void (await ask(`${url}/v1/kv/${pathOf(name)}`, { method: "PUT", body: new Uint8Array(content) })),
    async read(name) {
      const pairs = (await ask(`${url}/v1/kv/${pathOf(name)}`)) as { Value: string | null }[] | undefined;
      return pairs === undefined ? undefined : Buffer.from(pairs[0]!.Value ?? "", "base64");
    },
    remove: async (name) => void (await ask(`${url}/v1/kv/${pathOf(name)}`, { method: "DELETE" })),
  };
}

contract({
  name: "consul", ttlMs: 10_000, skip,
  async start() {
    const { server, port, url } = await startConsul();
    await server.start();
    const relays: { end(): void }[] = [];
    return {
      settings: settingsFor(url), raw: rawAccess(url),
      open: () => openStore(url),
      async openSlow() {
        const relay = await slowRelay(port);
        relays.push(relay);
        return { store: await openStore(`http://127.0.0.1:${relay.port}`), setDelay: (ms) => relay.setDelay(ms) };
      },
      kill: () => server.kill(),
      restart: () => server.start(),
      async wipe() {
        await server.kill();
        rmSync(join(server.folder, "data"), { recursive: true });
        await server.start();
      },
      async close() {
        for (const relay of relays) relay.end();
        await server.end();
      },
    };
  },
});

test("consul: with a token; none is refused by name", { skip }, async () => {
  const { server, url } = await startConsul({ acl: { enabled: true, default_policy: "deny", tokens: { initial_management: "00000000-0000-0000-0000-00000000000a" } } });
  try {
    await server.start();
    const store = await openStore(url, "00000000-0000-0000-0000-00000000000a");
    const options = { ttlMs: 10_000, minEpoch: 1, deadlineMs: 30_000 };
    let held;
    // The management token is there a moment after the leader.
    for (let tries = 0; held === undefined && tries < 600; tries++) {
      held = await store.acquire(memberOf(1), options).catch((error: unknown) => void assert.ok(isAppError(error, "LEASE_STORE_UNUSABLE"), String(error)));
      if (held === undefined) await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.ok(held !== undefined);
    const nobody = await openStore(url);
    await assert.rejects(nobody.acquire(memberOf(2), options), (error) => isAppError(error, "LEASE_STORE_UNUSABLE") && /403/.test(error.message));
    await store.release(held, 30_000);
    await store.close();
    await nobody.close();
  } finally {
    await server.end();
  }
});

/**
 * The lease in etcd: the contract against the real server, and what belongs to etcd alone: several members, passwords, certificates.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { EtcdSettings, LeaseConfig } from "../../node/core/config.ts";
import type { LeaseStore } from "../../node/lease/lease.ts";
import { openLeaseStore } from "../../node/lease/open.ts";
import { isAppError } from "../../proto/errors.ts";
import { skipWithout } from "../support/programs.ts";
import { contract, type RawAccess } from "./contract.ts";
import { memberOf } from "./members.ts";
import { ask, freePorts, Server } from "./servers.ts";
import { slowRelay } from "./slow-relay.ts";

const skip = skipWithout("etcd", "openssl");
const options = { ttlMs: 60_000, minEpoch: 1, deadlineMs: 30_000 };

const settingsFor = (endpoints: readonly string[], more: Partial<EtcdSettings> = {}): Extract<LeaseConfig, { type: "etcd" }> => ({
  type: "etcd", ttlMs: 10_000, candidate: true, promote: "auto",
  etcd: { endpoints, prefix: "/sluice", user: undefined, password: undefined, ca: undefined, cert: undefined, key: undefined, spawn: undefined, ...more },
});
const openStore = (endpoints: readonly string[], more: Partial<EtcdSettings> = {}): Promise<LeaseStore> => openLeaseStore(settingsFor(endpoints, more), { epoch: () => 1 });

async function startEtcd(extra: readonly string[] = []): Promise<{ server: Server; port: number; url: string }> {
  const [port, peer] = (await freePorts(2)) as [number, number];
  const url = `http://127.0.0.1:${port}`;
  const server = new Server({
    command: (folder) => ["etcd", "--data-dir", join(folder, "data"), "--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", `http://127.0.0.1:${peer}`,
      "--initial-advertise-peer-urls", `http://127.0.0.1:${peer}`, "--initial-cluster", `default=http://127.0.0.1:${peer}`, "--logger", "zap", ...extra],
    isReady: async () => ((await ask(`${url}/health`)) as { health?: string }).health === "true",
  });
  return { server, port, url };
}

const base64 = (bytes: Buffer | string): string => Buffer.from(bytes).toString("base64");

function rawAccess(url: string): RawAccess {
  const pathOf = (name: string): string => `/sluice/${name === "member" ? "members/0000000000000009" : name}`;
  const post = (path: string, body: object): Promise<unknown> => ask(url + path, { method: "POST", body: JSON.stringify(body) });
  return {
    pathOf,
    write: async (name, content) => void (await post("/v3/kv/put", { key: base64(pathOf(name)), value: base64(content) })),
    async read(name) {
      const { kvs } = (await post("/v3/kv/range", { key: base64(pathOf(name)) })) as { kvs?: { value?: string }[] };
      return kvs === undefined ? undefined : Buffer.from(kvs[0]!.value ?? "", "base64");
    },
    remove: async (name) => void (await post("/v3/kv/deleterange", { key: base64(pathOf(name)) })),
  };
}

contract({
  name: "etcd", ttlMs: 2_000, skip,
  async start() {
    const { server, port, url } = await startEtcd();
    await server.start();
    const relays: { end(): void }[] = [];
    return {
      settings: settingsFor([url]), raw: rawAccess(url),
      open: () => openStore([url]),
      async openSlow() {
        const relay = await slowRelay(port);
        relays.push(relay);
        return { store: await openStore([`http://127.0.0.1:${relay.port}`]), setDelay: (ms) => relay.setDelay(ms) };
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

test("etcd: a lease that belongs to no session is refused, because it would never expire", { skip }, async () => {
  const { server, url } = await startEtcd();
  try {
    await server.start();
    const store = await openStore([url]);
    const holder = memberOf(1);
    await rawAccess(url).write("lease", Buffer.from(JSON.stringify({ sluice: 1, epoch: 3, token: `${holder.nodeId}-3-x`, holder })));
    await assert.rejects(store.acquire(memberOf(2), options), (error) => isAppError(error, "LEASE_STORE_CORRUPT") && /never expire/.test(error.message));
    await store.close();
  } finally {
    await server.end();
  }
});

test("etcd: of three members any one may die, stop, or be cut off, and the lease goes on within its deadlines", { skip }, async () => {
  const ports = await freePorts(6);
  const peers = [0, 1, 2].map((index) => `m${index}=http://127.0.0.1:${ports[index + 3]!}`).join(",");
  const urls = [0, 1, 2].map((index) => `http://127.0.0.1:${ports[index]!}`);
  const servers = urls.map((url, index) => new Server({
    command: (folder) => ["etcd", "--name", `m${index}`, "--data-dir", join(folder, "data"), "--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", `http://127.0.0.1:${ports[index + 3]!}`,
      "--initial-advertise-peer-urls", `http://127.0.0.1:${ports[index + 3]!}`, "--initial-cluster", peers, "--logger", "zap"],
    isReady: async () => ((await ask(`${url}/health`)) as { health?: string }).health === "true",
  }));
  // A place where connections are accepted and nothing is answered: what a member behind a broken network looks like.
  const silent = createServer(() => undefined).listen(0, "127.0.0.1");
  try {
    await Promise.all(servers.map((server) => server.start()));
    const { port } = silent.address() as { port: number };
    const store = await openStore([`http://127.0.0.1:${port}`, ...urls]);
    const held = (await store.acquire(memberOf(1), options))!;
    assert.ok(held !== undefined, "the silent member cost only a share of the deadline");
    for (const [index, server] of servers.entries()) {
      await server.kill();
      assert.equal(await store.renew(held, { ttlMs: 60_000, deadlineMs: 30_000 }), true, `without m${index}`);
      assert.equal(await store.acquire(memberOf(2), options), undefined);
      await server.start();
    }
    await store.release(held, 30_000);
    const next = await store.acquire(memberOf(2), options);
    assert.ok(next !== undefined && next.epoch > held.epoch);
    await servers[0]!.kill();
    await servers[1]!.kill();
    await assert.rejects(store.renew(next, { ttlMs: 60_000, deadlineMs: 1_500 }), (error) => isAppError(error, "LEASE_STORE_UNAVAILABLE"), "one of three is no majority");
    await store.close();
  } finally {
    silent.close();
    for (const server of servers) await server.end();
  }
});

test("etcd: with user and password; a wrong one, and none, are refused by name; a token that etcd has forgotten is renewed", { skip }, async () => {
  const { server, url } = await startEtcd(["--auth-token-ttl", "1"]);
  try {
    await server.start();
    const post = (path: string, body: object): Promise<unknown> => ask(url + path, { method: "POST", body: JSON.stringify(body) });
    await post("/v3/auth/user/add", { name: "root", password: "r" });
    await post("/v3/auth/user/grant", { user: "root", role: "root" });
    await post("/v3/auth/user/add", { name: "sluice", password: "s3cret" });
    await post("/v3/auth/role/add", { name: "sluice" });
    await post("/v3/auth/role/grant", { name: "sluice", perm: { permType: "READWRITE", key: base64("/sluice/"), range_end: base64("/sluice0") } });
    await post("/v3/auth/user/grant", { user: "sluice", role: "sluice" });
    await post("/v3/auth/enable", {});
    const isUnusable = (pattern: RegExp) => (error: unknown): boolean => isAppError(error, "LEASE_STORE_UNUSABLE") && pattern.test(error.message);
    const nobody = await openStore([url]);
    await assert.rejects(nobody.read(20_000), isUnusable(/user name is empty/));
    const wrong = await openStore([url], { user: "sluice", password: "guess" });
    await assert.rejects(wrong.read(20_000), isUnusable(/user sluice: .*authentication failed/));
    const elsewhere = await openStore([url], { user: "sluice", password: "s3cret", prefix: "/other" });
    await assert.rejects(elsewhere.read(20_000), isUnusable(/permission denied/));
    const store = await openStore([url], { user: "sluice", password: "s3cret" });
    const held = (await store.acquire(memberOf(1), options))!;
    const seen: (string | undefined)[] = [];
    const end = store.watch((now) => void seen.push(now?.holder.name), () => undefined);
    for (let round = 0; round < 4; round++) {
      await sleep(1_200);
      assert.equal(await store.renew(held, { ttlMs: 60_000, deadlineMs: 30_000 }), true);
    }
    await store.release(held, 30_000);
    while (seen.at(-1) !== undefined) await sleep(20);
    end();
    for (const one of [nobody, wrong, elsewhere, store]) await one.close();
  } finally {
    await server.end();
  }
});

const tlsFiles = (folder: string): Partial<EtcdSettings> => ({ ca: join(folder, "ca.pem"), cert: join(folder, "client.pem"), key: join(folder, "client.key") });

test("etcd: over TLS with certificates of both sides; a server that nobody has vouched for is not believed", { skip }, async () => {
  const [port, peer] = (await freePorts(2)) as [number, number];
  const url = `https://127.0.0.1:${port}`;
  const server: Server = new Server({
    command: (folder) => ["etcd", "--data-dir", join(folder, "data"), "--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", `http://127.0.0.1:${peer}`,
      "--initial-advertise-peer-urls", `http://127.0.0.1:${peer}`, "--initial-cluster", `default=http://127.0.0.1:${peer}`, "--logger", "zap",
      "--cert-file", join(folder, "server.pem"), "--key-file", join(folder, "server.key"), "--trusted-ca-file", join(folder, "ca.pem"), "--client-cert-auth"],
    isReady: async () => {
      const store = await openStore([url], tlsFiles(server.folder));
      return store.read(1_000).then(() => true, () => false).finally(() => store.close());
    },
  });
  try {
    makeCertificates(server.folder);
    await server.start();
    const store = await openStore([url], tlsFiles(server.folder));
    const held = (await store.acquire(memberOf(1), options))!;
    assert.equal(await store.renew(held, { ttlMs: 60_000, deadlineMs: 30_000 }), true);
    const refuses = async (more: Partial<EtcdSettings>, pattern: RegExp): Promise<void> => {
      const other = await openStore([url], more);
      // On a busy machine the handshake may not have come to its end in that time.
      for (let message = ""; !pattern.test(message);) {
        await assert.rejects(other.read(1_500), (error) => isAppError(error, "LEASE_STORE_UNAVAILABLE") && (message = error.message) !== "");
      }
      await other.close();
    };
    await refuses({}, /certificate/);
    await refuses({ ca: join(server.folder, "ca.pem") }, /certificate|handshake|ECONNRESET|socket hang up|closed/i);
    await assert.rejects(openStore([url], { ca: "/nonexistent/ca.pem" }), (error) => isAppError(error, "LEASE_STORE_UNUSABLE") && /\/nonexistent\/ca.pem/.test(error.message));
    await store.release(held, 30_000);
    await store.close();
  } finally {
    await server.end();
  }
});

function makeCertificates(folder: string): void {
  const run = (...args: string[]): void => void execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
  run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test-ca");
  for (const name of ["server", "client"]) {
    writeFileSync(join(folder, `${name}.ext`), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n");
    run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`);
    run("x509", "-req", "-in", `${name}.csr`, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", `${name}.pem`, "-days", "2", "-extfile", `${name}.ext`);
  }
}

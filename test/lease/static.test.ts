/**
 * The static lease: the contract, as far as there is anything to keep, and what it refuses.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { StaticStore } from "../../node/lease/static.ts";
import { openLeaseStore } from "../../node/lease/open.ts";
import { isAppError } from "../../proto/errors.ts";
import { contract } from "./contract.ts";
import { memberOf } from "./members.ts";

const nothing = "the configuration decides, nothing is stored";

contract({
  name: "static", ttlMs: 100,
  cannot: { race: nothing, expire: nothing, transfer: nothing, members: nothing, clusterId: nothing, outage: nothing, slow: nothing, garbage: nothing, forget: nothing, epochs: "the epoch is the node's own: one higher after the machine went down without a clean stop" },
  async start() {
    const settings = { type: "static", primary: "10.0.0.1:7001", ttlMs: 10_000, candidate: true, promote: "auto" } as const;
    return { settings, open: () => openLeaseStore(settings, { epoch: () => 1 }), close: async () => {} };
  },
});

test("static: only the node that the configuration names acquires, with its own epoch or a greater one that it has seen", async () => {
  const store = new StaticStore({ primary: "10.0.0.1:7001", epoch: () => 4 });
  const options = { ttlMs: 1_000, minEpoch: 1, deadlineMs: 1_000 };
  assert.equal(await store.acquire(memberOf(2), options), undefined);
  assert.equal((await store.acquire(memberOf(1), options))?.epoch, 4);
  const other = new StaticStore({ primary: "10.0.0.1:7001", epoch: () => 4 });
  assert.equal((await other.acquire(memberOf(1), { ...options, minEpoch: 9 }))?.epoch, 9);
});

test("static: a handoff is refused in so many words", async () => {
  const store = new StaticStore({ primary: "10.0.0.1:7001", epoch: () => 1 });
  await assert.rejects(store.transfer(), (error) => isAppError(error, "HANDOFF_REFUSED") && error.message === "Cannot hand the lease over: the lease is static: the configuration names the primary");
  assert.deepEqual(await store.members(), []);
});

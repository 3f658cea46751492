/**
 * One of several processes that race for a lease. Arguments: the settings below `lease` as JSON, the node's number.
 *
 * Told "acquire", it tries once and answers what it got; told "release", it gives back what it holds.
 */
import { openLeaseStore } from "../../node/lease/open.ts";
import type { LeaseConfig } from "../../node/core/config.ts";
import type { Held } from "../../node/lease/lease.ts";
import { memberOf } from "./members.ts";

const [settings, number] = [JSON.parse(process.argv[2]!) as LeaseConfig, Number(process.argv[3])];
const self = memberOf(number);
const store = await openLeaseStore(settings, { epoch: () => 1 });
let held: Held | undefined;

process.on("message", (message: string) => {
  const work = message === "acquire"
    ? store.acquire(self, { ttlMs: 60_000, minEpoch: 1, deadlineMs: 30_000 }).then((got) => (held = got))
    : store.release(held!, 30_000).then(() => (held = undefined));
  work.then(
    () => process.send!({ held }),
    (error: Error) => process.send!({ error: `${error.message} ${String((error.cause as Error | undefined)?.stack ?? "")}` }),
  );
});
process.on("disconnect", () => process.exit(0));
// A first answer from the store, so that the race is not decided by who connects first.
await store.read(30_000);
process.send!({ ready: true });

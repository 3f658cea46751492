/**
 * Runs the real guardian with a stand-in for mounting (a descriptor of /dev/null) and for engine and proxy. Arguments: the configuration as
 * JSON. Prints the guardian's log to standard output.
 */
import { mkdirSync, openSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Config } from "../../node/core/config.ts";
import { takeDataLock } from "../../node/guardian/data-lock.ts";
import { runGuardian } from "../../node/guardian/guardian.ts";
import { createLogger } from "../../node/log.ts";

const config = JSON.parse(process.argv[2]!) as Config;
mkdirSync(config.data, { recursive: true });
const lock = await takeDataLock(config.data, { create: true });
if (lock === undefined || "heldBy" in lock) {
  process.stderr.write(`held by ${lock?.heldBy}\n`);
  process.exit(3);
}
const log = await createLogger(config.log, { node: config.node.name, part: "guardian" });
const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
process.exitCode = await runGuardian(config, {
  mounting: {
    mount: () => openSync("/dev/null", "r+"),
    unmount: () => (log.info({}, "unmount"), "unmounted"),
    inspect: () => "free", trustedPath: (folder, path) => `${folder}/${path}`, device: () => undefined, holders: () => [], clean: () => {},
  },
  log, lock, driver: { driver: "passthrough", reason: "a stand-in" }, engineEntry: here("./fake-engine.ts"), proxyEntry: here("./fake-proxy.ts"),
});

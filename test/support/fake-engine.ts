/**
 * Stands in for the engine in tests of the guardian: keeps to the messages, serves no mount. Each start appends a line of JSON to the file
 * FAKE_JOURNAL. FAKE_MODE: "die" ends at once after init, "fatal" says so first, "stubborn" never says that it has stopped.
 */
import { appendFileSync, fstatSync } from "node:fs";
import { ENGINE_FDS, type EngineToGuardian, type GuardianToEngine } from "../../node/guardian/messages.ts";

const mode = process.env["FAKE_MODE"] ?? "";
const journal = process.env["FAKE_JOURNAL"]!;
const note = (fields: object): void => appendFileSync(journal, `${JSON.stringify({ pid: process.pid, ...fields })}\n`);
const tell = (message: EngineToGuardian): void => void process.send!(message);

process.on("disconnect", () => {
  note({ event: "disconnected" });
  process.exit(0);
});
process.on("message", (message: GuardianToEngine) => {
  note({ event: message.type, ...(message.type === "init" ? { resume: message.resume, node: message.config.node.name, guardian: message.guardianPid } : {}), ...(message.type === "fenced" ? { id: message.id, error: message.error } : {}) });
  switch (message.type) {
    case "init":
      // Both throw when the descriptor was not inherited.
      fstatSync(ENGINE_FDS.fuse);
      fstatSync(ENGINE_FDS.dataLock);
      if (mode === "die") process.exit(7);
      if (mode === "fatal") {
        process.send!({ type: "fatal", error: { code: "FOREIGN_CLUSTER", message: "Cannot follow x" } } satisfies EngineToGuardian, () => process.exit(1));
        break;
      }
      tell({ type: "serving" });
      tell({ type: "ready", role: "primary" });
      break;
    case "handOff":
      tell({ type: "handedOff" });
      break;
    case "stop":
      if (mode === "stubborn") break;
      process.send!({ type: "stopped" } satisfies EngineToGuardian, () => process.exit(0));
      break;
    case "fenced":
    case "proxyMetrics":
      break;
  }
});

/** Stands in for the proxy in tests of the guardian: notes its start and end in FAKE_JOURNAL and sends one set of metrics. */
import { appendFileSync } from "node:fs";

const note = (event: string): void => appendFileSync(process.env["FAKE_JOURNAL"]!, `${JSON.stringify({ pid: process.pid, event })}\n`);
// Before anything is noted: who waits for a note may send a signal at once.
process.on("SIGTERM", () => process.send!({ type: "leaving" }));
process.on("message", ({ followed }: { followed: boolean }) => {
  note(followed ? "proxy followed" : "proxy stopped");
  process.exit(0);
});
process.on("disconnect", () => process.exit(0));
const config = JSON.parse(process.env["SLUICE_PROXY_CONFIG"]!) as { engineSocket: string; target: string };
note(`proxy ${config.target} ${config.engineSocket.endsWith("/run/engine.sock")}`);
process.send!({ type: "listening", address: "-" });
process.send!({ type: "metrics", metrics: { active: 1 } });
// The guardian kills a proxy that is silent for long.
setInterval(() => process.send!({ type: "listening", address: "-" }), 1_000);

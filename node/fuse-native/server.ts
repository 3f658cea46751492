/**
 * The process that serves a mount with the driver fuse-native: started by the guardian, talked to by the engine over a socket.
 *
 * Always holds: it never waits for the engine but by a deferred answer, and calls nothing of the mount itself. It ends with its guardian.
 * The mount lives as long as this process: an engine may be started again under it, but when this process dies every program gets ENOTCONN.
 */
import { databaseSettings, type DatabaseRule } from "../core/config.ts";
import { loadPackage, mount } from "./binding.ts";
import { EngineLink } from "./engine-link.ts";
import { Guard } from "./guard.ts";
import { Tree } from "./operations.ts";
import type { FromEngine } from "./protocol.ts";

/** The guardian's one message, over Node's IPC channel. */
export interface ServerInit {
  readonly type: "init";
  readonly mountPoint: string;
  readonly filesDir: string;
  /** Where the engine connects. */
  readonly socket: string;
  readonly databases: readonly DatabaseRule[];
  /** Whether other users than this one may use the mount. */
  readonly allowOther: boolean;
}

/** What the guardian hears. */
export type FromServerProcess = { readonly type: "mounted" } | { readonly type: "failed"; readonly reason: string };

/** Names and attributes are asked for each time, because the engine changes files behind the kernel's back; inode numbers are the backing files'. */
const OPTIONS = "default_permissions,big_writes,use_ino,entry_timeout=0,negative_timeout=0,attr_timeout=0,fsname=sluice,subtype=sluice";
const COUNTS_MS = 1_000;

if (process.argv[2] === "--check") {
  loadPackage();
  process.exit(0);
}

process.umask(0);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
// SIGKILL, because a thread of libfuse may wait for an answer for ever. The mount is dead then, and the next start clears it away.
process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
process.once("message", (message) => {
  serve(message as ServerInit).then(() => say({ type: "mounted" }), (error: unknown) => {
    say({ type: "failed", reason: error instanceof Error ? error.message : String(error) });
  });
});

function say(message: FromServerProcess): void {
  process.send?.(message);
}

async function serve(init: ServerInit): Promise<void> {
  const guard = new Guard((name) => databaseSettings(init, name).replicate);
  const link = new EngineLink((message) => obey(message, { guard, link, tree }));
  const tree = new Tree(init.filesDir, guard, link);
  await link.listen(init.socket);
  await mount(init.mountPoint, tree, `${init.allowOther ? "allow_other," : ""}${OPTIONS}`);
  let told = "";
  setInterval(() => {
    const counts = JSON.stringify(tree.counts);
    if (counts !== told) link.send({ kind: "counts", counts: tree.counts });
    told = counts;
  }, COUNTS_MS).unref();
}

function obey(message: FromEngine, { guard, link, tree }: { guard: Guard; link: EngineLink; tree: Tree }): void {
  switch (message.kind) {
    case "role": guard.role = message.role; return;
    case "gate": guard.gateOpen = true; return;
    case "hide":
      guard.hidden.add(message.path);
      link.send({ kind: "answer", id: message.id, value: 0 });
      return;
    case "reveal": guard.hidden.delete(message.path); return;
    case "names": guard.names = new Set(message.names); return;
    case "entry": {
      const ghost = tree.replacedByEngine(message.path);
      if (ghost !== undefined) link.send({ kind: "detach", path: message.path, ghost });
      return;
    }
    case "count":
      link.send({ kind: "answer", id: message.id, value: tree.handles.at(message.path).filter(({ own }) => !own).length });
      return;
    case "reply": return;
  }
}

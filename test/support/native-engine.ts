/**
 * The engine's side of a fuse-native mount with trivial hooks, as a process of its own: a test that made a call on the mount which asks
 * its own process would wait for itself.
 *
 * Protocol as fuse-server.ts: options in argv[2]; over IPC {ready}, then {id, method, args} is answered by {id, value}; each hook is told as {hook, args}.
 * What it cannot show: how a store would use the hooks.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { AppError } from "../../proto/errors.ts";
import { connectNative, type NativeSession } from "../../node/fuse-native/session.ts";
import type { MountHooks } from "../../node/core/mount-hooks.ts";

export interface NativeEngineOptions {
  readonly socket: string;
  readonly mountPoint: string;
  readonly filesDir: string;
  readonly role: "primary" | "follower";
  readonly gate: "open" | "closed";
  /** Virtual files and their content. */
  readonly virtual: Record<string, string>;
  /** Paths whose change the hooks refuse with NOT_PRIMARY. */
  readonly refuse: readonly string[];
  /** Milliseconds that every `before…` hook takes. */
  readonly hookDelay: number;
}

if (process.send !== undefined && process.argv[2] !== undefined) {
  process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
  await serve(JSON.parse(process.argv[2]) as NativeEngineOptions);
}

async function serve(options: NativeEngineOptions): Promise<void> {
  const send = (message: unknown): void => void (process.connected && process.send?.(message));
  const tell = (hook: string, ...args: unknown[]): void => send({ hook, args });
  const before = async (hook: string, path: string, ...rest: unknown[]): Promise<void> => {
    tell(hook, path, ...rest);
    if (options.refuse.includes(path)) throw new AppError("NOT_PRIMARY", [path, "nobody"]);
    if (options.hookDelay > 0) await sleep(options.hookDelay);
  };
  const hooks: MountHooks = {
    beforeTruncate: (path, size) => before("beforeTruncate", path, size),
    afterTruncate: (path, size) => tell("afterTruncate", path, size),
    beforeUnlink: (path) => before("beforeUnlink", path),
    afterUnlink: (path) => tell("afterUnlink", path),
    beforeRename: (from, to) => before("beforeRename", from, to),
    afterRename: (from, to) => tell("afterRename", from, to),
    beforeCreate: (path) => before("beforeCreate", path),
    afterCreate: (path) => tell("afterCreate", path),
    afterRawWrite: (path) => tell("afterRawWrite", path),
    afterLastClose: (path) => tell("afterLastClose", path),
    walCommit: async (_path, _commit, write) => write(),
    walSyncs: () => undefined,
    journalZeroed: (path, header) => before("journalZeroed", path, header?.toString("hex")),
    readVirtual: (path) => (options.virtual[path] === undefined ? undefined : Buffer.from(options.virtual[path])),
    report: (message, error) => tell("report", message, error instanceof Error ? error.stack : String(error)),
  };
  const session = await connectNative({ ...options, hooks });
  session.setVirtualNames(new Set(Object.keys(options.virtual)));
  session.setRole(options.role);
  if (options.gate === "open") session.openGate();
  process.on("message", (message: { id: number; method: Exclude<keyof NativeSession, "ended">; args: unknown[] }) => {
    const method = session[message.method] as (...args: unknown[]) => unknown;
    void Promise.resolve(method.apply(session, message.args)).then((value) => send({ id: message.id, value }));
  });
  // An answer to this question has passed everything that was sent before it.
  await session.openCount("");
  send({ ready: true });
}

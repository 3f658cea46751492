/**
 * A mount served with trivial hooks, as a process of its own: a test that touched a mount that it serves itself would wait for itself.
 *
 * Protocol: the options come as JSON in argv[2]; descriptor 3 is the mount's /dev/fuse. Over IPC it sends {ready} and then answers each
 * {id, method, args} of MountControl with {id, value}, and reports each hook as {hook, args}. "stop" ends the thread and then the process.
 * What it cannot show: how a store would use the hooks.
 */
import { constants as os } from "node:os";
import { startFuse, type FuseSession } from "../../node/fuse/session.ts";
import { AppError } from "../../proto/errors.ts";
import type { MountHooks } from "../../node/core/mount-hooks.ts";

export interface ServerOptions {
  readonly mountPoint: string;
  readonly filesDir: string;
  readonly runDir: string;
  readonly resume: boolean;
  readonly trusted: readonly number[];
  readonly gate: "open" | "closed";
  readonly role: "primary" | "follower";
  /** Virtual files and their content. */
  readonly virtual: Record<string, string>;
  /** Paths whose change is refused with NOT_PRIMARY. */
  readonly refuse: readonly string[];
  /** Milliseconds every `before…` hook takes. */
  readonly hookDelay: number;
}

const die = (): void => { process.kill(process.pid, os.signals.SIGKILL); };

if (process.send !== undefined && process.argv[2] !== undefined) {
  // A plain exit would wait for the FUSE thread, which waits for requests. And when the parent is gone without a word, so is the test.
  process.on("uncaughtException", (error) => { console.error(error); die(); });
  process.on("disconnect", die);
  await serve(JSON.parse(process.argv[2]) as ServerOptions);
}

async function serve(options: ServerOptions): Promise<void> {
  const send = (message: unknown): void => { if (process.connected) process.send?.(message); };
  const tell = (hook: string, ...args: unknown[]): void => { send({ hook, args }); };
  const before = (hook: string, path: string, ...rest: unknown[]): void | Promise<void> => {
    tell(hook, path, ...rest);
    if (options.refuse.includes(path)) throw new AppError("NOT_PRIMARY", [path, "nobody"]);
    return options.hookDelay === 0 ? undefined : new Promise((resolve) => setTimeout(resolve, options.hookDelay));
  };
  const hooks: MountHooks = {
    beforeTruncate: (path, size) => before("beforeTruncate", path, size),
    afterTruncate: (path, size) => { tell("afterTruncate", path, size); },
    beforeUnlink: (path) => before("beforeUnlink", path),
    afterUnlink: (path) => { tell("afterUnlink", path); },
    beforeRename: (from, to) => before("beforeRename", from, to),
    afterRename: (from, to) => { tell("afterRename", from, to); },
    beforeCreate: (path) => before("beforeCreate", path),
    afterCreate: (path) => { tell("afterCreate", path); },
    afterRawWrite: (path) => { tell("afterRawWrite", path); },
    afterLastClose: (path) => { tell("afterLastClose", path); },
    walCommit: async (_path, _commit, write) => write(),
    walSyncs: () => undefined,
    journalZeroed: (path, header) => before("journalZeroed", path, header?.toString("hex")),
    readVirtual: (path) => {
      const content = options.virtual[path];
      return content === undefined ? undefined : Promise.resolve(Buffer.from(content));
    },
    report: (message, error) => { tell("report", message, error instanceof Error ? error.stack : String(error)); },
  };
  const session = await startFuse({ fuseFd: 3, mountPoint: options.mountPoint, filesDir: options.filesDir, runDir: options.runDir, hooks, resume: options.resume, trusted: [process.pid, ...options.trusted] });
  session.setVirtualNames(new Set(Object.keys(options.virtual)));
  session.setRole(options.role);
  if (options.gate === "open") session.openGate();
  process.on("message", (message: { id: number; method: keyof FuseSession; args: unknown[] }) => {
    if (message.method === "ended") return;
    const method = session[message.method] as (...args: unknown[]) => unknown;
    void Promise.resolve(method.apply(session, message.args)).then((value) => { send({ id: message.id, value }); });
  });
  void session.ended.then(() => { process.exit(0); });
  send({ ready: true });
}

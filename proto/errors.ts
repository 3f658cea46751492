/**
 * Every error that Sluice raises, one row each: the faces that it shows to gRPC, to HTTP, to an application's system call and to a person.
 *
 * Always holds: nobody throws a bare Error for something that can happen in the world; the sentence names the thing and the reason, the
 * hint names the remedy. Programmer errors are asserts (node/core/assert.ts) and are not in this table.
 */
import { constants as os } from "node:os";

interface ErrorRow {
  /** Canonical gRPC status name. */
  readonly grpc: "INVALID_ARGUMENT" | "NOT_FOUND" | "ALREADY_EXISTS" | "FAILED_PRECONDITION" | "ABORTED" | "OUT_OF_RANGE" | "UNIMPLEMENTED" | "INTERNAL" | "UNAVAILABLE" | "DATA_LOSS" | "RESOURCE_EXHAUSTED" | "DEADLINE_EXCEEDED" | "PERMISSION_DENIED" | "UNAUTHENTICATED";
  readonly http: number;
  /** What an application's system call sees. */
  readonly errno: keyof typeof os.errno;
  /** `%s` are filled in order. */
  readonly sentence: string;
  readonly hint: string;
}

const row = (grpc: ErrorRow["grpc"], http: number, errno: ErrorRow["errno"], sentence: string, hint: string): ErrorRow => ({ grpc, http, errno, sentence, hint });

// Columns: gRPC, HTTP, errno, sentence, hint. Kept sorted by code; a test holds this table and proto/README.md together.
export const ERRORS = {
  CONFIG_INVALID: row("INVALID_ARGUMENT", 400, "EINVAL", "Cannot use configuration %s: %s", "Correct the key that is named and run `sluice check-config`."),
  CORRUPT_FILE: row("DATA_LOSS", 500, "EIO", 'Cannot use "%s": %s', "Nothing was deleted. `sluice verify` names every file that is wrong, and the command that mends it."),
  DATABASE_NOT_FOUND: row("NOT_FOUND", 404, "ENOENT", 'Cannot find database "%s"', "`sluice status` lists the databases of this node."),
  DIVERGED_NOT_FOUND: row("NOT_FOUND", 404, "ENOENT", 'Cannot find diverged history "%s"', "`sluice diverged list` shows what there is."),
  DRIVER_UNAVAILABLE: row("FAILED_PRECONDITION", 500, "ENOSYS", "Cannot mount with driver %s: %s", "Choose another `fuse.driver`, or provide what is missing."),
  ELECTION_LACKS: row("FAILED_PRECONDITION", 503, "EAGAIN", "Cannot become the primary: %s", "Start the nodes that are named, or let this machine reach them. `sluice promote --force` goes on without them."),
  FOREIGN_CLUSTER: row("FAILED_PRECONDITION", 409, "EPERM", "Cannot follow %s: it belongs to cluster %s, this node to cluster %s", "Point `lease.primary` at a node of this cluster, or give this node an empty data folder."),
  FOREIGN_VERSION: row("FAILED_PRECONDITION", 409, "EPROTO", "Cannot talk to %s: it speaks protocol version %s, this node %s", "Run the same release of Sluice on all nodes."),
  HANDOFF_REFUSED: row("FAILED_PRECONDITION", 409, "EPERM", "Cannot hand the lease over: %s", "`sluice status` shows who is the primary and who follows; the lease moves only with `lease.type` local, etcd or consul, to a candidate that is connected."),
  INVALID_MESSAGE: row("INVALID_ARGUMENT", 400, "EPROTO", "Cannot use message %s: %s", "The connection is closed and made anew; if it repeats, the nodes run different releases."),
  LEASE_STORE_CORRUPT: row("DATA_LOSS", 503, "EIO", "Cannot use the lease store %s: %s; %s", "Nothing was removed. The node follows, or waits, until the lease can be read."),
  LEASE_STORE_UNAVAILABLE: row("UNAVAILABLE", 503, "EAGAIN", "Cannot reach the lease store %s: %s", "The node goes on trying. Check that the store runs and that this machine reaches it."),
  LEASE_STORE_UNUSABLE: row("FAILED_PRECONDITION", 503, "EPERM", "Cannot use the lease store %s: %s", "Correct the settings below `lease`, or the store's, and start the node again."),
  LOG_GONE: row("OUT_OF_RANGE", 410, "ENODATA", 'Cannot send transactions of "%s" from %s: the log begins at %s', "The follower takes a snapshot by itself. Raise `retention` if this repeats."),
  MOUNT_BUSY: row("FAILED_PRECONDITION", 409, "EBUSY", "Cannot mount at %s: %s", "End the programs that are named, then start the node again."),
  NODE_UNAVAILABLE: row("UNAVAILABLE", 503, "EAGAIN", "Cannot reach %s: %s", "The node goes on trying. Check the address and that the other node runs."),
  NOT_A_DATABASE: row("INVALID_ARGUMENT", 400, "EINVAL", 'Cannot import "%s": %s', "Give a SQLite database file that `PRAGMA integrity_check` accepts."),
  NOT_PRIMARY: row("FAILED_PRECONDITION", 503, "EROFS", 'Cannot write to "%s" here: this node follows %s', "Send writes to the primary; `.primary` in the mount names it."),
  POSITION_MISMATCH: row("ABORTED", 409, "EIO", 'Cannot apply %s to "%s": current position is %s', "The follower takes a snapshot by itself."),
  REPAIR_NO_SPACE: row("RESOURCE_EXHAUSTED", 507, "ENOSPC", 'Cannot repair "%s" from a peer: %s', "Free space on that disk (what lies in `aside/` and `diverged/` may be moved elsewhere), then run the command again."),
  REPAIR_REFUSED: row("FAILED_PRECONDITION", 409, "EPERM", 'Cannot repair "%s" from a peer: %s', "A database is taken anew on a node that follows and has a stream from the primary; `sluice status` shows both."),
  STALE_EPOCH: row("FAILED_PRECONDITION", 409, "ESTALE", "Cannot follow %s: it is in epoch %s, and this node has seen epoch %s", "Another node became the primary later. Follow that one, or make a node that has the newest epoch the primary."),
  STORAGE_FULL: row("RESOURCE_EXHAUSTED", 507, "ENOSPC", "Cannot write %s: no space left on the device", "Free space below the data folder; the node goes on by itself."),
  SYNC_REFUSED: row("ABORTED", 503, "EIO", 'Cannot commit to "%s" with durability sync: %s', "The transaction was rolled back. Bring followers back, or lower `syncReplicas`; see `sluice status`."),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

/** An error of the table. `message` is the finished sentence; `hint` the remedy. Compare by `code`, never by class. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;

  constructor(code: ErrorCode, args: readonly (string | number)[], options?: ErrorOptions) {
    let next = 0;
    super(ERRORS[code].sentence.replace(/%s/g, () => String(args[next++] ?? "?")), options);
    this.name = "AppError";
    this.code = code;
    this.hint = ERRORS[code].hint;
  }

  get row(): ErrorRow {
    return ERRORS[this.code];
  }
}

export function isAppError(error: unknown, code?: ErrorCode): error is AppError {
  return error instanceof AppError && (code === undefined || error.code === code);
}

/** The negative errno a FUSE reply carries for anything thrown: a table row, a Node system error, or EIO. */
export function errnoOf(error: unknown): number {
  if (error instanceof AppError) return -os.errno[error.row.errno];
  const errno = (error as { errno?: unknown } | null)?.errno;
  return typeof errno === "number" && errno !== 0 ? -Math.abs(errno) : -os.errno.EIO;
}

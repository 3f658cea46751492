/**
 * The one table of FUSE requests: number, kernel name, least size of the body after the header, whether it is answered, and by whom.
 *
 * Always holds: a request whose body is shorter than `size` is refused with EIO before any handler looks at it; an opcode that is not in
 * the table is answered ENOSYS, which makes the kernel fall back or stop asking. `by` says who decides: the thread alone, the main thread
 * (hooks), or either, by role and state. `gate` marks what is served even while the gate is closed, because it only gives back or ends
 * things and the kernel may wait for it.
 */
import * as abi from "./abi.ts";

export interface Opcode {
  readonly number: number;
  readonly name: string;
  readonly size: number;
  readonly replies: boolean;
  readonly by: "thread" | "main" | "either";
  readonly gate: boolean;
}

const op = (number: number, name: string, size: number, by: Opcode["by"] = "thread", options: { silent?: boolean; gate?: boolean } = {}): Opcode => ({
  number, name, size, by, replies: options.silent !== true, gate: options.gate === true,
});

const silent = { silent: true, gate: true } as const;
const always = { gate: true } as const;

export const OPCODES: readonly Opcode[] = [
  op(1, "LOOKUP", 2),
  op(2, "FORGET", abi.fuse_forget_in.SIZE, "thread", silent),
  op(3, "GETATTR", abi.fuse_getattr_in.SIZE),
  op(4, "SETATTR", abi.fuse_setattr_in.SIZE, "either"),
  op(5, "READLINK", 0),
  op(6, "SYMLINK", 4, "either"),
  op(8, "MKNOD", abi.fuse_mknod_in.SIZE + 2, "either"),
  op(9, "MKDIR", abi.fuse_mkdir_in.SIZE + 2, "either"),
  op(10, "UNLINK", 2, "main"),
  op(11, "RMDIR", 2, "either"),
  op(12, "RENAME", abi.fuse_rename_in.SIZE + 4, "main"),
  op(13, "LINK", 0),
  op(14, "OPEN", abi.fuse_open_in.SIZE, "either"),
  op(15, "READ", abi.fuse_read_in.SIZE, "either"),
  op(16, "WRITE", abi.fuse_write_in.SIZE),
  op(17, "STATFS", 0, "thread", always),
  op(18, "RELEASE", abi.fuse_release_in.SIZE, "thread", always),
  op(20, "FSYNC", abi.fuse_fsync_in.SIZE, "either"),
  op(25, "FLUSH", 0, "thread", always),
  op(26, "INIT", abi.fuse_init_in.SIZE, "thread", always),
  op(27, "OPENDIR", abi.fuse_open_in.SIZE),
  op(28, "READDIR", abi.fuse_read_in.SIZE),
  op(29, "RELEASEDIR", abi.fuse_release_in.SIZE, "thread", always),
  op(30, "FSYNCDIR", abi.fuse_fsync_in.SIZE),
  op(35, "CREATE", abi.fuse_create_in.SIZE + 2, "either"),
  op(36, "INTERRUPT", abi.fuse_interrupt_in.SIZE, "thread", silent),
  op(38, "DESTROY", 0, "thread", always),
  op(abi.FUSE_NOTIFY_REPLY, "NOTIFY_REPLY", 0, "thread", silent),
  op(42, "BATCH_FORGET", abi.fuse_batch_forget_in.SIZE, "thread", silent),
  op(43, "FALLOCATE", 0),
  op(45, "RENAME2", abi.fuse_rename2_in.SIZE + 4, "main"),
];

/** Room for one counter per opcode; everything above counts as the last one. */
export const OPCODE_LIMIT = 64;

/** The table by number. */
export const opcodeByNumber: readonly (Opcode | undefined)[] = Array.from({ length: OPCODE_LIMIT }, (_, number) => OPCODES.find((row) => row.number === number));

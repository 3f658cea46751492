/**
 * Which mount driver this host can run, found out by doing it: a mount of our own in a temporary folder, and one backing file.
 *
 * Always holds: the probe leaves nothing behind and needs no server thread, since it answers the one INIT request itself. It runs in the
 * main thread of the guardian or of a command.
 */
import * as fs from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { backingClose, backingOpen } from "../native/libc.ts";
import * as abi from "./abi.ts";
import { mountFuse, unmount } from "./mount.ts";
import { readU64, writeReplyHeader } from "./wire.ts";

export interface DriverChoice {
  readonly driver: "passthrough" | "fuse-native";
  /** Why, as a clause: what works, or what is missing for passthrough. */
  readonly reason: string;
}

const CAP_SYS_ADMIN = 21n;

/** `folder` lies on the file system of the data: whether files of it may be passed through depends on that. */
export function probeDriver(folder: string): DriverChoice {
  const missing = findMissing() ?? tryBackingFile(folder);
  if (missing !== undefined) return { driver: "fuse-native", reason: missing };
  return { driver: "passthrough", reason: `kernel ${release()} passes files through to ${folder}` };
}

/** Whether a kernel release such as "6.18.44-x" is at least 6.12, the first with all known passthrough repairs. */
export function isKernelNewEnough(kernel: string): boolean {
  const [major = 0, minor = 0] = kernel.split(/[.-]/).map(Number);
  return major > 6 || (major === 6 && minor >= 12);
}

function findMissing(): string | undefined {
  if (process.platform !== "linux") return `this is ${process.platform}, not Linux`;
  if (!isKernelNewEnough(release())) return `kernel ${release()} is older than 6.12`;
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(fs.readFileSync("/proc/self/status", "latin1"))?.[1] ?? "0";
  if (((BigInt(`0x${effective}`) >> CAP_SYS_ADMIN) & 1n) === 0n) return "CAP_SYS_ADMIN is missing";
  if (!/^\s*0\s+0\s+4294967295\s*$/.test(fs.readFileSync("/proc/self/uid_map", "latin1"))) return "this is not the initial user namespace";
  try {
    fs.closeSync(fs.openSync("/dev/fuse", "r+"));
  } catch (error) {
    return `/dev/fuse cannot be opened (${codeOf(error)})`;
  }
  return undefined;
}

function tryBackingFile(folder: string): string | undefined {
  const place = fs.mkdtempSync(join(folder, ".probe-"));
  const mountPoint = join(place, "mount");
  fs.mkdirSync(mountPoint);
  let fuseFd = -1;
  try {
    fuseFd = mountFuse(mountPoint);
    const offered = answerInit(fuseFd);
    if ((offered & abi.FUSE2_PASSTHROUGH) === 0) return "the kernel was built without FUSE passthrough";
    const file = fs.openSync(join(place, "file"), "w+");
    try {
      backingClose(fuseFd, backingOpen(fuseFd, file));
    } finally {
      fs.closeSync(file);
    }
    return undefined;
  } catch (error) {
    if (codeOf(error) === "ELOOP") return `the file system of ${folder} is itself stacked (overlayfs?)`;
    return error instanceof Error ? error.message : String(error);
  } finally {
    if (fuseFd >= 0) {
      unmount(mountPoint);
      fs.closeSync(fuseFd);
    }
    fs.rmSync(place, { recursive: true, force: true });
  }
}

/** Reads INIT, which the kernel queues at mount, and accepts passthrough; returns the second word of the kernel's flags. */
function answerInit(fuseFd: number): number {
  const request = Buffer.alloc(16384);
  fs.readSync(fuseFd, request, 0, request.length, null);
  const body = request.subarray(abi.fuse_in_header.SIZE);
  const offered = body.readUInt32LE(abi.fuse_init_in.flags2);
  const reply = Buffer.alloc(abi.fuse_out_header.SIZE + abi.fuse_init_out.SIZE);
  writeReplyHeader(reply, BigInt(readU64(request, abi.fuse_in_header.unique)), abi.fuse_init_out.SIZE, 0);
  const out = reply.subarray(abi.fuse_out_header.SIZE);
  out.writeUInt32LE(abi.FUSE_KERNEL_VERSION, abi.fuse_init_out.major);
  out.writeUInt32LE(Math.min(body.readUInt32LE(abi.fuse_init_in.minor), abi.FUSE_KERNEL_MINOR_VERSION), abi.fuse_init_out.minor);
  out.writeUInt32LE(abi.FUSE_INIT_EXT, abi.fuse_init_out.flags);
  out.writeUInt32LE(abi.FUSE2_PASSTHROUGH, abi.fuse_init_out.flags2);
  out.writeUInt32LE(65536, abi.fuse_init_out.max_write);
  out.writeUInt32LE(1, abi.fuse_init_out.time_gran);
  out.writeUInt32LE(1, abi.fuse_init_out.max_stack_depth);
  fs.writeSync(fuseFd, reply);
  return offered;
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}

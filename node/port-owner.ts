/**
 * Which program listens on a TCP port: an operator who reads "port in use" asks that next.
 *
 * Always holds: a look at /proc, nothing else; undefined when the program belongs to somebody else or has just gone.
 */
import { readFileSync, readdirSync, readlinkSync } from "node:fs";

/** State 0A is LISTEN; the local address ends in the port as four hex digits; field 9 is the inode (proc_pid_net(5)). */
export function listenerOf(port: number): { readonly pid: number; readonly command: string } | undefined {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const inodes = new Set<string>();
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    for (const line of read(table).split("\n").slice(1)) {
      const fields = line.trim().split(/\s+/);
      if (fields[3] === "0A" && fields[1]?.endsWith(suffix) === true) inodes.add(`socket:[${fields[9]!}]`);
    }
  }
  if (inodes.size === 0) return undefined;
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      for (const fd of readdirSync(`/proc/${name}/fd`)) {
        if (inodes.has(readlinkSync(`/proc/${name}/fd/${fd}`))) return { pid: Number(name), command: read(`/proc/${name}/comm`).trim() || "?" };
      }
    } catch {
      // Not ours to look at, or gone.
    }
  }
  return undefined;
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

/**
 * A TCP socket with an address of its own, for a child process to listen and accept on.
 *
 * Always holds: this process never accepts, so no connection can get lost in it; as long as it has the socket open, connections that come while no
 * child accepts wait in the kernel's queue instead of being refused. Children get it only where it is given to them (close-on-exec).
 */
import { closeSync } from "node:fs";
import { isIPv6 } from "node:net";
import { networkInterfaces } from "node:os";
import { libc, systemError } from "./libc.ts";

const cSocket = libc.func("int socket(int, int, int)") as (family: number, type: number, protocol: number) => number;
const cBind = libc.func("int bind(int, const void*, unsigned int)") as (fd: number, address: Buffer, length: number) => number;
const cSetsockopt = libc.func("int setsockopt(int, int, int, const void*, unsigned int)") as (fd: number, level: number, option: number, value: Buffer, length: number) => number;
const cInetPton = libc.func("int inet_pton(int, const char*, void*)") as (family: number, text: string, address: Buffer) => number;

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;

/**
 * A socket bound to an address (IPv4 or IPv6 as text, `::` takes both) and a port, not listening yet: the child's listen(2) opens it, and it stays open.
 * Throws a SystemError, EADDRINUSE for instance. The caller closes the descriptor.
 */
export function bindTcp(address: string, port: number): number {
  const family = isIPv6(address) ? AF_INET6 : AF_INET;
  const where = family === AF_INET6 ? `[${address}]:${port}` : `${address}:${port}`;
  const fd = cSocket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw systemError("socket", where);
  try {
    const on = Buffer.alloc(4);
    on.writeInt32LE(1);
    // As every server does: connections of an earlier one that are still in TIME_WAIT do not keep the port.
    if (cSetsockopt(fd, SOL_SOCKET, SO_REUSEADDR, on, on.length) !== 0) throw systemError("setsockopt", where);
    const name = socketAddress(family, address, port);
    if (cBind(fd, name, name.length) !== 0) throw systemError("bind", where);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** sockaddr_in: family u16@0, port u16 big-endian@2, address@4, 16 bytes; sockaddr_in6: family, port, flow u32@4, address@8, scope u32@24, 28 bytes. */
function socketAddress(family: number, address: string, port: number): Buffer {
  const result = Buffer.alloc(family === AF_INET6 ? 28 : 16);
  result.writeUInt16LE(family, 0);
  result.writeUInt16BE(port, 2);
  // A link-local address says its interface: fe80::1%eth0.
  const [text, zone] = address.split("%") as [string, string | undefined];
  if (cInetPton(family, text, result.subarray(family === AF_INET6 ? 8 : 4)) !== 1) throw Object.assign(new Error(`EINVAL: not an address, inet_pton '${address}'`), { code: "EINVAL" });
  const scope = zone === undefined ? undefined : networkInterfaces()[zone]?.find((entry) => entry.family === "IPv6");
  if (scope?.family === "IPv6") result.writeUInt32LE(scope.scopeid ?? 0, 24);
  return result;
}

/**
 * The FUSE thread: reads requests from /dev/fuse, one at a time, and answers them or hands them to the main thread.
 *
 * Always holds: it blocks only in read(2) on the device and in calls on backing files, never for the main thread. It ends when the mount is
 * gone or when it is told to stop. It is a Worker of the engine and shares its descriptors; it never loads koffi, which must not run in
 * two threads of a process.
 *
 * A Worker that blocks in read(2) cannot be terminated, and process.exit() would wait for it for ever. The main thread therefore wakes it
 * with a request of the kernel's own (see notify.ts) after it has posted "stop"; SIGKILL is the only other way out.
 */
import * as fs from "node:fs";
import { constants as os } from "node:os";
import { parentPort, workerData } from "node:worker_threads";
import { assert } from "../core/assert.ts";
import { errnoOf } from "../../proto/errors.ts";
import { HANDLERS } from "./handlers.ts";
import { SHARED_BUSY, SHARED_REQUESTS, type ThreadOptions } from "./messages.ts";
import { OPCODE_LIMIT, opcodeByNumber } from "./opcodes.ts";
import { MAX_WRITE, Server } from "./server.ts";
import { Request } from "./wire.ts";

assert(parentPort !== null, "runs as a Worker");
const main = parentPort;
const options = workerData as ThreadOptions;
const server = new Server(options, (message) => { main.postMessage(message); });
const buffer = Buffer.alloc(MAX_WRITE + 4096 * 2);
const request = new Request(buffer);

// Loaded only where it is needed: the checksums bring memory of their own along.
if (options.databases.length > 0) {
  const { WalGates } = await import("./wal-gate.ts");
  server.gates = new WalGates();
}

// Otherwise INIT is still to come, also when an earlier engine died before it had answered it.
if (server.inodes.minor > 0) server.post({ kind: "ready", minor: server.inodes.minor, registered: server.inodes.registrations() });
while (!server.stopping && receive()) {
  server.drain();
  dispatch(request);
  runGranted();
  if (server.gateOpen) for (const parked of server.takeParked()) dispatch(parked);
}
server.post({ kind: "ended" });

/** Waits for one request; false when there will be no more. */
function receive(): boolean {
  Atomics.store(server.shared, SHARED_BUSY, 0);
  for (;;) {
    try {
      request.length = fs.readSync(options.fuseFd, buffer, 0, buffer.length, null);
      Atomics.store(server.shared, SHARED_BUSY, 1);
      return true;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      // The caller was killed before we read its request, or a signal came.
      if (code === "ENOENT" || code === "EINTR" || code === "EAGAIN") continue;
      // ENODEV: unmounted. ECONNABORTED: aborted through /sys/fs/fuse.
      if (code !== "ENODEV" && code !== "ECONNABORTED") server.report("Cannot read requests of the mount", error);
      return false;
    }
  }
}

function dispatch(request: Request, granted = false): boolean {
  const number = request.opcode;
  const opcode = opcodeByNumber[number];
  if (!granted) Atomics.add(server.shared, SHARED_REQUESTS + Math.min(number, OPCODE_LIMIT - 1), 1);
  if (opcode === undefined) {
    server.fail(request, -os.errno.ENOSYS);
    return false;
  }
  if (!server.gateOpen && !opcode.gate && !granted && !server.isTrusted(request) && !server.fillsCache(request)) {
    server.park(request);
    return false;
  }
  try {
    assert(request.bodyLength >= opcode.size, `a ${opcode.name} request of ${request.bodyLength} bytes`);
    HANDLERS[opcode.number]?.(server, request, granted);
    return true;
  } catch (error) {
    const errno = (error as { errno?: unknown }).errno;
    if (typeof errno !== "number") server.report(`Cannot serve ${opcode.name}`, error);
    if (opcode.replies) server.fail(request, errnoOf(error));
    return false;
  }
}

function runGranted(): void {
  for (let granted = server.takeGranted(); granted.length > 0; granted = server.takeGranted()) {
    for (const { key, request } of granted) server.post({ kind: "granted", key, done: dispatch(request, true) });
  }
}

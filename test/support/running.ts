/**
 * Whether a process is still running, for tests that kill some.
 *
 * Always holds: a process that ends while it is looked at is an answer, not an error. A zombie has ended; its parent has only not looked yet.
 */
import { readFileSync } from "node:fs";

export function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false; // ENOENT, or ESRCH where it has gone since the file was opened.
  }
}

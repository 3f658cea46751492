/**
 * Names one process so that it can be recognised after a crash: a pid alone is given out again.
 */
import { readFileSync } from "node:fs";

export interface ProcessId {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: ticks between boot and the start of the process. */
  readonly startTicks: number;
}

interface Stat extends ProcessId {
  readonly state: string;
  readonly group: number;
}

function readStat(pid: number): Stat | undefined {
  try {
    // The second field is the command in parentheses and may contain anything, so fields are counted from the last parenthesis.
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { pid, state: fields[0]!, group: Number(fields[2]), startTicks: Number(fields[19]) };
  } catch {
    return undefined;
  }
}

/** The process that has this pid now; undefined when there is none, or only its remains. */
export function identify(pid: number): ProcessId | undefined {
  const stat = readStat(pid);
  return stat === undefined || stat.state === "Z" || stat.state === "X" ? undefined : { pid, startTicks: stat.startTicks };
}

/** Whether exactly this process still runs. */
export function isAlive(id: ProcessId): boolean {
  return identify(id.pid)?.startTicks === id.startTicks;
}

/** The process group of a pid; undefined when it is gone. */
export function groupOf(pid: number): number | undefined {
  return readStat(pid)?.group;
}

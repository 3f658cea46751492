/**
 * What a run of the tests may leave behind, and how it is taken away: processes, mounts, network namespaces, folders.
 *
 * Always holds: only things that carry the mark of a run are touched. The mark of a process is the variable SLUICE_TEST_RUN in its environment,
 * which children inherit; that of mounts and folders is a path below /tmp/sluice-test-<mark>, that of namespaces the beginning of their name. A mark names the runner (pid and start time), so
 * the things of a run that still goes on in another terminal are left alone.
 */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { identify } from "../../node/guardian/process-id.ts";

export const MARK_VARIABLE = "SLUICE_TEST_RUN";
/** Pid and start time of a runner. */
const MARK = /^\d+-\d+$/;
const FOLDER = "/tmp";
const PREFIX = "sluice-test-";

/** The mark of this process as a runner. */
export function ownMark(): string {
  return `${process.pid}-${identify(process.pid)!.startTicks}`;
}

/** The temporary folder of a run. The path is short, because sockets lie in it. */
export function rootOf(mark: string): string {
  return join(FOLDER, `${PREFIX}${mark}`);
}

/** Takes away what the run with this mark, or every run whose runner is gone, has left. Answers a line for each thing. */
export async function cleanUp(which: { readonly mark: string } | "orphans"): Promise<string[]> {
  // Only what looks like a mark of ours: somebody may use folders of a like name for tests run by hand.
  const isMeant = (mark: string): boolean => (which === "orphans" ? MARK.test(mark) && !isRunning(mark) : which.mark === mark);
  const done: string[] = [];
  // A process that is ended can leave another one that was just being started.
  for (let round = 0; round < 10; round++) {
    const pids = markedProcesses(isMeant);
    if (pids.length === 0) break;
    for (const { pid, command } of pids) {
      try {
        process.kill(pid, "SIGKILL");
        if (round === 0) done.push(`ended process ${pid} (${command})`);
      } catch {
        // It has gone by itself.
      }
    }
    // Mounts go now, so that whoever waits for a dead server can end.
    unmountAll(isMeant, done);
    for (let waited = 0; waited < 5_000 && pids.some(({ pid }) => identify(pid) !== undefined); waited += 20) await sleep(20);
  }
  unmountAll(isMeant, done);
  for (const name of namespaces()) {
    if (!isMeant(/^sluice-test-(\d+-\d+)-/.exec(name)?.[1] ?? "")) continue;
    spawnSync("ip", ["netns", "del", name]);
    done.push(`removed the network namespace ${name}`);
  }
  for (const name of readdirSync(FOLDER)) {
    if (!name.startsWith(PREFIX) || !isMeant(name.slice(PREFIX.length))) continue;
    const path = join(FOLDER, name);
    if (mountsBelow(path).length > 0) {
      done.push(`left ${path}: something is still mounted in it`);
      continue;
    }
    rmSync(path, { recursive: true, force: true });
  }
  return done;
}

function namespaces(): string[] {
  try {
    return readdirSync("/var/run/netns");
  } catch {
    return []; // None was ever made.
  }
}

function isRunning(mark: string): boolean {
  const [pid, startTicks] = mark.split("-").map(Number);
  return pid !== undefined && identify(pid)?.startTicks === startTicks;
}

function markedProcesses(isMeant: (mark: string) => boolean): { pid: number; command: string }[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid).flatMap((name) => {
    try {
      const entry = readFileSync(`/proc/${name}/environ`, "latin1").split("\0").find((line) => line.startsWith(`${MARK_VARIABLE}=`));
      if (entry === undefined || !isMeant(entry.slice(MARK_VARIABLE.length + 1)) || identify(Number(name)) === undefined) return [];
      return [{ pid: Number(name), command: readFileSync(`/proc/${name}/cmdline`, "latin1").replaceAll("\0", " ").trim().slice(0, 80) }];
    } catch {
      return [];
    }
  });
}

function mountsBelow(folder: string): string[] {
  const points = readFileSync("/proc/self/mounts", "utf8").split("\n").map((line) => (line.split(" ")[1] ?? "").replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))));
  return points.filter((path) => path.startsWith(`${folder}/`)).reverse();
}

function unmountAll(isMeant: (mark: string) => boolean, done: string[]): void {
  for (const path of mountsBelow(FOLDER)) {
    const name = path.slice(FOLDER.length + 1).split("/")[0]!;
    if (!name.startsWith(PREFIX) || !isMeant(name.slice(PREFIX.length))) continue;
    const { status, stderr } = spawnSync("umount", ["-l", path], { encoding: "utf8" });
    done.push(status === 0 ? `unmounted ${path}` : `could not unmount ${path}: ${stderr.trim()}`);
  }
}

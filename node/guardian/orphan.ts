/**
 * The application of a guardian that was killed.
 *
 * Always holds: only exactly the process that the guardian has recorded is ended, by id and start time, with the group that it leads. It goes
 * with SIGKILL: its descriptors lead past a mount that nobody watches any more, so each further write would be one that nobody captures.
 */
import { isAlive } from "./process-id.ts";
import { readMountRecord } from "./mount-record.ts";

/** Ends the application that is recorded in this data folder, if it still runs. */
export function endApplication(dataDir: string): void {
  const application = readMountRecord(dataDir)?.application;
  if (application === undefined || !isAlive(application)) return;
  try {
    process.kill(application.group ? -application.pid : application.pid, "SIGKILL");
  } catch {
    // It ended meanwhile.
  }
}

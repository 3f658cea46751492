/**
 * What the files of a database looked like when the node stopped in order, so that a start sees whether anybody has written to them since: a program
 * that had them open and was not ended with the node, or a person.
 *
 * Always holds: the note is believed once; what it was compared with and found equal it is not compared with again. Times are compared to the
 * millisecond, because copies of a data folder keep no more of them. Content that a disk has lost by itself is not found by this.
 */
import fs from "node:fs";
import { join } from "node:path";
import { files } from "../io/files.ts";
import type { DatabasePaths } from "./names.ts";

const FILE_NAME = "at-rest.json";
const SLACK_MS = 2;

interface Seen {
  readonly bytes: number;
  readonly changedMs: number;
}

type Note = Readonly<Record<"database" | "wal", Seen>>;

const ABSENT: Seen = { bytes: 0, changedMs: 0 };

function look(path: string): Seen {
  const found = fs.statSync(path, { throwIfNoEntry: false });
  // An empty WAL is as good as none.
  return found === undefined || found.size === 0 ? ABSENT : { bytes: found.size, changedMs: found.mtimeMs };
}

/** After the last thing that a node does to them. */
export function noteAtRest(paths: DatabasePaths): void {
  const note: Note = { database: look(paths.database), wal: look(paths.wal) };
  files.writeFile("rest:note", join(paths.log, FILE_NAME), JSON.stringify(note));
}

/** Why the files are not as they were left; undefined when they are, or when nothing is known of that. */
export function changedAtRest(paths: DatabasePaths): string | undefined {
  const path = join(paths.log, FILE_NAME);
  let note: Partial<Note>;
  try {
    note = JSON.parse(fs.readFileSync(path, "utf8")) as Partial<Note>;
  } catch {
    return undefined; // None, or not all of it is on the disk.
  }
  for (const [what, file] of [["database", paths.database], ["wal", paths.wal]] as const) {
    const [then, now] = [note[what], look(file)];
    if (then === undefined) return undefined;
    if (then.bytes !== now.bytes || Math.abs(then.changedMs - now.changedMs) > SLACK_MS) return `${file} was written while the node was down`;
  }
  files.unlink("rest:seen", path);
  return undefined;
}

/**
 * Files made and registered in advance, each of which becomes a rollback journal.
 *
 * Always holds: a spare file is empty and has never held anything, lies outside the files of the mount, and is given to the FUSE thread once; at most
 * one waits there. It exists because journal_mode=DELETE makes a file with every transaction, while its program waits: to make it and to
 * register it is then done between two transactions. What an earlier engine left is removed; its registration ends with the mount.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import type { Spare } from "./messages.ts";

export class Spares {
  readonly #folder: string;
  readonly #register: (fd: number) => number;
  readonly #give: (spare: Spare) => void;
  #made = 0;
  /** One waits to be taken, or is about to be made. */
  #waits = false;
  #failed = false;

  /** `register` gives the backing id of a descriptor; `give` hands a file over. */
  constructor(runDir: string, register: (fd: number) => number, give: (spare: Spare) => void) {
    this.#folder = join(runDir, "spare");
    this.#register = register;
    this.#give = give;
    fs.rmSync(this.#folder, { recursive: true, force: true });
    fs.mkdirSync(this.#folder, { mode: 0o700 });
  }

  /** The one that waited has become a journal. */
  taken(): void {
    this.#waits = false;
  }

  /** Makes one, with this mode, if none waits, once nothing else is to be done. */
  offer(mode: number): void {
    if (this.#waits || this.#failed) return;
    this.#waits = true;
    setImmediate(() => this.#make(mode));
  }

  #make(mode: number): void {
    const file = join(this.#folder, String(this.#made++));
    let fd = -1;
    try {
      fd = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_NOFOLLOW, mode);
      fs.fchmodSync(fd, mode);
      this.#give({ file, fd, backing: this.#register(fd) });
    } catch {
      // A full disk, or no passthrough: journals are made when they are asked for, and say what is wrong.
      if (fd >= 0) fs.closeSync(fd);
      fs.rmSync(file, { force: true });
      this.#waits = false;
      this.#failed = fd >= 0;
    }
  }
}

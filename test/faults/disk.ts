/**
 * A small disk of its own for the data folder of a node: an ext4 file system in a file, which can be filled up.
 *
 * Always holds: while it is full, a write that needs a block fails with ENOSPC, as on a full disk; `empty` takes away only the ballast.
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";

function must(command: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error?.message ?? stderr.trim()}`);
}

export class SmallDisk {
  readonly folder: string;
  readonly #image: string;

  /** Makes and mounts it at `folder`, which must not exist. */
  constructor(folder: string, mib: number) {
    this.folder = folder;
    this.#image = `${folder}.img`;
    fs.mkdirSync(folder);
    fs.closeSync(fs.openSync(this.#image, "w"));
    fs.truncateSync(this.#image, mib << 20);
    must("mkfs.ext4", "-q", "-F", "-m", "0", this.#image);
    must("mount", "-o", "loop", this.#image, folder);
  }

  get #ballast(): string {
    return join(this.folder, "ballast");
  }

  /** Takes every block that is left. */
  fill(): void {
    const fd = fs.openSync(this.#ballast, "a");
    const block = Buffer.alloc(1 << 20, 1);
    try {
      for (let size = block.length; size >= 512; ) {
        try {
          if (fs.writeSync(fd, block, 0, size) < size) size >>= 1;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
          size >>= 1;
        }
      }
    } finally {
      fs.closeSync(fd);
    }
  }

  empty(): void {
    fs.rmSync(this.#ballast, { force: true });
  }

  dispose(): void {
    spawnSync("umount", ["-l", this.folder]);
    fs.rmSync(this.#image, { force: true });
  }
}

/**
 * What Sluice must not use any more but will not delete: damaged files, superseded history, local files in the way of a replicated one.
 *
 * Always holds: nothing here is ever removed by Sluice; each file lies beside a `.why` with time, origin and reason.
 */
import fs from "node:fs";
import { basename, join } from "node:path";
import { files } from "../io/files.ts";

export class Aside {
  readonly #folder: string;
  #count: number | undefined;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Moves a file here. Missing files are no error: what is wanted is that nobody uses them. */
  put(path: string, reason: string): void {
    if (!fs.existsSync(path)) return;
    const target = this.#target(path);
    files.rename("aside:move", path, target);
    this.#note(target, path, reason);
  }

  /** Copies a file here that programs have open, and whose content is about to be replaced. Nothing is left behind when there is no space for it. */
  async copy(path: string, reason: string): Promise<void> {
    if (!fs.existsSync(path)) return;
    const target = this.#target(path);
    await files.copy("aside:copy", path, target);
    this.#note(target, path, reason);
  }

  #target(path: string): string {
    files.mkdir("aside:folder", this.#folder);
    const stamp = new Date().toISOString().replaceAll(":", "");
    let target = join(this.#folder, `${stamp}-${basename(path)}`);
    for (let n = 1; fs.existsSync(target); n++) target = join(this.#folder, `${stamp}-${n}-${basename(path)}`);
    return target;
  }

  #note(target: string, path: string, reason: string): void {
    files.writeFile("aside:why", `${target}.why`, JSON.stringify({ time: new Date().toISOString(), from: path, reason }, undefined, 1));
    this.#count = undefined;
  }

  get count(): number {
    this.#count ??= fs.existsSync(this.#folder) ? fs.readdirSync(this.#folder).filter((name) => !name.endsWith(".why")).length : 0;
    return this.#count;
  }
}

/**
 * What a node remembers of itself in its data folder: its id, its cluster's id, its epoch.
 *
 * Always holds: ids are 16 hex digits, made once and never changed. The epoch of a static primary goes up by one when the machine went down
 * without a clean stop (the boot id is another and no clean mark was left): then the newest transactions may be lost here but not elsewhere, and
 * the same TXID must not name two states.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import { join } from "node:path";
import { files } from "./io/files.ts";
import { bootId } from "./native/libc.ts";

export class Identity {
  readonly #dataDir: string;
  readonly nodeId: string;
  /** 16 bytes that name this run of the machine. */
  readonly boot: Buffer;
  #clusterId: string;

  constructor(dataDir: string) {
    this.#dataDir = dataDir;
    this.boot = Buffer.from(bootId().replaceAll("-", ""), "hex");
    this.nodeId = this.#read("node-id") ?? this.#write("node-id", randomBytes(8).toString("hex"));
    this.#clusterId = this.#read("cluster-id") ?? "";
  }

  #read(name: string): string | undefined {
    try {
      const text = fs.readFileSync(join(this.#dataDir, name), "latin1").trim();
      return /^[0-9a-f]{16}$/.test(text) ? text : undefined;
    } catch {
      return undefined; // Not there yet.
    }
  }

  #write(name: string, value: string): string {
    files.replace("identity:write", join(this.#dataDir, name), `${value}\n`);
    return value;
  }

  /** Empty until this node is a member of a cluster. */
  get clusterId(): string {
    return this.#clusterId;
  }

  adoptClusterId(id: string): void {
    this.#clusterId = this.#write("cluster-id", id);
  }

  /** A primary without a cluster founds one. */
  foundCluster(): void {
    if (this.#clusterId === "") this.adoptClusterId(randomBytes(8).toString("hex"));
  }

  /** The epoch of a static primary, one higher after an unclean end of the machine. */
  startEpoch(): number {
    const path = join(this.#dataDir, "epoch");
    let stored = { epoch: 0, boot: "", clean: true };
    try {
      stored = JSON.parse(fs.readFileSync(path, "utf8")) as typeof stored;
    } catch {
      // The first start.
    }
    const boot = this.boot.toString("hex");
    const epoch = stored.epoch === 0 ? 1 : stored.clean || stored.boot === boot ? stored.epoch : stored.epoch + 1;
    files.replace("identity:epoch", path, JSON.stringify({ epoch, boot, clean: false }));
    return epoch;
  }

  /** Everything is on the disk: the next start goes on in the same epoch, whatever happens to the machine. */
  markClean(epoch: number): void {
    files.replace("identity:epoch", join(this.#dataDir, "epoch"), JSON.stringify({ epoch, boot: this.boot.toString("hex"), clean: true }));
  }
}

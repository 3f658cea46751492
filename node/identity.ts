/**
 * What a node remembers of itself in its data folder: its id, its cluster's id, its epoch.
 *
 * Always holds: ids are 16 hex digits, made once and never changed. The epoch of a static primary goes up by one when the machine went down
 * without a clean stop (the boot id is another and no clean mark was left): then the newest transactions may be lost here but not elsewhere, and
 * the same TXID must not name two states. It is also greater than any that this node has seen of others, so that its followers can tell them apart.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import { join } from "node:path";
import { AppError } from "../proto/errors.ts";
import { CLUSTER_ID_REMEDY, readIdentityFile, type IdentityFile } from "./identity-files.ts";
import { files } from "./io/files.ts";
import { bootId } from "./native/libc.ts";
import { Aside } from "./store/aside.ts";

export class Identity {
  readonly #dataDir: string;
  readonly nodeId: string;
  /** 16 bytes that name this run of the machine. */
  readonly boot: Buffer;
  #clusterId: string;

  /** Damaged files go aside, and are reported; a damaged `cluster-id` throws CORRUPT_FILE. */
  constructor(dataDir: string, report: (message: string) => void = () => undefined) {
    this.#dataDir = dataDir;
    for (const name of ["node-id", "epoch", "lease.json"] as const) {
      const read = readIdentityFile(dataDir, name);
      if (read === undefined || "text" in read) continue;
      new Aside(join(dataDir, "aside")).put(join(dataDir, name), read.fault);
      report(`Set aside ${join(dataDir, name)}: ${read.fault}`);
    }
    this.boot = Buffer.from(bootId().replaceAll("-", ""), "hex");
    this.nodeId = this.#read("node-id") ?? this.#write("node-id", randomBytes(8).toString("hex"));
    this.#clusterId = this.#read("cluster-id") ?? "";
  }

  /** Undefined while it is not there yet. */
  #read(name: IdentityFile): string | undefined {
    const read = readIdentityFile(this.#dataDir, name);
    if (read === undefined) return undefined;
    if ("fault" in read) throw new AppError("CORRUPT_FILE", [join(this.#dataDir, name), `${read.fault}; ${CLUSTER_ID_REMEDY}`]);
    return read.text.trim();
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

  /**
   * The epoch of a static primary: one higher after an unclean end of the machine, and after anybody else was the primary. `inDatabases`: the newest
   * epoch that the databases here have seen.
   */
  startEpoch(inDatabases: number): number {
    const { epoch: own, boot: lastBoot, clean, seen } = this.#stored();
    const boot = this.boot.toString("hex");
    const others = Math.max(seen, inDatabases);
    const epoch = own === 0 && others === 0 ? 1 : others > own ? others + 1 : clean || lastBoot === boot ? own : own + 1;
    this.#store({ epoch, boot, clean: false, seen: epoch });
    return epoch;
  }

  /** The newest epoch of any primary that this node has known; an older one is not followed. */
  get seenEpoch(): number {
    const { epoch, seen } = this.#stored();
    return Math.max(epoch, seen);
  }

  /** Another node is the primary in this epoch. */
  sawEpoch(epoch: number): void {
    const stored = this.#stored();
    if (epoch > Math.max(stored.seen, stored.epoch)) this.#store({ ...stored, seen: epoch });
  }

  /** Everything is on the disk: the next start goes on in the same epoch, whatever happens to the machine. */
  markClean(epoch: number): void {
    this.#store({ epoch, boot: this.boot.toString("hex"), clean: true, seen: epoch });
  }

  #stored(): StoredEpoch {
    try {
      return { ...NO_EPOCH, ...(JSON.parse(fs.readFileSync(join(this.#dataDir, "epoch"), "utf8")) as Partial<StoredEpoch>) };
    } catch {
      return NO_EPOCH; // The first start.
    }
  }

  #store(epoch: StoredEpoch): void {
    files.replace("identity:epoch", join(this.#dataDir, "epoch"), JSON.stringify(epoch));
  }
}

interface StoredEpoch {
  /** The last in which this node was a static primary; 0 if it never was. */
  readonly epoch: number;
  readonly boot: string;
  readonly clean: boolean;
  readonly seen: number;
}

const NO_EPOCH: StoredEpoch = { epoch: 0, boot: "", clean: true, seen: 0 };

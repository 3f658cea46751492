/**
 * The small files at the root of a data folder that say who a node is and under what it wrote: what each must hold, and what becomes of one that
 * does not.
 *
 * Always holds: pure, but for reading. `cluster-id` is never guessed: with another one a node would found a second cluster, so the node is refused.
 * The others go aside at the start, and what they said is found again or is not needed (the table of start-up recovery in ARCHITECTURE.md).
 */
import fs from "node:fs";
import { join } from "node:path";
import type { Finding } from "./store/verify-log.ts";

export type IdentityFile = "node-id" | "cluster-id" | "epoch" | "lease.json";

const NAMES: readonly IdentityFile[] = ["node-id", "cluster-id", "epoch", "lease.json"];
const LARGEST = 1 << 20;

/** What is wrong with the content of one of these files; undefined when it can be used. */
export function identityFault(name: IdentityFile, text: string): string | undefined {
  if (name === "node-id" || name === "cluster-id") return /^[0-9a-f]{16}$/.test(text.trim()) ? undefined : "it does not hold 16 hexadecimal digits";
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return (error as Error).message;
  }
  if (typeof value !== "object" || value === null) return "it does not hold an object";
  if (name === "epoch") {
    const { epoch, seen = 0, boot, clean } = value as { epoch?: unknown; seen?: unknown; boot?: unknown; clean?: unknown };
    return isCount(epoch) && isCount(seen) && typeof boot === "string" && typeof clean === "boolean" ? undefined : "it does not say which epoch this node has seen";
  }
  const { held, boot } = value as { held?: { epoch?: unknown; token?: unknown }; boot?: unknown };
  return isCount(held?.epoch) && typeof held?.token === "string" && typeof boot === "string" ? undefined : "it does not name a lease";
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** The file's text, or what is wrong with it; undefined when it does not exist. */
export function readIdentityFile(dataDir: string, name: IdentityFile): { readonly text: string } | { readonly fault: string } | undefined {
  const path = join(dataDir, name);
  const size = fs.statSync(path, { throwIfNoEntry: false })?.size;
  if (size === undefined) return undefined;
  if (size > LARGEST) return { fault: `it has ${size} bytes` };
  const text = fs.readFileSync(path, "latin1");
  const fault = identityFault(name, text);
  return fault === undefined ? { text } : { fault };
}

/** For `sluice verify`. */
export function identityFindings(dataDir: string): Finding[] {
  return NAMES.flatMap((name): Finding[] => {
    const read = readIdentityFile(dataDir, name);
    return read === undefined || "text" in read ? [] : [{ file: join(dataDir, name), fault: read.fault, mends: name === "cluster-id" ? "person" : "start" }];
  });
}

/** What a person does about a damaged `cluster-id`. */
export const CLUSTER_ID_REMEDY = "write the id of the cluster into it: `sluice status --json` on another node shows it as node.clusterId";

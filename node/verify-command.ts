/**
 * `sluice verify` and `sluice repair`: what is wrong with the files of a node, and the command that mends each.
 *
 * Always holds: verify changes nothing. It asks the node where one runs; else it reads the data folder itself, under the folder's lock, so that no
 * node starts meanwhile. Repair is done by the node that runs, because only the primary's stream has what it needs.
 */
import fs from "node:fs";
import { join } from "node:path";
import { AppError } from "../proto/errors.ts";
import { NodeError, askNode } from "./admin-client.ts";
import type { CommandResult } from "./admin/status.ts";
import type { Config } from "./core/config.ts";
import { takeDataLock } from "./guardian/data-lock.ts";
import { CLUSTER_ID_REMEDY, identityFindings } from "./identity-files.ts";
import { databaseOfFolder } from "./store/names.ts";
import { verifyDatabase, type DatabaseReport } from "./store/verify.ts";
import type { Finding, Mends } from "./store/verify-log.ts";

export interface VerifyReport {
  /** Whether a node has answered; else the data folder was read. */
  readonly running: boolean;
  /** Of files that belong to no database. */
  readonly node: readonly Finding[];
  readonly databases: readonly DatabaseReport[];
}

export interface VerifiedFinding extends Finding {
  readonly database?: string;
  /** The command that mends it, or what is done about it. */
  readonly remedy: string;
}

export async function askVerify(config: Config, name: string | undefined): Promise<VerifyReport> {
  try {
    return await askNode(config, "POST", "/verify", name === undefined ? {} : { name }) as VerifyReport;
  } catch (error) {
    if (!(error instanceof NodeError) || error.code !== "NOT_RUNNING") throw error;
  }
  const lock = await takeDataLock(config.data, { create: false });
  if (lock !== undefined && "heldBy" in lock) throw new NodeError("NODE_STARTING", `A node (process ${lock.heldBy}) uses ${config.data} and does not answer yet`, "Run the command again once it serves; its log says where it is.");
  try {
    return await verifyFolder(config.data, name);
  } finally {
    lock?.release();
  }
}

/** The folder of a node that does not run. */
export async function verifyFolder(dataDir: string, name?: string): Promise<VerifyReport> {
  const root = join(dataDir, "log");
  const node = name === undefined ? identityFindings(dataDir) : [];
  const databases: DatabaseReport[] = [];
  for (const entry of fs.existsSync(root) ? fs.readdirSync(root, { withFileTypes: true }) : []) {
    const database = entry.isDirectory() ? databaseOfFolder(entry.name) : undefined;
    if (database === undefined && name === undefined) node.push({ file: join(root, entry.name), fault: "it is not the log of a database", mends: "start" });
    if (database !== undefined && (name === undefined || database === name)) databases.push(await verifyDatabase(dataDir, database));
  }
  if (name !== undefined && databases.length === 0) throw new AppError("DATABASE_NOT_FOUND", [name]);
  return { running: false, node, databases };
}

/** Whether nothing is wrong; notes are no faults. */
export function isSound(report: VerifyReport): boolean {
  return [report.node, ...report.databases.map(({ findings }) => findings)].flat().every(({ mends }) => mends === "note");
}

export function findingsOf(config: Config, report: VerifyReport): VerifiedFinding[] {
  const situation = { file: config.source.file, running: report.running, isStatic: config.lease.type === "static" };
  return [
    ...report.node.map((finding) => ({ ...finding, remedy: remedy(finding.mends, { ...situation, database: "", writing: false }) })),
    ...report.databases.flatMap(({ name, writing, findings }) => findings.map((finding) => ({ ...finding, database: name, remedy: remedy(finding.mends, { ...situation, database: name, writing }) }))),
  ];
}

/** Pure: what is done about a fault. */
export function remedy(mends: Mends, where: { readonly file: string; readonly database: string; readonly running: boolean; readonly writing: boolean; readonly isStatic: boolean }): string {
  const { file, database, running, writing, isStatic } = where;
  const mount = `sluice mount -c ${file}`;
  const repair = `sluice repair --from peer --name ${database} -c ${file}`;
  switch (mends) {
    case "note": return "";
    case "person": return `${CLUSTER_ID_REMEDY}, then \`${mount}\``;
    case "start": return running ? `stop the node and run \`${mount}\`: a start finds out anew what it says` : `\`${mount}\` mends it at the start`;
    case "peer": {
      if (writing && isStatic) return `name another node in lease.primary and repair here with \`${repair}\`, or put a sound copy in its place with \`sluice import --name ${database} -c ${file} COPY.db\``;
      const first = [...(running ? [] : [`\`${mount}\``]), ...(writing ? [`\`sluice handoff -c ${file}\``] : [])];
      return first.length === 0 ? `\`${repair}\`` : `${first.join(", then ")}, then \`${repair}\``;
    }
  }
}

export function formatVerify(config: Config, report: VerifyReport): string {
  const findings = findingsOf(config, report);
  const lines = findings.map(({ file, fault, mends, remedy }) => (mends === "note" ? `note: ${file}: ${fault}` : `${file}: ${fault}; ${remedy}`));
  const bad = new Set(findings.filter(({ mends }) => mends !== "note").map(({ database }) => database));
  for (const { name, txid } of report.databases) if (!bad.has(name)) lines.push(`${name}: sound at TXID ${txid.toString(16).padStart(16, "0")}`);
  return lines.length === 0 ? "There are no databases here." : lines.join("\n");
}

/** Resolves when everything is there. */
export async function askRepair(config: Config, name: string | undefined): Promise<readonly CommandResult[]> {
  try {
    return (await askNode(config, "POST", "/repair", name === undefined ? {} : { name }) as { repaired: readonly CommandResult[] }).repaired;
  } catch (error) {
    if (!(error instanceof NodeError) || error.code !== "NOT_RUNNING") throw error;
    throw new NodeError(error.code, error.message, `Start it with \`sluice mount -c ${config.source.file}\`, then repair: a repair needs its stream from the primary.`, { cause: error });
  }
}

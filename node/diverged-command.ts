/**
 * `sluice diverged`: what an operator sees of `diverged/` and does with it, in the running node or, while none runs, on the data folder alone.
 *
 * Always holds: only `drop` removes something, only by the whole name of an entry, and only through the running node. Whoever shows or exports
 * an entry has looked at it.
 */
import { resolve } from "node:path";
import { NodeError, askNode } from "./admin-client.ts";
import type { DivergedCommand } from "./admin/status.ts";
import { formatSize } from "./config/units.ts";
import type { Config } from "./core/config.ts";
import { Diverged, type DivergedFileDetail, type Exported, type ListedEntry } from "./store/diverged.ts";

/** The command of these arguments, or what is wrong with them. */
export function parseDiverged(args: readonly string[], seen: boolean): DivergedCommand | string {
  const [command, id, target] = args;
  if (command === "list") return id === undefined ? { command, seen } : `"${id}" is one argument too many`;
  if (command !== "show" && command !== "drop" && command !== "export") return `"${command ?? ""}" is no command of diverged`;
  if (seen) return "--seen belongs to list";
  if (id === undefined) return "ID is missing";
  if (command !== "export") return target === undefined ? { command, id } : `"${target}" is one argument too many`;
  return target === undefined ? "TARGET is missing" : { command, id, target: resolve(target) };
}

/** Carries a command out. */
export async function runDiverged(diverged: Diverged, command: DivergedCommand): Promise<object> {
  if (command.command === "list") {
    const entries = diverged.list();
    if (command.seen) for (const { id } of entries) diverged.markSeen(id, Date.now());
    return { entries };
  }
  const { id } = command;
  if (command.command === "drop") return { dropped: diverged.drop(id) };
  const answer = command.command === "export" ? await diverged.export(id, command.target) : diverged.describe(id);
  diverged.markSeen(id, Date.now());
  return answer;
}

/** Asks the node; where none runs, looks into its data folder. */
export async function askDiverged(config: Config, command: DivergedCommand): Promise<object> {
  const { command: name, ...rest } = command;
  try {
    return await askNode(config, "POST", `/diverged/${name}`, Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, String(value)]))) as object;
  } catch (error) {
    if (name === "drop" || !(error instanceof NodeError) || error.code !== "NOT_RUNNING") throw error;
    return runDiverged(new Diverged(config.data), command);
  }
}

export function formatDiverged(command: DivergedCommand, answer: object): string {
  if (command.command === "list") return formatList((answer as { entries: ListedEntry[] }).entries);
  if (command.command === "show") return formatShow(answer as { entry: ListedEntry; files: DivergedFileDetail[] });
  if (command.command === "drop") return `Dropped ${command.id}.`;
  const exported = answer as Exported;
  return exported.kind === "database"
    ? `Exported ${command.id} to ${exported.target}: the whole database as it was, ${formatSize(exported.bytes)}`
    : `The whole database was not kept (\`sluice diverged show\` says why); its ${exported.files} LTX files are in ${exported.target}`;
}

function formatList(entries: readonly ListedEntry[]): string {
  if (entries.length === 0) return "Nothing has diverged.";
  return table(["ID", "DATABASE", "EPOCH", "TXIDS", "TRANSACTIONS", "TIME", "LOOKED AT", "REASON"], entries.map((one) => [
    one.id, one.database, String(one.epoch), `${one.firstTxid}-${one.lastTxid}`, String(one.transactions), one.time, one.seen ? "yes" : "no", one.reason,
  ]));
}

function formatShow({ entry, files }: { entry: ListedEntry; files: readonly DivergedFileDetail[] }): string {
  const facts: [string, string][] = [
    ["database", `${entry.database}, ${entry.pageCount} pages of ${entry.pageSize} bytes`], ["node", `${entry.node.name} (${entry.node.id})`],
    ["lost", `${entry.transactions} transactions, TXID ${entry.firstTxid} to ${entry.lastTxid} of epoch ${entry.epoch}`], ["ancestor", entry.ancestor.txid === 0 ? "none" : `TXID ${entry.ancestor.txid} of epoch ${entry.ancestor.epoch}`],
    ["against", `${entry.primary.name} in epoch ${entry.primary.epoch}`], ["time", entry.time], ["reason", entry.reason], ["export", entry.hasState ? "gives the whole database" : "gives the LTX files"],
    ...entry.notes.map((note): [string, string] => ["note", note]),
  ];
  const rows = files.map((file) => [
    `${file.minTxid}-${file.maxTxid}`, file.time ?? "-", formatSize(file.bytes), String(file.pageCount ?? "-"), file.damaged ?? listPages(file.pages ?? []), file.name,
  ]);
  return [entry.id, ...facts.map(([key, value]) => `  ${key.padEnd(8)} ${value}`), "", rows.length === 0 ? "No transaction files." : table(["TXIDS", "COMMITTED", "SIZE", "PAGES", "NUMBERS", "FILE"], rows)].join("\n");
}

const PAGES_SHOWN = 16;

function listPages(pages: readonly number[]): string {
  return `${pages.slice(0, PAGES_SHOWN).join(" ")}${pages.length > PAGES_SHOWN ? " …" : ""}`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd()).join("\n");
}

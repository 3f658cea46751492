/**
 * `sluice status` for a person: the JSON of the node as aligned text.
 *
 * Always holds: pure; what a node of another release leaves out is shown as a dash, never a crash.
 */
import type { NodeStatus } from "./admin/status.ts";
import { formatDuration, formatSize } from "./config/units.ts";

const NAMES_SHOWN = 10;

export function formatStatus(value: unknown): string {
  const status = value as Partial<NodeStatus>;
  const node = status.node;
  const lines = [
    `${node?.name ?? "-"}  ${status.role ?? "-"}, epoch ${status.epoch ?? "-"}, ${status.ready === true ? "ready" : "not ready"}${status.connected === false ? ", no connection to the primary" : ""}`,
    ...pairs([
      ["primary", status.primary === undefined ? "none known" : `${status.primary.name} (${status.primary.advertise})`],
      ...(status.electionLacks === undefined ? [] : [["election", `waits: ${status.electionLacks}`]] as const),
      ["mount", status.mount === undefined ? "-" : `${status.mount.path} (${status.mount.driver}: ${status.mount.reason})`],
      ["node", `id ${node?.id ?? "-"}, advertised as ${node?.advertise ?? "-"}${node?.region ? `, region ${node.region}` : ""}`],
      ["version", `${status.version ?? "-"}, started ${status.startedAt ?? "-"}`],
    ]),
  ];
  const databases = status.databases ?? [];
  lines.push("", databases.length === 0 ? "No databases." : table(
    ["DATABASE", "TXID", "CHECKSUM", "SIZE", "LAG", "LOG", "STATE"],
    databases.map((one) => [one.name, one.txid, one.checksum, formatSize(one.pageCount * one.pageSize), lag(one), formatSize(one.logBytes), one.state]),
  ));
  const followers = status.followers ?? [];
  if (followers.length > 0) {
    lines.push("", table(["FOLLOWER", "ADDRESS", "REGION", "SINCE", "POSITIONS"], followers.map((one) => [
      one.name, one.address, one.region === "" ? "-" : one.region, one.connectedSince, one.positions.map((position) => `${position.name}=${position.txid}`).join(" "),
    ])));
  }
  const rates = Object.entries(status.proxy ?? {});
  if (rates.length > 0) lines.push("", `Requests a second: ${rates.map(([decision, rate]) => `${decision} ${rate}`).join(", ")}`);
  const local = status.local;
  if (local !== undefined && local.count > 0) {
    const more = local.count > NAMES_SHOWN ? ` and ${local.count - NAMES_SHOWN} more` : "";
    lines.push("", `Not replicated (${local.count}): ${local.names.slice(0, NAMES_SHOWN).join(", ")}${more}`);
  }
  if (status.damage !== undefined && status.damage.found > 0) lines.push("", `Damages found: ${status.damage.found}, healed: ${status.damage.healed}`);
  if (status.diverged !== undefined && status.diverged.unseen > 0) lines.push("", `Lost in a failover and kept (${status.diverged.unseen} of ${status.diverged.entries} not looked at): see \`sluice diverged list\``);
  if (status.aside !== undefined && status.aside > 0) lines.push("", `Files kept aside: ${status.aside}`);
  return lines.join("\n");
}

function lag(one: NodeStatus["databases"][number]): string {
  if (one.lagTransactions === undefined) return "-";
  return one.lagTransactions === 0 ? "0" : `${one.lagTransactions} tx${one.lagMs === undefined ? "" : `, ${formatDuration(one.lagMs)}`}`;
}

function pairs(rows: readonly (readonly [string, string])[]): string[] {
  return rows.map(([key, value]) => `  ${key.padEnd(8)} ${value}`);
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? "").length)));
  return all.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd()).join("\n");
}

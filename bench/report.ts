/**
 * What a run of the bench found, as a table for people and as JSON for programs.
 *
 * Always holds: every row of the table of targets appears, also one that could not be measured, with the reason. A row names its verdict by a
 * word: "aim", "must", or "SHORT" when it reaches neither.
 */
import type { Outcome } from "./question.ts";
import type { Spread } from "./statistics.ts";
import { TARGETS, formatScore, verdictOf, type RowId } from "./targets.ts";

/** Outcome of a row, or why there is none. */
export type RowResult = Outcome | { readonly id: RowId; readonly skipped: string };

export interface Machine {
  readonly date: string;
  readonly commit: string;
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly node: string;
  readonly fileSystem: string;
  /** Load average of the last minute when the run began and ended: other work on the machine shows here. */
  loadAverage: [number, number];
}

export interface Run {
  readonly mode: string;
  readonly driver: string;
  readonly machine: Machine;
  readonly rows: readonly RowResult[];
}

const HEAD = ["measure", "native", "mount", "ratio (min to max)", "must", "aim", "verdict"] as const;

function formatValue(spread: Spread | undefined, unit: string): string {
  if (spread === undefined) return "";
  const value = spread.median;
  const digits = value >= 100 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(2)));
  return unit === "" ? digits : `${digits} ${unit}`;
}

function cellsOf(row: RowResult): string[] {
  const target = TARGETS[row.id];
  const marks = [formatScore(row.id, target.must), formatScore(row.id, target.aim)];
  if ("skipped" in row) return [target.measure, "", "", "", ...marks, "skipped"];
  const { median, min, max } = row.score;
  const range = target.kind === "share" ? `${formatScore(row.id, median)} (${Math.round(min * 100)} to ${Math.round(max * 100)})`
    : row.score.values.length > 1 ? `(${formatScore(row.id, min)} to ${formatScore(row.id, max)})` : "";
  return [target.measure, formatValue(row.native, target.unit === "x" ? "us" : target.unit), formatValue(row.mount, target.unit === "x" ? "us" : target.unit), range, ...marks, verdictOf(row.id, median)];
}

/** The table in Markdown, with notes below. */
export function formatTable(rows: readonly RowResult[]): string {
  const body = rows.map(cellsOf);
  const widths = HEAD.map((head, i) => Math.max(head.length, ...body.map((cells) => cells[i]!.length)));
  const line = (cells: readonly string[]): string => `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(" | ")} |`;
  const rule = `|${widths.map((width, i) => (i === 0 ? "-".repeat(width + 2) : `${"-".repeat(width + 1)}:`)).join("|")}|`;
  const notes = rows.flatMap((row) => ("skipped" in row ? [`SKIPPED ${row.id}: ${row.skipped}`] : row.notes.map((note) => `${row.id}: ${note}`)));
  return [line(HEAD), rule, ...body.map(line), "", ...notes.map((note) => `- ${note}`)].join("\n");
}

/** The line above a table. */
export function formatMachine(run: Run): string {
  const { machine } = run;
  return `${run.mode} run, driver ${run.driver}, commit ${machine.commit}, ${machine.date}\n` +
    `${machine.cpus} × ${machine.cpu}, ${machine.memoryGiB} GiB, Linux ${machine.kernel}, Node ${machine.node}, ${machine.fileSystem}, load average ${machine.loadAverage.map((value) => value.toFixed(1)).join(" to ")}`;
}

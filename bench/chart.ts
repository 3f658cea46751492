/**
 * The result of a run as an SVG: a bar for each row, against what it must and should reach.
 *
 * Always holds: longer is better, on one scale for all rows: 100 % is native speed for shares; for values of which less is better it is the
 * aim, so a bar that reaches the aim is full. Pure: text in, text out.
 */
import { formatMachine, type RowResult, type Run } from "./report.ts";
import { TARGETS, formatScore, verdictOf } from "./targets.ts";

const WIDTH = 860;
const LEFT = 300;
const RIGHT = 110;
const TOP = 64;
const STEP = 30;
const BAR = 16;
const COLOURS = { aim: "#2f855a", must: "#3182ce", SHORT: "#c05621" } as const;
/** Bars end here: a share above is drawn as long. */
const LONGEST = 1.2;

const escape = (text: string): string => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

function barOf(row: RowResult, index: number): string {
  const y = TOP + index * STEP;
  const target = TARGETS[row.id];
  const label = `<text x="${LEFT - 10}" y="${y + 13}" text-anchor="end">${escape(target.measure)}</text>`;
  if ("skipped" in row) return `${label}<text x="${LEFT + 4}" y="${y + 13}" fill="#888">skipped</text>`;
  const share = (score: number): number => Math.min(LONGEST, target.kind === "share" ? score : target.aim / score);
  const x = (score: number): number => LEFT + (share(score) / LONGEST) * (WIDTH - LEFT - RIGHT);
  const { median, min, max } = row.score;
  const [from, to] = [x(min), x(max)].sort((a, b) => a - b) as [number, number];
  const mark = (score: number, name: string): string => `<line x1="${x(score)}" x2="${x(score)}" y1="${y - 3}" y2="${y + BAR + 3}" stroke="#222" stroke-width="1.5"${name === "aim" ? ' stroke-dasharray="3 2"' : ""}/>`;
  return [
    label, `<rect x="${LEFT}" y="${y}" width="${x(median) - LEFT}" height="${BAR}" rx="2" fill="${COLOURS[verdictOf(row.id, median)]}"/>`,
    `<line x1="${from}" x2="${to}" y1="${y + BAR / 2}" y2="${y + BAR / 2}" stroke="#fff" stroke-width="1"/>`,
    mark(target.must, "must"), mark(target.aim, "aim"), `<text x="${WIDTH - RIGHT + 10}" y="${y + 13}">${escape(formatScore(row.id, median))}</text>`,
  ].join("");
}

/** The whole drawing. */
export function drawChart(run: Run): string {
  const height = TOP + run.rows.length * STEP + 16;
  const [first = "", second = ""] = formatMachine(run).split("\n");
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="13">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="16" y="22" font-weight="600">${escape(first)}</text><text x="16" y="40" font-size="11" fill="#555">${escape(second)}. Lines: must, aim (dashed); white: smallest to largest.</text>`,
    ...run.rows.map(barOf), "</svg>", "",
  ].join("\n");
}

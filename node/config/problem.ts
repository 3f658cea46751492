/**
 * A fault in the configuration: where it is, what is wrong, what to do.
 *
 * Always holds: file, line and key are those of the operator's own text. Everything that refuses a configuration, from the YAML parser to
 * the check of the host, makes one of these, so that all faults read alike.
 */
import { isAbsolute, relative } from "node:path";
import { AppError } from "../../proto/errors.ts";
import type { Config } from "../core/config.ts";

export interface Problem {
  readonly file: string;
  /** From 1; 0 when the fault is that there is no line. */
  readonly line: number;
  /** "fuse.mount"; "" for the document as a whole. */
  readonly key: string;
  readonly reason: string;
  readonly remedy: string;
}

/** The error of the table: "Cannot use configuration FILE, line 3: fuse.mount: REASON; REMEDY". */
export function problemError(problem: Problem, options?: ErrorOptions): AppError {
  const place = problem.line > 0 ? `${problem.file}, line ${problem.line}` : problem.file;
  const key = problem.key === "" ? "" : `${problem.key}: `;
  return new AppError("CONFIG_INVALID", [place, `${key}${problem.reason}; ${problem.remedy}`], options);
}

/** A problem with a key of a configuration that was read already. A key that stands in no line is shown with the line of its parent. */
export function problemAt(config: Pick<Config, "source">, key: string, refusal: { readonly reason: string; readonly remedy: string }): Problem {
  return { file: config.source.file, line: lineOf(config.source.lines, key), key, reason: refusal.reason, remedy: refusal.remedy };
}

/** The line of a key, or of the nearest parent that is written out; 0 when there is none. */
export function lineOf(lines: Readonly<Record<string, number>>, key: string): number {
  for (let at = key; at !== ""; at = at.slice(0, Math.max(0, Math.max(at.lastIndexOf("."), at.lastIndexOf("["))))) {
    const line = lines[at];
    if (line !== undefined) return line;
  }
  return 0;
}

/** Whether a path is a folder or lies in it. */
export function isInside(path: string, parent: string): boolean {
  const way = relative(parent, path);
  return way === "" || (way !== ".." && !way.startsWith("../") && !isAbsolute(way));
}

/** "fuse.mount", "proxy.rules[0].to", "databases["*.db"].replicate". */
export function formatKey(path: readonly PropertyKey[]): string {
  let key = "";
  for (const part of path) {
    if (typeof part === "number") key += `[${part}]`;
    else if (/^[A-Za-z][A-Za-z0-9_-]*$/.test(String(part))) key += key === "" ? String(part) : `.${String(part)}`;
    else key += `[${JSON.stringify(String(part))}]`;
  }
  return key;
}

/** The candidate that differs from `word` by at most a third of its letters, upper and lower case being alike. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** Insertions, deletions, replacements, and swaps of neighbours. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let distance = Math.min(previous[j]! + 1, current[j - 1]! + 1, previous[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) distance = Math.min(distance, before[j - 2]! + 1);
      current.push(distance);
    }
    [before, previous] = [previous, current];
  }
  return previous[b.length]!;
}

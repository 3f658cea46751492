/**
 * Counts the tests of one file from the events of Node's runner.
 *
 * Always holds: only tests without tests of their own count. A parent counts only when it fails by itself (a hook, say) rather than through a
 * child. A file that ends without having reported a test has failed: it checks nothing.
 */
import type { TestsStream } from "node:test";
import { inspect } from "node:util";

export interface Failure {
  readonly name: string;
  /** The whole error, with its causes. */
  readonly text: string;
}

export interface FileResult {
  passed: number;
  /** Of the whole file, its start and its hooks included; the runner sets it. */
  ms: number;
  skipped: number;
  readonly failures: Failure[];
  /** Name and reason of what was skipped. */
  readonly skips: string[];
  /** How long each test that counts took. */
  readonly durations: { readonly name: string; readonly ms: number }[];
  /** The end of what the file has printed. */
  output: string;
}

const OUTPUT_KEPT = 16_000;

interface Event {
  readonly name: string;
  readonly nesting: number;
  readonly file?: string | undefined;
  readonly skip?: string | boolean | undefined;
  readonly todo?: string | boolean | undefined;
  readonly details: { readonly type?: string | undefined; readonly error?: unknown; readonly duration_ms?: number | undefined };
}

/** Reads all events of a run of one file. */
export async function tally(stream: TestsStream, file: string): Promise<FileResult> {
  const result: FileResult = { ms: 0, passed: 0, skipped: 0, failures: [], skips: [], durations: [], output: "" };
  const path: string[] = [];
  /** Whether a test at this depth has had tests in it. */
  const hasChildren: boolean[] = [];
  stream.on("test:start", (event) => {
    path[event.nesting] = event.name;
    path.length = event.nesting + 1;
    hasChildren[event.nesting] = false;
    if (event.nesting > 0) hasChildren[event.nesting - 1] = true;
  });
  const onEnd = (event: Event, failed: boolean): void => {
    const isParent = hasChildren[event.nesting] === true || event.details.type === "suite";
    hasChildren[event.nesting] = false;
    const name = [...path.slice(0, event.nesting), event.name].join(" > ");
    if (!isParent && !isFileItself(event, file)) result.durations.push({ name, ms: event.details.duration_ms ?? 0 });
    if (event.skip !== undefined && event.skip !== false) {
      result.skipped++;
      result.skips.push(`${name}: ${typeof event.skip === "string" && event.skip !== "" ? event.skip : "no reason given"}`);
    } else if (failed) {
      if (isParent && failureType(event.details.error) === "subtestsFailed") return;
      result.failures.push({ name, text: explain(event.details.error) });
    } else if (!isParent && !isFileItself(event, file)) {
      result.passed++;
    }
  };
  stream.on("test:pass", (event) => onEnd(event as Event, false));
  stream.on("test:fail", (event) => onEnd(event as Event, true));
  for (const type of ["test:stdout", "test:stderr"] as const) {
    stream.on(type, ({ message }) => (result.output = (result.output + message).slice(-OUTPUT_KEPT)));
  }
  // The stream ends only when it is read.
  for await (const _ of stream) void _;
  if (result.passed + result.skipped + result.failures.length === 0) result.failures.push({ name: file, text: "The file has no tests." });
  return result;
}

/** A file that ran is reported as a test of its own when it holds none, or when its process failed. */
function isFileItself(event: Event, file: string): boolean {
  return event.nesting === 0 && (event.name === file || file.endsWith(`/${event.name}`));
}

function failureType(error: unknown): string | undefined {
  return (error as { failureType?: string } | undefined)?.failureType;
}

function explain(error: unknown): string {
  const cause = (error as { cause?: unknown } | undefined)?.cause ?? error;
  return cause instanceof Error ? inspect(cause, { depth: 4, maxStringLength: 20_000 }) : String(cause);
}

/** The failure in one line, for the end of a report of which somebody may see the end only: what went wrong, what caused that, and where. */
export function inBrief({ name, text }: Failure, length = 300): string {
  const oneLine = (lines: string): string => lines.replace(/\s+/g, " ").trim();
  const [message = ""] = text.split(/\n\s+at /);
  const causes = [...text.matchAll(/\[cause\]: (.*)/g)].map(([, first]) => `, caused by ${first}`);
  const place = (/[( /](test\/[^\s()]+\.test\.ts:\d+)/.exec(text) ?? /[( /](test\/[^\s()]+\.ts:\d+)/.exec(text))?.[1];
  return `${oneLine(name)}: ${oneLine(`${message}${causes.join("")}`).slice(0, length)}${place === undefined ? "" : ` (${place})`}`;
}

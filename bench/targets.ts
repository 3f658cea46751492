/**
 * What is measured, and what each measure must and should reach: the one table that the questions, the report and the chart read.
 *
 * Always holds: a row's numbers stand nowhere else. `share` rows compare the mount with native SQLite (or with `cp`) in the same run, so they
 * hold on any machine; `most` rows are absolute.
 */

interface Target {
  readonly measure: string;
  /** "share": score = mount / native, at least `must`. "most": score = the value itself, at most `must`. */
  readonly kind: "share" | "most";
  /** Of the native and mount columns; "x": a ratio of processor times, of less is better. */
  readonly unit: string;
  readonly must: number;
  readonly aim: number;
}

const share = (measure: string, unit: string, must: number, aim: number): Target => ({ measure, kind: "share", unit, must, aim });
const most = (measure: string, unit: string, must: number, aim: number): Target => ({ measure, kind: "most", unit, must, aim });

/** In the order of the printed table. Every row is measured with one follower on the same machine. */
export const TARGETS = {
  "insert": share("insert, 1 writer, WAL NORMAL", "tx/s", 0.80, 0.88),
  "insert-10": share("insert, 10 writer processes", "tx/s", 0.75, 0.90),
  "insert-full": share("insert of 10 rows, synchronous=FULL", "tx/s", 0.60, 0.85),
  "insert-delete": share("insert, DELETE journal, FULL", "tx/s", 0.35, 0.60),
  "mixed": share("mixed 70/30", "op/s", 0.90, 0.97),
  "reads-primary": share("point reads after opening, primary", "reads/s", 0.95, 1.00),
  "reads-follower": share("point reads after opening, follower", "reads/s", 0.95, 1.00),
  "visible-p50": most("commit to visible on the follower, p50", "ms", 1, 0.5),
  "visible-p99": most("commit to visible on the follower, p99", "ms", 5, 2),
  "sync-commit": most("sync commit over the bare gRPC round trip, p50", "us", 200, 100),
  "log-bytes": most("bytes of log per WAL byte, full speed", "", 0.3, 0.1),
  "import": share("import, against cp", "MB/s", 0.4, 0.8),
  "first-sync": share("first sync of a follower, against cp", "MB/s", 0.4, 0.8),
  "memory": most("memory of a node under load (PSS)", "MiB", 128, 96),
  "failover-kill": most("writes again after kill -9 of the primary, ttl 1 s", "ms", 1_500, 1_100),
  "failover-stop": most("writes again after a clean stop of the primary", "ms", 200, 100),
  "handoff-gap": most("gap for writers in a planned handoff", "ms", 100, 50),
  "engine-restart": most("slowest statement while the engine is killed", "ms", 1_000, 600),
  "proxy-read-haproxy": most("CPU of a local read, against HAProxy", "x", 1.3, 1.0),
  "proxy-read-http-proxy": most("CPU of a local read, against http-proxy", "x", 0.35, 0.25),
  "proxy-general": most("CPU on the general path, against http-proxy", "x", 0.8, 0.6),
  "proxy-added-p50": most("latency added by the proxy, p50", "ms", 0.15, 0.1),
  "proxy-added-p99": most("latency added by the proxy, p99", "ms", 1, 0.5),
  "proxy-idle": most("memory of an idle connection", "KiB", 12, 6),
} as const satisfies Record<string, Target>;

export type RowId = keyof typeof TARGETS;

export type Verdict = "aim" | "must" | "SHORT";

/** Which of the two marks a score reaches. */
export function verdictOf(id: RowId, score: number): Verdict {
  const target: Target = TARGETS[id];
  const reaches = (mark: number): boolean => (target.kind === "share" ? score >= mark : score <= mark);
  return reaches(target.aim) ? "aim" : reaches(target.must) ? "must" : "SHORT";
}

/** A score or a mark as people read it: "83 %" or "0.6 ms". */
export function formatScore(id: RowId, score: number): string {
  const target: Target = TARGETS[id];
  if (target.kind === "share") return `${Math.round(score * 100)} %`;
  return `${score >= 20 ? Math.round(score) : Number(score.toPrecision(2))}${target.unit === "" ? "" : ` ${target.unit}`}`;
}

/**
 * What the proxy counts. The guardian gets a copy each second over IPC; the admin endpoint prints it.
 *
 * Always holds: counters only grow while the process lives; names come from closed sets (decisions, statuses, reasons, nodes of the cluster), so the
 * object stays small whatever clients send. A request that was taken by the fast path counts as one of the general path does.
 */
export interface MetricsSnapshot {
  /** Requests answered, by decision ("local", "forward", "refuse", "invalid"), then by status; status 0 stands for "client went away". */
  readonly requests: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Requests answered, by the node whose application answered. */
  readonly nodes: Readonly<Record<string, number>>;
  /** From the first byte of a request to the head of its response, by decision. */
  readonly latency: Readonly<Record<string, Histogram>>;
  /** Requests that the proxy refused before any decision, by reason. */
  readonly invalid: Readonly<Record<string, number>>;
  readonly waits: { readonly started: number; readonly reached: number; readonly overdue: number; readonly totalMs: number };
  /** The same waits, by reason ("behind", "strong", "no-role"), and those of writes for followers ("ack"). */
  readonly waitReasons: Readonly<Record<string, number>>;
  /** Requests held for a primary, an application or a node that was away, by reason; those that were given up; those held now. */
  readonly holds: { readonly reasons: Readonly<Record<string, number>>; readonly overdue: number; readonly now: number };
  /** Failures of the application or of another node's proxy, by error code. */
  readonly upstreamErrors: Readonly<Record<string, number>>;
  /** Requests sent once more, by why that was safe ("unsent", "refused", "idempotent"). */
  readonly resends: Readonly<Record<string, number>>;
  /** Requests that an application handed to the primary. */
  readonly replays: number;
  /** Cookies replaced because they named positions that do not exist. */
  readonly cookiesMended: number;
  /** Clients without cookies that are remembered. */
  readonly clients: number;
  /** Connections to the application and to other nodes: open, and requests that wait for one. */
  readonly pool: Readonly<Record<string, number>>;
  /** Upgraded connections that are open. */
  readonly tunnels: number;
  /** Running now. */
  readonly active: number;
  /** Requests a second over the last seconds, by decision. */
  readonly rates: Readonly<Record<string, number>>;
}

/** Counts of observations up to each bound of LATENCY_BOUNDS_MS; the last one is "longer". Not cumulative. */
export interface Histogram { readonly counts: readonly number[]; readonly sumMs: number }

export const LATENCY_BOUNDS_MS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000] as const;

/** How many seconds a rate looks back. */
const RATE_SECONDS = 10;

export class Metrics {
  readonly #requests: Record<string, Record<string, number>> = {};
  readonly #nodes: Record<string, number> = {};
  readonly #latency: Record<string, { counts: number[]; sumMs: number }> = {};
  readonly #invalid: Record<string, number> = {};
  readonly #upstreamErrors: Record<string, number> = {};
  readonly #waits = { started: 0, reached: 0, overdue: 0, totalMs: 0 };
  readonly #waitReasons: Record<string, number> = {};
  readonly #holds = { reasons: {} as Record<string, number>, overdue: 0, now: 0 };
  readonly #resends: Record<string, number> = {};
  /** Sums by decision at earlier snapshots, oldest first. */
  readonly #past: { atMs: number; sums: Record<string, number> }[] = [];
  replays = 0;
  cookiesMended = 0;
  active = 0;
  tunnels = 0;
  /** Asked at each snapshot. */
  gauges: () => { readonly clients: number; readonly pool: Readonly<Record<string, number>> } = () => ({ clients: 0, pool: {} });

  /** A request is over. `node` is the one whose application answered, `latencyMs` the time to the head of its response. */
  request(decision: string, status: number, latencyMs?: number, node?: string): void {
    const byStatus = (this.#requests[decision] ??= {});
    byStatus[status] = (byStatus[status] ?? 0) + 1;
    if (node !== undefined) this.#nodes[node] = (this.#nodes[node] ?? 0) + 1;
    if (latencyMs === undefined) return;
    const histogram = (this.#latency[decision] ??= { counts: new Array<number>(LATENCY_BOUNDS_MS.length + 1).fill(0), sumMs: 0 });
    let place = 0;
    while (place < LATENCY_BOUNDS_MS.length && latencyMs > LATENCY_BOUNDS_MS[place]!) place++;
    histogram.counts[place]!++;
    histogram.sumMs += latencyMs;
  }

  invalid(reason: string): void {
    this.#invalid[reason] = (this.#invalid[reason] ?? 0) + 1;
  }

  upstreamError(code: string): void {
    this.#upstreamErrors[code] = (this.#upstreamErrors[code] ?? 0) + 1;
  }

  resent(why: "unsent" | "refused" | "idempotent"): void {
    this.#resends[why] = (this.#resends[why] ?? 0) + 1;
  }

  waitStarted(reason: string): void {
    this.#waits.started++;
    this.#waitReasons[reason] = (this.#waitReasons[reason] ?? 0) + 1;
  }

  waitEnded(reached: boolean, ms: number): void {
    this.#waits[reached ? "reached" : "overdue"]++;
    this.#waits.totalMs += Math.round(ms);
  }

  /** A request is held, for the first time or again. */
  held(reason: string, isFirst: boolean): void {
    if (isFirst) this.#holds.reasons[reason] = (this.#holds.reasons[reason] ?? 0) + 1;
    this.#holds.now++;
  }

  released(overdue: boolean): void {
    this.#holds.now--;
    if (overdue) this.#holds.overdue++;
  }

  get heldNow(): number {
    return this.#holds.now;
  }

  snapshot(nowMs: number = performance.now()): MetricsSnapshot {
    return {
      requests: this.#requests, nodes: this.#nodes, latency: this.#latency, invalid: this.#invalid, waits: this.#waits, waitReasons: this.#waitReasons, holds: this.#holds,
      upstreamErrors: this.#upstreamErrors, resends: this.#resends, replays: this.replays, cookiesMended: this.cookiesMended, tunnels: this.tunnels, active: this.active,
      rates: this.#rates(nowMs), ...this.gauges(),
    };
  }

  #rates(nowMs: number): Record<string, number> {
    const sums = Object.fromEntries(Object.entries(this.#requests).map(([decision, byStatus]) => [decision, Object.values(byStatus).reduce((sum, count) => sum + count, 0)]));
    while (this.#past.length > 1 && nowMs - this.#past[1]!.atMs >= RATE_SECONDS * 1_000) this.#past.shift();
    const past = this.#past[0];
    this.#past.push({ atMs: nowMs, sums });
    if (past === undefined || nowMs <= past.atMs) return {};
    const seconds = (nowMs - past.atMs) / 1_000;
    return Object.fromEntries(Object.entries(sums).map(([decision, sum]) => [decision, Math.round(((sum - (past.sums[decision] ?? 0)) / seconds) * 10) / 10]));
  }
}

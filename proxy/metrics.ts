/**
 * What the proxy counts. The guardian gets a copy each second over IPC; the admin endpoint prints it.
 *
 * Always holds: counters only grow while the process lives; names come from closed sets (decisions, statuses, reasons), so the object stays small
 * whatever clients send.
 */
export interface MetricsSnapshot {
  /** Requests answered, by decision ("local", "forward", "refuse", "invalid"), then by status; status 0 stands for "client went away". */
  readonly requests: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Requests that the proxy refused before any decision, by reason. */
  readonly invalid: Readonly<Record<string, number>>;
  readonly waits: { readonly started: number; readonly reached: number; readonly overdue: number; readonly totalMs: number };
  /** Failures of the application or of another node's proxy, by error code. */
  readonly upstreamErrors: Readonly<Record<string, number>>;
  /** Requests sent a second time because the first connection had gone stale. */
  readonly retries: number;
  /** Cookies replaced because they named positions that do not exist. */
  readonly cookiesMended: number;
  /** Running now. */
  readonly active: number;
}

export class Metrics {
  readonly #requests: Record<string, Record<string, number>> = {};
  readonly #invalid: Record<string, number> = {};
  readonly #upstreamErrors: Record<string, number> = {};
  readonly #waits = { started: 0, reached: 0, overdue: 0, totalMs: 0 };
  retries = 0;
  cookiesMended = 0;
  active = 0;

  request(decision: string, status: number): void {
    const byStatus = (this.#requests[decision] ??= {});
    byStatus[status] = (byStatus[status] ?? 0) + 1;
  }

  invalid(reason: string): void {
    this.#invalid[reason] = (this.#invalid[reason] ?? 0) + 1;
  }

  upstreamError(code: string): void {
    this.#upstreamErrors[code] = (this.#upstreamErrors[code] ?? 0) + 1;
  }

  waitStarted(): void {
    this.#waits.started++;
  }

  waitEnded(reached: boolean, ms: number): void {
    this.#waits[reached ? "reached" : "overdue"]++;
    this.#waits.totalMs += Math.round(ms);
  }

  snapshot(): MetricsSnapshot {
    return {
      requests: this.#requests, invalid: this.#invalid, waits: this.#waits, upstreamErrors: this.#upstreamErrors,
      retries: this.retries, cookiesMended: this.cookiesMended, active: this.active,
    };
  }
}

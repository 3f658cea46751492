/**
 * Whether a request whose attempt failed is sent again, and when.
 *
 * Always holds: pure but for the memory of when the application went away. A request goes again only with its body still at hand, and only if no byte of
 * it can have been acted on ("unsent"), or if its method is idempotent and it broke; the latter a bounded number of times.
 */
import type { Exchange } from "./exchange.ts";
import type { Failure } from "./relay.ts";

/** RFC 9110, section 9.2.2. */
const IDEMPOTENT: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);

/** Pauses between attempts: the first repeats at once, since an idle connection that has gone says nothing about the next one. */
const PAUSES_MS = [0, 25, 50, 100, 200];
/** How often a request is sent again that may have been acted on; once if the connection was new, because then it may be its doing. */
const REPEATS_MAX = 3;
const REPEATS_NEW_MAX = 1;

/** How long to wait before the next attempt, after so many failed ones in a row. */
export function pauseMs(failures: number): number {
  return PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]!;
}

/** Whether the method may be executed twice, and this attempt leaves room for another one. */
export function mayRepeat({ request, resends }: Pick<Exchange, "request" | "resends">, { kind, wasNew }: Failure): boolean {
  return kind === "broke" && IDEMPOTENT.has(request.method ?? "") && resends < (wasNew ? REPEATS_NEW_MAX : REPEATS_MAX);
}

/** An application that does not accept connections: how long that has been so. */
export class Absence {
  #sinceMs: number | undefined;
  readonly #boundMs: number;

  constructor(boundMs: number) {
    this.#boundMs = boundMs;
  }

  /** It answers. */
  over(): void {
    this.#sinceMs = undefined;
  }

  /** It does not accept connections. Whether it may be restarting: one that has been away for long is not coming back in a moment. */
  mayBeRestart(nowMs: number): boolean {
    this.#sinceMs ??= nowMs;
    return nowMs - this.#sinceMs < this.#boundMs;
  }
}

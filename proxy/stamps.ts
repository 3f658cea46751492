/**
 * What a response tells its client about positions: `Sluice-Node`, `Sluice-Txid`, the cookie, and on request how long each step took.
 *
 * Always holds: a position that a client is told exists, and covers what the application had committed before it sent its head; what it commits
 * while its response streams on is not covered. The number of followers that have a write is what the engine counted, never what was asked for.
 * A success whose write may have been lost with the lease is not told as one. A response with a cookie is private. An engine that is away is waited for up to `maxLag`; then the response goes out without a position, and the client merely loses the promise.
 */
import type { Logger } from "pino";
import { setCookie, type CookieSettings, readSetCookie } from "./cookie.ts";
import type { Clients } from "./clients.ts";
import type { EngineView } from "./engine-view.ts";
import type { Exchange } from "./exchange.ts";
import { SLUICE_ACKED, SLUICE_NODE, SLUICE_REQUEST_ID, SLUICE_TIMING, SLUICE_TXID } from "./headers.ts";
import type { Metrics } from "./metrics.ts";
import { countedMarks, formatMarks, NO_MARKS, reachedAll, type Marks } from "./positions.ts";
import type { AddedFields, RawFields } from "./relay.ts";

export interface StampParts {
  readonly view: EngineView;
  readonly clients: Clients;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly cookie: CookieSettings;
  readonly nodeName: string;
  /** How long a response waits for an engine that is away. */
  readonly maxLagMs: number;
  /** For writes that do not say how many followers they want. */
  readonly ack: number;
  readonly ackTimeoutMs: number;
}

/** Pause before an engine is asked again that gave no answer. */
const ASK_AGAIN_MS = 100;
const TIMING_FIELD = SLUICE_TIMING.toLowerCase();

export class Stamps {
  readonly #parts: StampParts;
  readonly #nodeName: string;
  /** The text of the positions that were asked for last: the same for thousands of reads. */
  #shown: { marks: Marks; text: string } = { marks: NO_MARKS, text: "" };

  constructor(parts: StampParts) {
    this.#parts = parts;
    this.#nodeName = encodeURIComponent(parts.nodeName);
  }

  /** For a response of this node's application that only read. */
  read(exchange: Exchange, positions: Marks | undefined): AddedFields {
    return { fields: this.#fields(exchange, positions), isPrivate: false };
  }

  /** For a response of this node's application that may have written; dropped where nobody can tell whether what it wrote is kept. */
  async written(exchange: Exchange): Promise<AddedFields> {
    const deadline = performance.now() + this.#parts.maxLagMs;
    const positions = await this.#flush(exchange, "no position for a write");
    const wanted = exchange.ack ?? this.#parts.ack;
    const acked = wanted === 0 ? undefined : positions === undefined ? 0 : await this.#replicated(exchange, positions, wanted);
    const isEnough = acked !== undefined && acked > 0 && acked >= wanted;
    // What the application itself calls a failure claims nothing, and an upgrade neither.
    if (positions !== undefined && !isEnough && exchange.response !== undefined && exchange.upstreamStatus < 400 && await this.#isInDoubt(exchange, deadline)) return { fields: [], isPrivate: false, isDropped: true };
    const added = positions === undefined ? this.read(exchange, undefined) : this.#told(exchange, this.#newest(positions));
    return acked === undefined ? added : { ...added, fields: [...added.fields, SLUICE_ACKED, String(acked)] };
  }

  /**
   * Whether this node has lost the lease since the write began, other than by a handoff, which takes along what was written. Then another primary's history
   * may have taken the place of the write. An engine that was started again is waited for until it knows: it may go on under its lease, or take the
   * next one itself.
   */
  async #isInDoubt({ write }: Exchange, deadline: number): Promise<boolean> {
    const { view, nodeName } = this.#parts;
    if (write === undefined) return false;
    for (;;) {
      const state = view.state();
      if (view.drains !== write.drains || (state?.role === "primary" && state.epoch <= write.epoch + 1)) return false;
      if (state?.role === "follower" && state.primary !== undefined && state.primary.name !== nodeName) return true;
      const leftMs = deadline - performance.now();
      // Without an engine nobody knows more than before; with one, this node is not the primary any more.
      if (leftMs <= 0) return state !== undefined;
      await view.changed(leftMs);
    }
  }

  /**
   * What this node knows by now, if that covers `positions`. A client's later write may have been answered while this one waited for followers;
   * its cookie must not be replaced by one that says less.
   */
  #newest(positions: Marks): Marks {
    const now = this.#parts.view.state()?.positions;
    return now !== undefined && reachedAll(now, positions) ? now : positions;
  }

  /** Waits, within bounds, until `wanted` followers have what was written. Returns how many really have. */
  async #replicated(exchange: Exchange, positions: Marks, wanted: number): Promise<number> {
    const { view, metrics, log, ackTimeoutMs } = this.#parts;
    const begun = performance.now();
    metrics.waitStarted("ack");
    let acked = 0;
    try {
      acked = await view.replicated(countedMarks(positions, exchange.rule.counts), wanted, ackTimeoutMs);
    } catch (error) {
      log.warn({ id: exchange.id, reason: (error as Error).message }, "nobody could say which followers have a write");
    }
    exchange.ackMs = performance.now() - begun;
    metrics.waitEnded(acked >= wanted, exchange.ackMs);
    return acked;
  }

  /** On the primary, a cookie that names what does not exist would make followers wait for nothing: it is replaced. */
  async mended(exchange: Exchange): Promise<AddedFields> {
    const positions = await this.#flush(exchange, "no position for a read");
    if (positions === undefined || reachedAll(positions, exchange.want ?? NO_MARKS)) return this.read(exchange, positions);
    this.#parts.metrics.cookiesMended++;
    this.#parts.clients.forget(exchange.clientKey);
    return this.#told(exchange, positions);
  }

  /** For a response that came from another node, which has said all that there is to say. */
  forwarded(exchange: Exchange, raw: RawFields): AddedFields {
    const { clients, cookie } = this.#parts;
    if (exchange.clientKey !== undefined) {
      for (let i = 0; i + 1 < raw.length; i += 2) {
        if (raw[i]!.length !== 10 || raw[i]!.toLowerCase() !== "set-cookie") continue;
        const marks = readSetCookie(raw[i + 1]!, cookie.name);
        if (marks !== undefined) clients.remember(exchange.clientKey, marks);
      }
    }
    return { fields: this.#timed(exchange, [SLUICE_REQUEST_ID, exchange.id]), isPrivate: false };
  }

  #told(exchange: Exchange, positions: Marks): AddedFields {
    const fields = this.#fields(exchange, positions);
    const { clients, cookie } = this.#parts;
    clients.remember(exchange.clientKey, positions);
    if (!clients.cookies || !exchange.rule.cookie) return { fields, isPrivate: false };
    fields.push("Set-Cookie", setCookie(positions, cookie));
    return { fields, isPrivate: true };
  }

  async #flush(exchange: Exchange, complaint: string): Promise<Marks | undefined> {
    const { view, log, maxLagMs } = this.#parts;
    const deadline = performance.now() + maxLagMs;
    for (;;) {
      try {
        return await view.positions(true);
      } catch (error) {
        // An engine that restarts is back in a moment, and captures then what was committed before.
        const leftMs = deadline - performance.now();
        if (leftMs > 0) {
          await view.changed(Math.min(leftMs, ASK_AGAIN_MS));
          continue;
        }
        // What the application did is done, and its response must arrive.
        log.warn({ id: exchange.id, reason: (error as Error).message }, complaint);
        return undefined;
      }
    }
  }

  /** Fields of every response of this node's application. The positions are a lower bound of what it can have read. */
  #fields(exchange: Exchange, positions: Marks | undefined): string[] {
    const fields = [SLUICE_NODE, this.#nodeName, SLUICE_REQUEST_ID, exchange.id];
    if (positions !== undefined && positions.size > 0) {
      if (this.#shown.marks !== positions) this.#shown = { marks: positions, text: formatMarks(positions) };
      fields.push(SLUICE_TXID, this.#shown.text);
    }
    return this.#timed(exchange, fields);
  }

  #timed(exchange: Exchange, fields: string[]): string[] {
    if (exchange.request.headers[TIMING_FIELD] === undefined) return fields;
    const entries = [`sluice;desc="${exchange.decision} ${exchange.reason ?? ""}${exchange.replayed ? " replayed" : ""}"`];
    if (exchange.waitedMs > 0) entries.push(`wait;dur=${exchange.waitedMs.toFixed(1)}`);
    if (exchange.heldMs > 0) entries.push(`hold;dur=${exchange.heldMs.toFixed(1)}`);
    if (exchange.ackMs > 0) entries.push(`ack;dur=${exchange.ackMs.toFixed(1)}`);
    entries.push(`upstream;dur=${(exchange.headMs - exchange.sentMs).toFixed(1)}`);
    fields.push("Server-Timing", entries.join(", "));
    return fields;
  }
}

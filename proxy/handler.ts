/**
 * What happens to one request, from its head to the choice of who answers it.
 *
 * The order: check the head, find the path rule, read the cookie, decide, perhaps wait and decide again, then relay or refuse. Always holds: all
 * deciding is in check.ts, rules.ts and decide.ts; this file gathers the facts and does what comes out. A request waits at most `maxLag`
 * in sum.
 */
import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Logger } from "pino";
import { answer, type AnswerCode, type AnswerOptions } from "./answer.ts";
import { checkRequest, type CheckedRequest, type Fault } from "./check.ts";
import type { ProxyConfig } from "./config.ts";
import { readCookie, setCookie } from "./cookie.ts";
import { decide, methodClass, needsPrimary, type Facts, type Reason } from "./decide.ts";
import type { EngineView, NodeView } from "./engine-view.ts";
import { formatHop, readHop, readRequestId, requestFields, SLUICE_HOP, SLUICE_NODE, SLUICE_REQUEST_ID, SLUICE_TXID } from "./headers.ts";
import type { Metrics } from "./metrics.ts";
import { formatMarks, NO_MARKS, reachedAll, type Marks } from "./positions.ts";
import { relay } from "./relay.ts";
import { ruleMatcher, type RuleMatcher } from "./rules.ts";
import type { Upstreams } from "./upstreams.ts";

export interface HandlerParts {
  readonly config: ProxyConfig;
  readonly view: EngineView;
  readonly upstreams: Upstreams;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** What the client's Expect field says. */
export type Expectation = "nothing" | "continue" | "unknown";

/** A request that passed the checks, and what has been found out about it. */
interface Exchange {
  readonly id: string;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly expectsContinue: boolean;
  readonly startedMs: number;
  checked: CheckedRequest;
  rule: Facts["rule"];
  hop: { readonly node: string; readonly epoch: number } | undefined;
  /** What the cookie asks for. */
  want: Marks | undefined;
  /** Set when a wait ended well, to the positions at that moment. */
  reachedAt: Marks | undefined;
  patience: Facts["lag"];
  waitedMs: number;
  decision: "invalid" | "local" | "forward" | "refuse";
  reason: Reason | Fault | "size" | "path" | "expectation" | undefined;
  upstreamError: string | undefined;
}

const NO_REQUEST: CheckedRequest = { target: "", host: undefined, body: { kind: "none" } };
const STATUS_OF_FAULT: Partial<Record<Fault, number>> = { version: 505, fields: 431 };

export class Handler {
  readonly #parts: HandlerParts;
  readonly #ruleOf: RuleMatcher;
  readonly #nodeName: string;
  readonly #idPrefix = randomBytes(6).toString("hex");
  #idNext = 0;
  #stopping = false;
  /** The text of the positions that were asked for last: the same for thousands of reads. */
  #shown: { marks: Marks; text: string } = { marks: NO_MARKS, text: "" };

  constructor(parts: HandlerParts) {
    this.#parts = parts;
    this.#ruleOf = ruleMatcher(parts.config.rules);
    this.#nodeName = encodeURIComponent(parts.config.node.name);
  }

  /** Client connections end with their running response from now on. */
  stop(): void {
    this.#stopping = true;
  }

  nextId(): string {
    return `${this.#idPrefix}-${(this.#idNext++).toString(36)}`;
  }

  /** Takes over a request from Node's server. */
  handle(request: IncomingMessage, response: ServerResponse, expects: Expectation): void {
    const hop = readHop(request.headers[SLUICE_HOP.toLowerCase()]);
    const exchange: Exchange = {
      id: (hop === undefined ? undefined : readRequestId(request.headers[SLUICE_REQUEST_ID.toLowerCase()])) ?? this.nextId(),
      request, response, expectsContinue: expects === "continue", startedMs: performance.now(), checked: NO_REQUEST, rule: "none", hop, want: undefined, reachedAt: undefined,
      patience: this.#parts.config.maxLagMs > 0 ? "left" : "spent", waitedMs: 0, decision: "invalid", reason: undefined, upstreamError: undefined,
    };
    this.#parts.metrics.active++;
    response.once("close", () => this.#closed(exchange));
    if (expects === "unknown") this.#invalid(exchange, "expectation", "EXPECTATION", { close: true });
    else if (this.#check(exchange)) void this.#proceed(exchange);
  }

  /** Whether the request may go on; when not, it has been answered. */
  #check(exchange: Exchange): boolean {
    const { request, response } = exchange;
    const { limits } = this.#parts.config;
    const checked = checkRequest({ method: request.method ?? "", url: request.url ?? "", httpVersion: request.httpVersion, rawHeaders: request.rawHeaders }, limits.headerCount);
    if ("fault" in checked) {
      const status = STATUS_OF_FAULT[checked.fault];
      this.#invalid(exchange, checked.fault, "INVALID", { sentence: checked.sentence, close: true, ...(status === undefined ? {} : { status }) });
      return false;
    }
    if (checked.target === "*") {
      // A question about this server as a whole (RFC 9110, section 9.3.7): nothing for the application.
      response.writeHead(204, [SLUICE_REQUEST_ID, exchange.id]).end();
      return false;
    }
    if (checked.body.kind === "length" && checked.body.bytes > limits.bodyBytes) {
      this.#invalid(exchange, "size", "BODY_LARGE", {});
      return false;
    }
    const rule = this.#ruleOf(checked.target);
    if (rule === "ambiguous") {
      this.#invalid(exchange, "path", "AMBIGUOUS_PATH", {});
      return false;
    }
    exchange.checked = checked;
    exchange.rule = rule;
    exchange.want = readCookie(request.headers.cookie);
    return true;
  }

  async #proceed(exchange: Exchange): Promise<void> {
    try {
      for (;;) {
        const state = this.#parts.view.state();
        const facts = this.#facts(exchange, state);
        const { action, reason } = decide(facts);
        exchange.reason = reason;
        if (action === "wait" || action === "hold") {
          await this.#wait(exchange, facts);
          if (exchange.response.destroyed) return;
          continue;
        }
        exchange.decision = action;
        if (action === "local") this.#local(exchange, facts, state);
        else if (action === "forward") this.#forward(exchange, state);
        else this.#refuse(exchange, reason);
        return;
      }
    } catch (error) {
      this.#parts.log.error({ err: error, id: exchange.id }, "request handling failed");
      this.#answer(exchange, "INTERNAL", {});
    }
  }

  #facts(exchange: Exchange, state: NodeView | undefined): Facts {
    const { hop, want } = exchange;
    // The sender has seen a newer lease than this node: whatever this node thinks, it is not the primary any more.
    const outdated = state?.role === "primary" && hop !== undefined && hop.epoch > state.epoch;
    const role = state === undefined ? "unknown" : state.role === "primary" && !outdated ? "primary" : "follower";
    const reached = want === undefined || exchange.reachedAt !== undefined || (state !== undefined && reachedAll(state.positions, want));
    const other = state?.primary;
    return {
      rule: exchange.rule,
      method: methodClass(exchange.request.method ?? ""),
      role,
      position: reached ? "reached" : "behind",
      primary: !outdated && other !== undefined && other.proxy !== "" && other.name !== this.#parts.config.node.name ? "known" : "unknown",
      hop: hop === undefined ? "direct" : "forwarded",
      consistency: "session",
      lag: exchange.patience,
      hold: exchange.patience,
    };
  }

  async #wait(exchange: Exchange, facts: Facts): Promise<void> {
    const { view, metrics, config } = this.#parts;
    metrics.waitStarted();
    const begun = performance.now();
    // What goes to the primary only has to know where that is; a read wants its positions as well.
    const want = needsPrimary(facts) ? NO_MARKS : (exchange.want ?? NO_MARKS);
    const result = await view.wait(want, Math.max(0, config.maxLagMs - exchange.waitedMs));
    exchange.waitedMs += performance.now() - begun;
    metrics.waitEnded(result.reached, performance.now() - begun);
    if (result.reached && !needsPrimary(facts)) exchange.reachedAt = result.positions;
    if (!result.reached || exchange.waitedMs >= config.maxLagMs) exchange.patience = "spent";
  }

  #local(exchange: Exchange, facts: Facts, state: NodeView | undefined): void {
    const positions = exchange.reachedAt ?? state?.positions;
    const mayHaveWritten = facts.role === "primary" && (facts.method === "write" || facts.rule === "primary");
    const mend = facts.role === "primary" && facts.position === "behind";
    this.#relay(exchange, "application", () => {
      if (mayHaveWritten) return this.#afterWrite(exchange);
      if (mend) return this.#mendCookie(exchange);
      return this.#shownFields(exchange, positions);
    });
  }

  #forward(exchange: Exchange, state: NodeView | undefined): void {
    const dispatcher = this.#parts.upstreams.peer(state?.primary?.proxy ?? "");
    if (dispatcher === undefined) this.#refuse(exchange, "no-primary");
    else this.#relay(exchange, "peer", () => [SLUICE_REQUEST_ID, exchange.id], dispatcher, state);
  }

  #relay(exchange: Exchange, to: "application" | "peer", added: () => readonly string[] | Promise<readonly string[]>, dispatcher = this.#parts.upstreams.application, state?: NodeView): void {
    const { request, response, id, checked, expectsContinue } = exchange;
    const { config, metrics, log } = this.#parts;
    relay({
      request, response, id, checked, dispatcher, from: to, expectsContinue, added, limits: config.limits,
      fields: requestFields(request.rawHeaders, {
        to, requestId: id, httpVersion: request.httpVersion, clientAddress: clientAddress(request), hop: formatHop(config.node.name, state?.epoch ?? 0),
      }),
      closing: () => this.#stopping,
      onRetry: () => void metrics.retries++,
      onUpstreamError: (code, error) => {
        exchange.upstreamError = code;
        metrics.upstreamError(code);
        log.warn({ id, to, code, method: request.method, url: checked.target, reason: error.message }, to === "peer" ? "the primary failed" : "the application failed");
      },
    });
  }

  #refuse(exchange: Exchange, reason: Reason): void {
    exchange.decision = "refuse";
    exchange.reason = reason;
    this.#answer(exchange, reason === "not-primary" ? "NOT_PRIMARY" : reason === "no-role" ? "NO_ROLE" : "NO_PRIMARY", {});
  }

  /**
   * The positions once the head of a response is there cover everything the application committed before it answered. What it commits
   * while its response streams on is not covered.
   */
  async #afterWrite(exchange: Exchange): Promise<readonly string[]> {
    try {
      const positions = await this.#parts.view.positions(true);
      return [...this.#shownFields(exchange, positions), "Set-Cookie", setCookie(positions)];
    } catch (error) {
      // The write has happened and its response must arrive; the client merely loses the promise to read its own write elsewhere.
      this.#parts.log.warn({ id: exchange.id, reason: (error as Error).message }, "no position for a write");
      return this.#shownFields(exchange, undefined);
    }
  }

  /** On the primary, a cookie that names what does not exist would make followers wait for nothing: it is replaced. */
  async #mendCookie(exchange: Exchange): Promise<readonly string[]> {
    const { view, metrics, log } = this.#parts;
    try {
      const positions = await view.positions(true);
      const fields = this.#shownFields(exchange, positions);
      if (reachedAll(positions, exchange.want ?? NO_MARKS)) return fields;
      metrics.cookiesMended++;
      return [...fields, "Set-Cookie", setCookie(positions)];
    } catch (error) {
      log.warn({ id: exchange.id, reason: (error as Error).message }, "no position for a read");
      return this.#shownFields(exchange, undefined);
    }
  }

  /** Fields of every response of this node's application. The positions are a lower bound of what it can have read. */
  #shownFields(exchange: Exchange, positions: Marks | undefined): string[] {
    const fields = [SLUICE_NODE, this.#nodeName, SLUICE_REQUEST_ID, exchange.id];
    if (positions === undefined || positions.size === 0) return fields;
    if (this.#shown.marks !== positions) this.#shown = { marks: positions, text: formatMarks(positions) };
    fields.push(SLUICE_TXID, this.#shown.text);
    return fields;
  }

  #invalid(exchange: Exchange, reason: NonNullable<Exchange["reason"]>, code: AnswerCode, options: Partial<AnswerOptions>): void {
    exchange.reason = reason;
    this.#parts.metrics.invalid(reason);
    this.#answer(exchange, code, options);
  }

  #answer(exchange: Exchange, code: AnswerCode, options: Partial<AnswerOptions>): void {
    const { request, response, id, expectsContinue } = exchange;
    answer(request, response, this.#parts.config.limits, code, { close: expectsContinue || this.#stopping, ...options, id });
  }

  #closed(exchange: Exchange): void {
    const { request, response, decision, reason, id } = exchange;
    const { metrics, log } = this.#parts;
    metrics.active--;
    const status = response.headersSent ? response.statusCode : 0;
    metrics.request(decision, status);
    if (log.isLevelEnabled("debug")) {
      log.debug({
        id, method: request.method, url: request.url, status, decision, reason, complete: response.writableFinished, client: clientAddress(request),
        ms: Math.round((performance.now() - exchange.startedMs) * 10) / 10, waitedMs: Math.round(exchange.waitedMs), upstreamError: exchange.upstreamError,
        from: exchange.hop?.node,
      }, "request");
    }
  }
}

/** The address of the peer of this connection, IPv4 in its usual form. */
function clientAddress(request: IncomingMessage): string {
  const address = request.socket.remoteAddress ?? "unknown";
  return address.startsWith("::ffff:") ? address.slice(7) : address;
}

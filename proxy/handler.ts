/**
 * What happens to one request, from its head to the choice of who answers it.
 *
 * The order: admit it (head, path rule, what the client has to see), decide, perhaps wait or hold and decide again, then relay or refuse; a relay that
 * failed before a response began, and may be sent again, comes back to the decision. Always holds: all deciding is in admission.ts, decide.ts and
 * retry.ts; this file gathers the facts and does what comes out. A request waits at most `maxLag` and is held at most
 * `hold`, each in sum; one that may have been acted on is sent again only if its method is idempotent.
 */
import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { writeAccess } from "./access-log.ts";
import { Admission } from "./admission.ts";
import { answer, answerSocket, linger, type AnswerCode, type AnswerOptions } from "./answer.ts";
import { BodySource, Room } from "./body.ts";
import { Clients } from "./clients.ts";
import type { ProxyConfig } from "./config.ts";
import { peerOf } from "./door.ts";
import { decide, needsPrimary, type Facts, type Reason } from "./decide.ts";
import type { EngineView, NodeView } from "./engine-view.ts";
import { Wheel } from "./fast-wheel.ts";
import { factsOf, isGone, isHoldLeft, newExchange, type Exchange, type Expectation } from "./exchange.ts";
import { announcedTrailers, formatHop, rawField, readHop, readRequestId, requestFields, requestTrailers, SLUICE_HOP, SLUICE_REFUSED, SLUICE_REPLAY, SLUICE_REQUEST_ID } from "./headers.ts";
import type { Metrics } from "./metrics.ts";
import { countedMarks, NO_MARKS } from "./positions.ts";
import { answerFor, relay, type AddedFields, type Failure, type RawFields } from "./relay.ts";
import { Absence, mayRepeat, pauseMs } from "./retry.ts";
import { Stamps } from "./stamps.ts";
import { openTunnel, type TunnelTask } from "./tunnel.ts";
import type { Upstream, Upstreams } from "./upstreams.ts";

export interface HandlerParts {
  readonly config: ProxyConfig;
  readonly view: EngineView;
  readonly upstreams: Upstreams;
  readonly metrics: Metrics;
  readonly log: Logger;
}

const HOP_FIELD = SLUICE_HOP.toLowerCase();
const REQUEST_ID_FIELD = SLUICE_REQUEST_ID.toLowerCase();
const REFUSED_FIELD = SLUICE_REFUSED.toLowerCase();
const REPLAY_FIELD = SLUICE_REPLAY.toLowerCase();

/** How long to wait before the primary is asked again after it gave no answer. */
const ASK_AGAIN_MS = 50;

/** A body of at most so many bytes is sent on in one piece if it has come in one. */
const WHOLE_BYTES_MAX = 16 << 10;

export class Handler {
  readonly #parts: HandlerParts;
  readonly #admission: Admission;
  readonly #absence: Absence;
  readonly #stamps: Stamps;
  readonly #room: Room;
  readonly #wheel = new Wheel();
  readonly #idPrefix = randomBytes(6).toString("hex");
  #idNext = 0;
  #stopping = false;
  /** Upgraded connections that are open. */
  readonly #tunnels = new Set<Socket>();
  /** These, and those that wait for their handshake or their end: Node's server knows none of them any more. */
  readonly #detached = new Set<Socket>();

  constructor(parts: HandlerParts) {
    this.#parts = parts;
    const { config, view, metrics, log, upstreams } = parts;
    const clients = new Clients(config.clients, { count: config.limits.clients, ageMs: config.cookie.maxAgeMs });
    this.#admission = new Admission(config, clients);
    this.#absence = new Absence(config.limits.targetRestartMs);
    this.#stamps = new Stamps({ view, clients, metrics, log, cookie: config.cookie, nodeName: config.node.name, maxLagMs: config.maxLagMs, ack: config.ack, ackTimeoutMs: config.ackTimeoutMs });
    this.#room = new Room(config.limits.keptBytes);
    metrics.gauges = () => ({ clients: clients.count, pool: upstreams.counts() });
  }

  /** Client connections end with their running response from now on. */
  stop(): void {
    this.#stopping = true;
  }

  nextId(): string {
    return `${this.#idPrefix}-${(this.#idNext++).toString(36)}`;
  }

  /** Takes over a request from Node's server, which says when it is over by `closed`. */
  handle(request: IncomingMessage, response: ServerResponse, expects: Expectation): Exchange {
    const exchange = this.#newExchange(request, response, expects);
    this.#parts.metrics.active++;
    response.on("error", ignore);
    if (expects === "unknown") this.#invalid(exchange, "expectation", "EXPECTATION", { close: true });
    else if (this.#check(exchange)) this.#begin(exchange);
    return exchange;
  }

  /** The response is out, or the client has gone. */
  closed(exchange: Exchange): void {
    const { response } = exchange;
    this.#closed(exchange, response?.headersSent === true ? response.statusCode : 0);
    exchange.attempt?.clientClosed();
  }

  /**
   * The client has ended its side while this request is under way: it has gone, or waits for a last response, and nobody can tell. What is held is not
   * executed any more; what runs goes on as long as pieces of its response come within the time in which most do.
   */
  clientEnded(exchange: Exchange): void {
    const { socket } = exchange.request;
    if (exchange.heldNow) this.#refuse(exchange, "no-primary", "HELD_ENDED");
    let written = socket.bytesWritten;
    const watch = setInterval(() => {
      if (socket.writableLength === 0 && socket.bytesWritten === written) socket.destroy();
      written = socket.bytesWritten;
    }, this.#parts.config.limits.lingerMs);
    socket.once("close", () => clearInterval(watch));
  }

  /** Takes over an upgrade, whose connection Node's server has let go. */
  upgrade(request: IncomingMessage, socket: Socket, early: Buffer): void {
    const exchange = this.#newExchange(request, undefined, "nothing");
    exchange.early = early;
    this.#parts.metrics.active++;
    socket.on("error", () => socket.destroy());
    this.#detached.add(socket);
    socket.once("close", () => {
      this.#detached.delete(socket);
      if (this.#tunnels.delete(socket)) this.#parts.metrics.tunnels--;
      else this.#closed(exchange, 0);
    });
    if (this.#check(exchange)) this.#step(exchange);
  }

  /** Ends upgraded connections, which do not end by themselves: with their last bytes, or at once. */
  endTunnels(now: boolean): void {
    for (const socket of now ? this.#detached : this.#tunnels) {
      if (now) socket.destroy();
      else socket.destroySoon();
    }
  }

  #newExchange(request: IncomingMessage, response: ServerResponse | undefined, expects: Expectation): Exchange {
    const hop = readHop(request.headers[HOP_FIELD]);
    const id = (hop === undefined ? undefined : readRequestId(request.headers[REQUEST_ID_FIELD])) ?? this.nextId();
    return newExchange(id, request, response, expects, hop);
  }

  /** Whether the request may go on; when not, it has been answered. */
  #check(exchange: Exchange): boolean {
    const { request, response } = exchange;
    const asked = this.#admission.admit(request);
    if (asked === "server") {
      response?.writeHead(204, [SLUICE_REQUEST_ID, exchange.id]).end();
      return false;
    }
    if ("code" in asked) {
      this.#invalid(exchange, asked.reason, asked.code, asked.options);
      return false;
    }
    exchange.checked = asked.checked;
    exchange.rule = asked.rule;
    exchange.consistency = asked.consistency;
    exchange.ack = asked.ack;
    exchange.clientKey = asked.clientKey;
    exchange.want = asked.want;
    const { body } = asked.checked;
    if (body.kind === "chunked" || (body.kind === "length" && body.bytes > 0)) {
      exchange.body = new BodySource(request, { limits: this.#parts.config.limits, room: this.#room, onWanted: () => exchange.expectsContinue && response?.writeContinue() });
    }
    return true;
  }

  /** A short body has usually come with its head. The parser hands it out in this turn, right behind the request; then it is sent on in one piece. */
  #begin(exchange: Exchange): void {
    const { checked, body, expectsContinue } = exchange;
    if (body === undefined || expectsContinue || checked.body.kind !== "length" || checked.body.bytes > WHOLE_BYTES_MAX) {
      this.#step(exchange);
      return;
    }
    const { bytes } = checked.body;
    process.nextTick(() => {
      body.takeWhole(bytes);
      this.#step(exchange);
    });
  }

  /** One decision, and what follows from it. */
  #step(exchange: Exchange): void {
    if (isGone(exchange) || exchange.response?.headersSent === true) return;
    try {
      const state = this.#parts.view.state();
      const facts = factsOf(exchange, state, this.#parts.config.node.name, this.#parts.config);
      const { action, reason } = decide(facts);
      exchange.reason = reason;
      switch (action) {
        case "local": this.#local(exchange, facts, state); break;
        case "forward": this.#forward(exchange, facts, state); break;
        case "wait": this.#later(exchange, this.#wait(exchange, facts)); break;
        case "hold": this.#later(exchange, this.#hold(exchange, reason, (leftMs) => this.#parts.view.changed(leftMs))); break;
        case "refuse": this.#refuse(exchange, reason); break;
      }
    } catch (error) {
      this.#fail(exchange, error);
    }
  }

  #later(exchange: Exchange, work: Promise<void>): void {
    work.then(() => this.#step(exchange), (error: unknown) => this.#fail(exchange, error));
  }

  #fail(exchange: Exchange, error: unknown): void {
    this.#parts.log.error({ err: error, id: exchange.id }, "request handling failed");
    this.#answer(exchange, "INTERNAL", {});
  }

  async #wait(exchange: Exchange, facts: Facts): Promise<void> {
    const { view, metrics, config } = this.#parts;
    const begun = performance.now();
    const leftMs = (): number => Math.max(0, config.maxLagMs - exchange.waitedMs - (performance.now() - begun));
    metrics.waitStarted(facts.role === "unknown" ? "no-role" : exchange.consistency === "strong" ? "strong" : "behind");
    let isReached = false;
    if (exchange.consistency === "strong" && !exchange.asked) await this.#askPrimary(exchange, leftMs());
    if (exchange.consistency !== "strong" || exchange.asked) {
      const result = await view.wait(exchange.want ?? NO_MARKS, leftMs());
      isReached = result.reached;
      if (isReached) exchange.reachedAt = result.positions;
    }
    const tookMs = performance.now() - begun;
    exchange.waitedMs += tookMs;
    metrics.waitEnded(isReached, tookMs);
  }

  /** Asks the primary where it is; what it says is what this read has to see. */
  async #askPrimary(exchange: Exchange, leftMs: number): Promise<void> {
    const { view } = this.#parts;
    const timer = new AbortController();
    try {
      const marks = await Promise.race([view.primaryPositions(), sleep(leftMs, undefined, { signal: timer.signal })]);
      if (marks === undefined) return;
      exchange.want = countedMarks(marks, exchange.rule.counts);
      exchange.asked = true;
    } catch {
      // It may be changing; the time for waiting goes on running.
      await sleep(Math.min(leftMs, ASK_AGAIN_MS));
    } finally {
      timer.abort();
    }
  }

  /** Holds the request until `pause` is over, within the bounds of holding. */
  async #hold(exchange: Exchange, reason: string, pause: (leftMs: number) => Promise<unknown>): Promise<void> {
    const { metrics, config } = this.#parts;
    if (metrics.heldNow >= config.limits.heldRequests) {
      exchange.heldFull = true;
      return;
    }
    const begun = performance.now();
    const isFirst = exchange.holdUntilMs === 0;
    if (isFirst) exchange.holdUntilMs = begun + config.holdMs;
    metrics.held(reason, isFirst);
    exchange.heldNow = true;
    await pause(Math.max(1, Math.ceil(exchange.holdUntilMs - begun)));
    exchange.heldNow = false;
    exchange.heldMs += performance.now() - begun;
    metrics.released(!isHoldLeft(exchange, config));
  }

  #local(exchange: Exchange, facts: Facts, state: NodeView | undefined): void {
    const positions = exchange.reachedAt ?? state?.positions;
    const mayHaveWritten = facts.role === "primary" && needsPrimary(facts);
    const isToMend = facts.role === "primary" && exchange.consistency !== "strong" && facts.position === "behind";
    // Only a follower's application can hand a request over, and only to another node.
    const mayReplay = facts.role !== "primary" && !needsPrimary(facts);
    exchange.decision = "local";
    exchange.node = this.#parts.config.node.name;
    const { view } = this.#parts;
    if (mayHaveWritten) exchange.write ??= { epoch: state?.epoch ?? 0, drains: view.drains, over: view.writeBegins() };
    this.#relay(exchange, "application", this.#parts.config.target, this.#parts.upstreams.application, "", (raw) => {
      if (mayReplay && rawField(raw, REPLAY_FIELD)?.toLowerCase() === "primary") return "replay";
      return "pass";
    }, () => {
      if (mayHaveWritten) return this.#stamps.written(exchange).then((added) => (added.isDropped === true ? this.#unkept(exchange, added) : added));
      if (isToMend) return this.#stamps.mended(exchange);
      return this.#stamps.read(exchange, positions);
    });
  }

  /** The lease was lost, and perhaps with it what was written: what may be executed twice goes to the new primary, else nobody knows. */
  #unkept(exchange: Exchange, added: AddedFields): AddedFields {
    const isAtHand = exchange.body?.atHand ?? true;
    if (isAtHand && mayRepeat(exchange, { kind: "broke", code: "LEASE_LOST", wasNew: false })) {
      exchange.resends++;
      exchange.write?.over();
      delete exchange.write;
      this.#parts.metrics.resent("idempotent");
      setImmediate(() => this.#step(exchange));
    } else setImmediate(() => this.#answer(exchange, "LEASE_LOST", {}));
    return added;
  }

  #forward(exchange: Exchange, facts: Facts, state: NodeView | undefined): void {
    const peer = this.#parts.upstreams.peer(state?.primary?.proxy ?? "");
    if (peer === undefined) {
      this.#refuse(exchange, "no-primary");
      return;
    }
    exchange.decision = "forward";
    exchange.node = state?.primary?.name;
    const hop = formatHop(this.#parts.config.node.name, state?.epoch ?? 0, facts.rule === "primary");
    this.#relay(exchange, "peer", state!.primary!.proxy, peer, hop, (raw) => (rawField(raw, REFUSED_FIELD) === undefined ? "pass" : "refused"), (raw) => this.#stamps.forwarded(exchange, raw));
  }

  #relay(
    exchange: Exchange, to: "application" | "peer", origin: string, upstream: Upstream, hop: string,
    judge: (raw: RawFields) => "pass" | "replay" | "refused", added: (raw: RawFields) => AddedFields | Promise<AddedFields>,
  ): void {
    const { request, response, id, checked, expectsContinue, body } = exchange;
    const { config, metrics, log } = this.#parts;
    exchange.sentMs = performance.now();
    const onHead = (status: number, raw: RawFields): "pass" | "drop" => {
      exchange.headMs = performance.now();
      exchange.upstreamStatus = status;
      if (to === "application") this.#absence.over();
      const verdict = judge(raw);
      return verdict === "pass" || !this.#handedBack(exchange, verdict) ? "pass" : "drop";
    };
    const onFailure = (failure: Failure): boolean => this.#onFailure(exchange, to, failure);
    const onUpstreamError = (code: string, error: Error): void => {
      exchange.upstreamError = code;
      metrics.upstreamError(code);
      log.warn({ id, to, code, method: request.method, url: checked.target, reason: error.message }, to === "peer" ? "the primary failed" : "the application failed");
    };
    const fields = requestFields(request.rawHeaders, {
      to, requestId: id, httpVersion: request.httpVersion, clientAddress: peerOf(request.socket), hop, cookieName: config.cookie.name,
      ack: exchange.ack ?? (config.ack > 0 ? config.ack : undefined),
      // The node that forwarded it stands in the list as well.
      trustedHops: config.trustedHops + (exchange.hop === undefined ? 0 : 1),
    });
    if (response === undefined) {
      this.#tunnel(exchange, { target: checked.target, origin: new URL(origin), from: to, fields, limits: config.limits, onHead, added, onFailure, onRefused: (error) => {
        onUpstreamError((error as NodeJS.ErrnoException).code ?? error.name, error);
        this.#answer(exchange, answerFor(error, to), {});
      } });
      return;
    }
    const announced = checked.body.kind === "chunked" ? announcedTrailers(request.rawHeaders) : [];
    if (announced.length > 0) fields.push("Trailer", announced.join(", "));
    const sender = upstream.sender(announced.length === 0 ? undefined : () => requestTrailers(request.rawTrailers, announced));
    exchange.attempt = relay({
      request, response, id, target: checked.target, body, sender, from: to, expectsContinue, added, limits: config.limits, wheel: this.#wheel,
      fields, closing: () => this.#stopping, onHead, onFailure, onUpstreamError,
    });
  }

  #tunnel(exchange: Exchange, task: Omit<TunnelTask, "socket" | "early" | "onOpen">): void {
    const { socket } = exchange.request;
    openTunnel({
      ...task, socket, early: exchange.early!,
      onOpen: () => {
        exchange.headMs = performance.now();
        if (task.from === "application") this.#absence.over();
        this.#tunnels.add(socket);
        this.#parts.metrics.tunnels++;
        this.#closed(exchange, 101);
      },
    });
  }

  /** Whether a response that says "not here" is dropped, and the request decided about again. */
  #handedBack(exchange: Exchange, verdict: "replay" | "refused"): boolean {
    const { metrics } = this.#parts;
    const isAtHand = exchange.body?.atHand ?? true;
    if (verdict === "replay") {
      metrics.replays++;
      exchange.replayed = true;
      if (isAtHand) setImmediate(() => this.#step(exchange));
      else setImmediate(() => this.#answer(exchange, "REPLAY_LARGE", {}));
      return true;
    }
    // The client gets the other node's sentence when there is no patience left.
    if (!isAtHand || !isHoldLeft(exchange, this.#parts.config)) return false;
    metrics.resent("refused");
    this.#again(exchange, "not-primary");
    return true;
  }

  /** Whether a failed attempt is followed by another one. */
  #onFailure(exchange: Exchange, to: "application" | "peer", failure: Failure): boolean {
    const { metrics, config } = this.#parts;
    const { kind, code } = failure;
    if (exchange.body !== undefined && !exchange.body.atHand) return false;
    if (kind === "unsent") {
      if (!isHoldLeft(exchange, config) || (to === "application" && !this.#absence.mayBeRestart(performance.now()))) return false;
    } else {
      if (!mayRepeat(exchange, failure)) return false;
      exchange.resends++;
    }
    exchange.upstreamError = code;
    metrics.resent(kind === "unsent" ? "unsent" : "idempotent");
    if (kind === "broke" && exchange.failures === 0) {
      exchange.failures++;
      setImmediate(() => this.#step(exchange));
    } else this.#again(exchange, to === "peer" ? "primary-down" : "target-down");
    return true;
  }

  /** Decides again after a pause that grows with the failures. */
  #again(exchange: Exchange, reason: string): void {
    const ms = pauseMs(++exchange.failures);
    this.#later(exchange, this.#hold(exchange, reason, (leftMs) => sleep(Math.min(ms, leftMs))));
  }

  #refuse(exchange: Exchange, reason: Reason, known?: AnswerCode): void {
    exchange.decision = "refuse";
    exchange.reason = reason;
    const code = known ?? (exchange.heldFull ? "HELD_FULL" : reason === "not-primary" ? "NOT_PRIMARY" : reason === "no-role" ? "NO_ROLE" : "NO_PRIMARY");
    this.#answer(exchange, code, {});
  }

  #invalid(exchange: Exchange, reason: NonNullable<Exchange["reason"]>, code: AnswerCode, options: Partial<AnswerOptions>): void {
    exchange.reason = reason;
    this.#parts.metrics.invalid(reason);
    this.#answer(exchange, code, options);
  }

  #answer(exchange: Exchange, code: AnswerCode, options: Partial<AnswerOptions>): void {
    const { request, response, id, expectsContinue, body } = exchange;
    body?.close();
    const isForwarded = exchange.hop !== undefined;
    if (response === undefined) {
      answerSocket(request.socket, code, { ...options, id, isForwarded });
      linger(request.socket, this.#parts.config.limits.lingerMs);
    } else answer(request, response, this.#parts.config.limits, code, { close: expectsContinue || this.#stopping, ...options, id, isForwarded });
  }

  #closed(exchange: Exchange, status: number): void {
    const { decision, headMs, startedMs } = exchange;
    const { metrics, log, config } = this.#parts;
    exchange.body?.close();
    exchange.write?.over();
    metrics.active--;
    const isRelayed = decision === "local" || decision === "forward";
    metrics.request(decision, status, isRelayed && headMs > 0 ? headMs - startedMs : undefined, isRelayed ? exchange.node : undefined);
    writeAccess(log, config.accessLog, exchange, status, () => this.#admission.addressOf(exchange.request));
  }
}

function ignore(): void {}

/**
 * One request and what has been found out about it, and the facts of it that are decided by.
 *
 * Always holds: an exchange belongs to one request of one connection; facts are read from it and from the node's state, nothing is asked here.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { BodySource } from "./body.ts";
import type { CheckedRequest, Fault } from "./check.ts";
import { methodClass, type Facts, type Reason } from "./decide.ts";
import type { NodeView } from "./engine-view.ts";
import type { Hop } from "./headers.ts";
import { reachedAll, type Marks } from "./positions.ts";
import type { Attempt } from "./relay.ts";
import { NO_RULE, type Rule } from "./rules.ts";

/** What the client's Expect field says. */
export type Expectation = "nothing" | "continue" | "unknown";

export interface Exchange {
  readonly id: string;
  readonly request: IncomingMessage;
  /** Undefined for an upgrade, which has a socket only. */
  readonly response: ServerResponse | undefined;
  /** Of an upgrade: what came behind its head. */
  early: Buffer | undefined;
  readonly expectsContinue: boolean;
  readonly startedMs: number;
  readonly hop: Hop | undefined;
  checked: CheckedRequest;
  rule: Rule;
  consistency: Facts["consistency"];
  /** The application has handed it to the primary. */
  replayed: boolean;
  /** The name of the client in the table of clients. */
  clientKey: string | undefined;
  /** What the client asks for; for a strong read, what the primary has named. */
  want: Marks | undefined;
  /** The primary has named its positions for this strong read. */
  asked: boolean;
  /** How many followers must have what it writes; undefined leaves it to the configuration. */
  ack: number | undefined;
  /** Set when a wait ended well, to the positions at that moment. */
  reachedAt: Marks | undefined;
  waitedMs: number;
  /** When holding ends; 0 while nothing has been held. */
  holdUntilMs: number;
  heldMs: number;
  ackMs: number;
  heldFull: boolean;
  /** Held at this moment: nobody has begun to execute it. */
  heldNow: boolean;
  resends: number;
  /** Failed attempts in a row, for the pause before the next. */
  failures: number;
  body: BodySource | undefined;
  decision: "invalid" | "local" | "forward" | "refuse";
  reason: Reason | Fault | "size" | "path" | "expectation" | "consistency" | "ack" | undefined;
  /** Whose application is asked. */
  node: string | undefined;
  sentMs: number;
  headMs: number;
  upstreamError: string | undefined;
  /** Of a request that may write here: the lease under which it began, how many drains there had been, and what says that it is over. */
  write?: { readonly epoch: number; readonly drains: number; readonly over: () => void };
  /** The newest attempt to have it answered. */
  attempt: Attempt | undefined;
  /** Status of the response that is passed on. */
  upstreamStatus: number;
}

const NO_REQUEST: CheckedRequest = { target: "", host: undefined, body: { kind: "none" } };

export function newExchange(id: string, request: IncomingMessage, response: ServerResponse | undefined, expects: Expectation, hop: Hop | undefined): Exchange {
  return {
    id, request, response, early: undefined, expectsContinue: expects === "continue", startedMs: performance.now(), hop, checked: NO_REQUEST, rule: NO_RULE, consistency: "session", replayed: false,
    clientKey: undefined, want: undefined, asked: false, ack: undefined, reachedAt: undefined, waitedMs: 0, holdUntilMs: 0, heldMs: 0, ackMs: 0, heldFull: false, heldNow: false, resends: 0, failures: 0, body: undefined,
    decision: "invalid", reason: undefined, node: undefined, sentMs: 0, headMs: 0, attempt: undefined, upstreamStatus: 0, upstreamError: undefined,
  };
}

/** Whether the client has gone. */
export function isGone(exchange: Exchange): boolean {
  return exchange.response === undefined ? exchange.request.socket.destroyed : exchange.response.destroyed;
}

/** The bounds of waiting and holding. */
export interface Patience {
  readonly maxLagMs: number;
  readonly holdMs: number;
}

/** The facts of this moment. */
export function factsOf(exchange: Exchange, state: NodeView | undefined, self: string, patience: Patience): Facts {
  const { hop, want, rule, consistency } = exchange;
  const isOutdated = hop !== undefined && isOutdatedBy(state, hop.epoch);
  const other = state?.primary;
  const isSettled = consistency === "strong" ? exchange.asked : true;
  const isReached = isSettled && (want === undefined || exchange.reachedAt !== undefined || (state !== undefined && reachedAll(state.positions, want)));
  return {
    rule: exchange.replayed || hop?.isWrite === true ? "primary" : rule.to,
    method: methodClass(exchange.request.method ?? ""),
    consistency,
    role: state === undefined ? "unknown" : state.role === "primary" && !isOutdated ? "primary" : "follower",
    position: isReached ? "reached" : "behind",
    primary: !isOutdated && other !== undefined && other.proxy !== "" && other.name !== self ? "known" : "unknown",
    hop: hop === undefined ? "direct" : "forwarded",
    lag: exchange.waitedMs < patience.maxLagMs ? "left" : "spent",
    hold: isHoldLeft(exchange, patience) ? "left" : "spent",
  };
}

/** Whether the request may be held (on). */
export function isHoldLeft({ holdUntilMs, heldFull }: Exchange, { holdMs }: Patience): boolean {
  return !heldFull && holdMs > 0 && (holdUntilMs === 0 || performance.now() < holdUntilMs);
}

/** The sender of a forwarded request has seen a newer lease than this node: whatever this node thinks, it is not the primary any more. */
function isOutdatedBy(state: NodeView | undefined, epoch: number): boolean {
  return state?.role === "primary" && epoch > state.epoch;
}

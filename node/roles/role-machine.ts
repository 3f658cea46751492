/**
 * The role of a node: what it is, and what it does when something happens. The decision, without any I/O and without a clock.
 *
 * Always holds: only `primary` lets applications write. A node enters it by `opened` (it had acquired the lease, fetched what others had and
 * opened its databases) or, from a doubt about its own lease, by a renewal in time. Every other way out of and into it goes under the fence. An
 * event that a state's rows do not name changes nothing there: events come from timers and from the network and may be late.
 *
 * The table is the one in ARCHITECTURE.md; a test compares the two and walks every pair of state and event.
 */

export const STATES = ["follower", "electing", "opening", "primary", "doubt", "handing", "closing", "stopped"] as const;
export type RoleState = (typeof STATES)[number];

export const EVENTS = [
  "free", "taken", "own", "elected", "acquired", "missed", "opened", "failed", "renewed", "deadline", "lost", "handoff", "moved", "kept", "closed", "stop",
] as const;
export type RoleEvent = (typeof EVENTS)[number];

/**
 * follow: stream from the holder. unfollow: end that. ask: ask the other nodes where they are, then `elected` when nobody is to be waited for. acquire: try to
 * take the lease. open: fetch what others have more of, make every database this node's, let applications write. fence: keep writers out.
 * unfence: let them in. hand: drain, fence, have the target confirmed, move the lease. close: capture, then make every database a
 * follower's. look: read who holds the lease. release: give the lease up. tell: the proxy, `.primary`, the log.
 */
export const EFFECTS = ["follow", "unfollow", "ask", "acquire", "open", "fence", "unfence", "hand", "close", "look", "release", "tell"] as const;
export type RoleEffect = (typeof EFFECTS)[number];

interface Transition {
  readonly from: readonly RoleState[];
  readonly on: readonly RoleEvent[];
  readonly to: RoleState;
  readonly effects: readonly RoleEffect[];
}

const row = (from: string, on: string, to: RoleState, effects: string): Transition => ({
  from: from.split(", ") as RoleState[], on: on.split(", ") as RoleEvent[], to, effects: effects === "" ? [] : effects.split(", ") as RoleEffect[],
});

/** Columns: from, on, to, effects in their order. */
export const TRANSITIONS: readonly Transition[] = [
  row("follower", "free", "electing", "unfollow, ask"),
  row("follower, electing", "taken", "follower", "follow, tell"),
  row("follower, electing", "own", "opening", "unfollow, open"),
  row("electing", "elected", "electing", "acquire"),
  row("electing", "acquired", "opening", "open"),
  row("electing", "missed", "follower", "look"),
  row("opening", "opened", "primary", "tell"),
  row("opening", "failed, deadline, lost, taken, free", "closing", "release, fence, close"),
  row("primary", "deadline", "doubt", "fence, tell"),
  row("primary", "lost, taken, free", "closing", "fence, tell, close"),
  row("primary", "handoff", "handing", "tell, hand"),
  row("doubt", "renewed", "primary", "unfence, tell"),
  row("doubt", "lost, taken, free", "closing", "tell, close"),
  row("handing", "moved, lost, taken, free", "closing", "fence, close"),
  row("handing", "kept", "primary", "unfence, tell"),
  row("handing", "deadline", "doubt", "fence, tell"),
  row("closing", "closed", "follower", "tell, look"),
  row("follower, electing, opening, primary, doubt, handing, closing", "stop", "stopped", ""),
];

export interface RoleStep {
  readonly state: RoleState;
  readonly effects: readonly RoleEffect[];
}

/** What happens in `state` on `event`; undefined when nothing does. */
export function step(state: RoleState, event: RoleEvent): RoleStep | undefined {
  const found = TRANSITIONS.find(({ from, on }) => from.includes(state) && on.includes(event));
  return found === undefined ? undefined : { state: found.to, effects: found.effects };
}

/** Whether applications may write on a node in this state. */
export function mayWrite(state: RoleState): boolean {
  return state === "primary";
}

/** Whether the node keeps renewing a lease of its own. */
export function holdsLease(state: RoleState): boolean {
  return state === "opening" || state === "primary" || state === "doubt" || state === "handing";
}

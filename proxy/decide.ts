/**
 * What the proxy does with a request: one function, one table.
 *
 * Always holds: the table covers every combination of facts, each by exactly one row (a test walks them all), so the order of rows carries no
 * meaning; ARCHITECTURE.md shows the same rows. Nothing here looks at a clock, a socket or a header. A follower never answers what needs the
 * primary; what another node forwarded is never forwarded again; nothing waits without patience. Decisions are shared objects, so that a
 * caller that keeps one object of facts and fills it in again for each request allocates nothing.
 */
export interface Facts {
  /** What the first path rule that matches says; "none" where no rule does, or one that leaves it to the method. */
  rule: "none" | "local" | "primary";
  /** GET, HEAD and OPTIONS are reads, the rest are writes. */
  method: "read" | "write";
  /** What the request, else its rule, asks for: any state, one with the client's own writes, or the newest there is. */
  consistency: "eventual" | "session" | "strong";
  /** This node's role; unknown while the engine is away. A candidate counts as a follower. */
  role: "primary" | "follower" | "unknown";
  /**
   * Whether this node has what is asked for. "session": the positions of the client's cookie, if it has one. "strong": the positions that the primary
   * named after this request arrived; behind until it has named them.
   */
  position: "reached" | "behind";
  /** Whether another node is known to be the primary and runs a proxy. */
  primary: "known" | "unknown";
  /** Whether another node's proxy sent the request. */
  hop: "direct" | "forwarded";
  /** Whether the request may still wait for a position here: `maxLag` is not over. */
  lag: "left" | "spent";
  /** Whether it may still be held until there is a primary: `hold` is not over, and there is room. */
  hold: "left" | "spent";
}

/** Wait: for a position of this node. Hold: for a primary, or for the engine to say who it is. */
export const ACTIONS = ["local", "wait", "forward", "hold", "refuse"] as const;
export type Action = (typeof ACTIONS)[number];

export const REASONS = ["rule", "primary", "read", "write", "behind", "no-role", "no-primary", "not-primary"] as const;
export type Reason = (typeof REASONS)[number];

export interface Decision {
  readonly action: Action;
  readonly reason: Reason;
}

/** Every value of every fact, in the order of the table's columns. */
export const FACT_VALUES = {
  rule: ["none", "local", "primary"],
  method: ["read", "write"],
  consistency: ["eventual", "session", "strong"],
  role: ["primary", "follower", "unknown"],
  position: ["reached", "behind"],
  primary: ["known", "unknown"],
  hop: ["direct", "forwarded"],
  lag: ["left", "spent"],
  hold: ["left", "spent"],
} as const satisfies { readonly [Name in keyof Facts]: readonly Facts[Name][] };

/** A value, several values, or `_` for any. */
type Cell<Name extends keyof Facts> = Facts[Name] | readonly Facts[Name][] | undefined;
export type Row = readonly [
  rule: Cell<"rule">, method: Cell<"method">, consistency: Cell<"consistency">, role: Cell<"role">, position: Cell<"position">, primary: Cell<"primary">,
  hop: Cell<"hop">, lag: Cell<"lag">, hold: Cell<"hold">, action: Action, reason: Reason,
];

const _ = undefined;
/** The levels at which a position counts. */
const COUNTS = ["session", "strong"] as const;
const OTHER = ["follower", "unknown"] as const;

export const DECISIONS: readonly Row[] = [
  // rule     method   consist.    role        position   primary    hop          lag      hold     action     reason
  ["local",   _,       _,          _,          _,         _,         _,           _,       _,       "local",   "rule"],

  ["primary", _,       _,          "primary",  _,         _,         _,           _,       _,       "local",   "primary"],
  ["primary", _,       _,          "follower", _,         "known",   "direct",    _,       _,       "forward", "rule"],
  ["primary", _,       _,          "follower", _,         "unknown", "direct",    _,       "left",  "hold",    "no-primary"],
  ["primary", _,       _,          "follower", _,         "unknown", "direct",    _,       "spent", "refuse",  "no-primary"],
  ["primary", _,       _,          "follower", _,         _,         "forwarded", _,       _,       "refuse",  "not-primary"],
  ["primary", _,       _,          "unknown",  _,         _,         _,           _,       "left",  "hold",    "no-role"],
  ["primary", _,       _,          "unknown",  _,         _,         _,           _,       "spent", "refuse",  "no-role"],

  ["none",    "write", _,          "primary",  _,         _,         _,           _,       _,       "local",   "primary"],
  ["none",    "write", _,          "follower", _,         "known",   "direct",    _,       _,       "forward", "write"],
  ["none",    "write", _,          "follower", _,         "unknown", "direct",    _,       "left",  "hold",    "no-primary"],
  ["none",    "write", _,          "follower", _,         "unknown", "direct",    _,       "spent", "refuse",  "no-primary"],
  ["none",    "write", _,          "follower", _,         _,         "forwarded", _,       _,       "refuse",  "not-primary"],
  ["none",    "write", _,          "unknown",  _,         _,         _,           _,       "left",  "hold",    "no-role"],
  ["none",    "write", _,          "unknown",  _,         _,         _,           _,       "spent", "refuse",  "no-role"],

  // On the primary a read never waits: a position that it has not got exists nowhere, or was lost, and the cookie is set right instead.
  ["none",    "read",  _,          "primary",  _,         _,         _,           _,       _,       "local",   "primary"],
  ["none",    "read",  "eventual", OTHER,      _,         _,         _,           _,       _,       "local",   "read"],
  ["none",    "read",  COUNTS,     OTHER,      "reached", _,         _,           _,       _,       "local",   "read"],
  ["none",    "read",  COUNTS,     "follower", "behind",  _,         _,           "left",  _,       "wait",    "behind"],
  ["none",    "read",  COUNTS,     "unknown",  "behind",  _,         _,           "left",  _,       "wait",    "no-role"],
  ["none",    "read",  COUNTS,     "follower", "behind",  "known",   "direct",    "spent", _,       "forward", "behind"],
  ["none",    "read",  COUNTS,     "follower", "behind",  "unknown", "direct",    "spent", "left",  "hold",    "no-primary"],
  ["none",    "read",  COUNTS,     "follower", "behind",  "unknown", "direct",    "spent", "spent", "refuse",  "no-primary"],
  ["none",    "read",  COUNTS,     "follower", "behind",  _,         "forwarded", "spent", _,       "refuse",  "not-primary"],
  ["none",    "read",  COUNTS,     "unknown",  "behind",  _,         _,           "spent", "left",  "hold",    "no-role"],
  ["none",    "read",  COUNTS,     "unknown",  "behind",  _,         _,           "spent", "spent", "refuse",  "no-role"],
];

const NAMES = Object.keys(FACT_VALUES) as (keyof Facts)[];

/** Whether a row speaks about these facts. */
export function rowMatches(row: Row, facts: Readonly<Facts>): boolean {
  return NAMES.every((name, column) => {
    const cell = row[column] as string | readonly string[] | undefined;
    return cell === undefined || (typeof cell === "string" ? cell === facts[name] : cell.includes(facts[name]));
  });
}

/** The decision for these facts: one look into the table, spread out once. Pure. */
export function decide(facts: Readonly<Facts>): Decision {
  return SPREAD[indexOf(facts)]!;
}

/** The place of these facts among all combinations, the last column counting fastest. */
function indexOf(facts: Readonly<Facts>): number {
  const { rule, consistency, role } = facts;
  let index = rule === "none" ? 0 : rule === "local" ? 1 : 2;
  index = index * 2 + (facts.method === "read" ? 0 : 1);
  index = index * 3 + (consistency === "eventual" ? 0 : consistency === "session" ? 1 : 2);
  index = index * 3 + (role === "primary" ? 0 : role === "follower" ? 1 : 2);
  index = index * 2 + (facts.position === "reached" ? 0 : 1);
  index = index * 2 + (facts.primary === "known" ? 0 : 1);
  index = index * 2 + (facts.hop === "direct" ? 0 : 1);
  index = index * 2 + (facts.lag === "left" ? 0 : 1);
  return index * 2 + (facts.hold === "left" ? 0 : 1);
}

/** Every combination of facts, in the order of {@link indexOf}. */
export function everyCombination(): Facts[] {
  let all: Record<string, string>[] = [{}];
  for (const name of NAMES) all = all.flatMap((facts) => FACT_VALUES[name].map((value) => ({ ...facts, [name]: value })));
  return all as unknown as Facts[];
}

// The test that walks all combinations makes the default impossible; a request must still get an answer.
const NO_ROW: Decision = Object.freeze({ action: "refuse", reason: "no-role" });
const SPREAD: readonly Decision[] = everyCombination().map((facts) => {
  const row = DECISIONS.find((candidate) => rowMatches(candidate, facts));
  return row === undefined ? NO_ROW : Object.freeze({ action: row[9], reason: row[10] });
});

/** GET, HEAD and OPTIONS are reads; everything else, unknown methods included, may write. */
export function methodClass(method: string): Facts["method"] {
  return method === "GET" || method === "HEAD" || method === "OPTIONS" ? "read" : "write";
}

/** Whether a request belongs on the primary, and so may have changed a database there. */
export function needsPrimary(facts: Readonly<Pick<Facts, "rule" | "method">>): boolean {
  return facts.rule === "primary" || (facts.rule === "none" && facts.method === "write");
}

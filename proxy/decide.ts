/**
 * What the proxy does with a request: one function, one table.
 *
 * Always holds: the table covers every combination of facts, each by exactly one row (a test walks them all), so the order of rows carries no
 * meaning. Nothing here looks at a clock, a socket or a header. A follower never answers what needs the primary; what another node forwarded
 * is never forwarded again; without patience nothing waits.
 */
export interface Facts {
  /** The first path rule that matches. */
  readonly rule: "none" | "local" | "primary";
  /** GET, HEAD and OPTIONS are reads, the rest are writes. */
  readonly method: "read" | "write";
  /** This node's role; unknown while the engine is away. A candidate counts as a follower. */
  readonly role: "primary" | "follower" | "unknown";
  /** Whether this node has what the client's cookie names; reached without a cookie. */
  readonly position: "reached" | "behind";
  /** Whether another node is known to be the primary and runs a proxy. */
  readonly primary: "known" | "unknown";
  /** Whether another node's proxy sent the request. */
  readonly hop: "direct" | "forwarded";
  /** Whether the request may still wait: `maxLag` is not over. */
  readonly patience: "left" | "spent";
}

export const ACTIONS = ["local", "wait", "forward", "refuse"] as const;
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
  role: ["primary", "follower", "unknown"],
  position: ["reached", "behind"],
  primary: ["known", "unknown"],
  hop: ["direct", "forwarded"],
  patience: ["left", "spent"],
} as const satisfies { readonly [Name in keyof Facts]: readonly Facts[Name][] };

const _ = undefined;
type Row = readonly [
  rule: Facts["rule"] | undefined, method: Facts["method"] | undefined, role: Facts["role"] | undefined, position: Facts["position"] | undefined,
  primary: Facts["primary"] | undefined, hop: Facts["hop"] | undefined, patience: Facts["patience"] | undefined, action: Action, reason: Reason,
];

/** `_` stands for any value. */
export const DECISIONS: readonly Row[] = [
  // rule     method   role        position   primary    hop          patience  action     reason
  ["local",   _,       _,          _,         _,         _,           _,        "local",   "rule"],

  ["primary", _,       "primary",  _,         _,         _,           _,        "local",   "primary"],
  ["primary", _,       "follower", _,         "known",   "direct",    _,        "forward", "rule"],
  ["primary", _,       "follower", _,         "unknown", "direct",    _,        "refuse",  "no-primary"],
  ["primary", _,       "follower", _,         _,         "forwarded", _,        "refuse",  "not-primary"],
  ["primary", _,       "unknown",  _,         _,         _,           "left",   "wait",    "no-role"],
  ["primary", _,       "unknown",  _,         _,         _,           "spent",  "refuse",  "no-role"],

  ["none",    "write", "primary",  _,         _,         _,           _,        "local",   "primary"],
  ["none",    "write", "follower", _,         "known",   "direct",    _,        "forward", "write"],
  ["none",    "write", "follower", _,         "unknown", "direct",    _,        "refuse",  "no-primary"],
  ["none",    "write", "follower", _,         _,         "forwarded", _,        "refuse",  "not-primary"],
  ["none",    "write", "unknown",  _,         _,         _,           "left",   "wait",    "no-role"],
  ["none",    "write", "unknown",  _,         _,         _,           "spent",  "refuse",  "no-role"],

  // On the primary a read never waits: a position that it has not got exists nowhere, or was lost, and the cookie is set right instead.
  ["none",    "read",  "primary",  _,         _,         _,           _,        "local",   "primary"],
  ["none",    "read",  "follower", "reached", _,         _,           _,        "local",   "read"],
  ["none",    "read",  "unknown",  "reached", _,         _,           _,        "local",   "read"],
  ["none",    "read",  "follower", "behind",  _,         _,           "left",   "wait",    "behind"],
  ["none",    "read",  "unknown",  "behind",  _,         _,           "left",   "wait",    "no-role"],
  ["none",    "read",  "follower", "behind",  "known",   "direct",    "spent",  "forward", "behind"],
  ["none",    "read",  "follower", "behind",  "unknown", "direct",    "spent",  "refuse",  "no-primary"],
  ["none",    "read",  "follower", "behind",  _,         "forwarded", "spent",  "refuse",  "not-primary"],
  ["none",    "read",  "unknown",  "behind",  _,         _,           "spent",  "refuse",  "no-role"],
];

/** Whether a row speaks about these facts. */
export function rowMatches(row: Row, facts: Facts): boolean {
  return (row[0] ?? facts.rule) === facts.rule && (row[1] ?? facts.method) === facts.method && (row[2] ?? facts.role) === facts.role
    && (row[3] ?? facts.position) === facts.position && (row[4] ?? facts.primary) === facts.primary && (row[5] ?? facts.hop) === facts.hop
    && (row[6] ?? facts.patience) === facts.patience;
}

/** The decision for these facts. Pure. */
export function decide(facts: Facts): Decision {
  for (const row of DECISIONS) if (rowMatches(row, facts)) return { action: row[7], reason: row[8] };
  // The test that walks all combinations makes this impossible; a request must still get an answer.
  return { action: "refuse", reason: "no-role" };
}

/** GET, HEAD and OPTIONS are reads; everything else, unknown methods included, may write. */
export function methodClass(method: string): Facts["method"] {
  return method === "GET" || method === "HEAD" || method === "OPTIONS" ? "read" : "write";
}

/** Whether a request belongs on the primary, and so may have changed a database there. */
export function needsPrimary(facts: Pick<Facts, "rule" | "method">): boolean {
  return facts.rule === "primary" || (facts.rule === "none" && facts.method === "write");
}

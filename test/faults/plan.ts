/**
 * The sequence of faults of one run: pure, made from a seed, so that a failure can be replayed.
 *
 * Always holds: equal arguments give equal plans; within any run of as many faults as there are kinds each kind that the cluster allows occurs,
 * so a short plan has all of them; a fault may overlap with the next, never with the one after that.
 */
import { Random } from "../support/random.ts";
import { PARTS, type Part } from "./node.ts";

export type Fault =
  | { readonly kind: "kill"; readonly node: string; readonly part: Part | "all" }
  /** SIGSTOP, later SIGCONT. */
  | { readonly kind: "pause"; readonly node: string; readonly part: Part | "all"; readonly ms: number }
  /** Nothing from `from` arrives at `to`; the other way too unless one-way. */
  | { readonly kind: "cut"; readonly from: string; readonly to: string; readonly oneWay: boolean; readonly ms: number }
  /** From all other nodes and from the lease store; clients still reach it. */
  | { readonly kind: "isolate"; readonly node: string; readonly ms: number }
  | { readonly kind: "store-cut"; readonly node: string; readonly ms: number }
  /** The lease store is all that it reaches. */
  | { readonly kind: "only-store"; readonly node: string; readonly ms: number }
  | { readonly kind: "store-restart"; readonly ms: number }
  | { readonly kind: "slow"; readonly node: string; readonly delayMs: number; readonly ms: number }
  | { readonly kind: "disk-full"; readonly node: string; readonly ms: number }
  /** The primary gives its role to another node. */
  | { readonly kind: "handoff" };

export type Step = Fault & {
  /** Between the end of the fault (its beginning, when it overlaps) and the next. */
  readonly restMs: number;
  /** The next fault begins while this one lasts. */
  readonly overlaps: boolean;
};

export interface PlanOptions {
  readonly seed: number;
  readonly nodes: readonly string[];
  readonly count: number;
  /** Pauses and partitions last up to three of these. */
  readonly ttlMs: number;
  /** Where roles move: handoff. */
  readonly elections: boolean;
  /** Whether there is a lease store that can be reached by network. */
  readonly store: boolean;
  /** Longest rest after a fault. */
  readonly restMs: number;
}

const KILLS = [...PARTS, "all"] as const;

/** Every kind of fault that this cluster allows, kills and pauses by part. */
export function kindsOf(options: Pick<PlanOptions, "elections" | "store">): readonly string[] {
  return [
    ...KILLS.map((part) => `kill ${part}`), ...KILLS.map((part) => `pause ${part}`), "cut", "cut one-way", "isolate", "slow", "disk-full",
    ...(options.elections ? ["handoff"] : []), ...(options.store ? ["store-cut", "only-store", "store-restart"] : []),
  ];
}

export function planFaults(options: PlanOptions): readonly Step[] {
  const random = new Random(options.seed);
  const { nodes, ttlMs } = options;
  const kinds = kindsOf(options);
  let bag: string[] = [];
  const steps: Step[] = [];
  while (steps.length < options.count) {
    if (bag.length === 0) bag = [...kinds];
    const [kind] = bag.splice(random.below(bag.length), 1) as [string];
    const ms = Math.round(ttlMs * (0.1 + 2.9 * random.next() ** 2));
    const node = random.pick(nodes);
    const other = random.pick(nodes.filter((name) => name !== node));
    const overlaps = steps.at(-1)?.overlaps !== true && random.chance(0.25);
    steps.push({ ...faultOf(kind, { node, other, ms, random }), restMs: Math.round(options.restMs * random.next()), overlaps });
  }
  return steps;
}

function faultOf(kind: string, given: { node: string; other: string; ms: number; random: Random }): Fault {
  const { node, other, ms } = given;
  const [verb, part] = kind.split(" ") as [string, (Part | "all")?];
  switch (verb) {
    case "kill": return { kind: "kill", node, part: part! };
    case "pause": return { kind: "pause", node, part: part!, ms };
    case "cut": return { kind: "cut", from: node, to: other, oneWay: kind === "cut one-way", ms };
    case "slow": return { kind: "slow", node, delayMs: 20 + given.random.below(180), ms };
    case "isolate": case "store-cut": case "only-store": case "disk-full": return { kind: verb, node, ms };
    case "store-restart": return { kind: "store-restart", ms: Math.min(ms, 3_000) };
    case "handoff": return { kind: "handoff" };
    default: throw new Error(`no such kind of fault: ${kind}`);
  }
}

/** One line for a person. */
export function describeFault(fault: Fault): string {
  const { kind, ...rest } = fault;
  return `${kind} ${Object.entries(rest).filter(([key]) => key !== "restMs").map(([key, value]) => `${key}=${String(value)}`).join(" ")}`;
}

/**
 * What stands in a lease store, as text, and how it is read back: the lease, a member, an epoch, a cluster's id.
 *
 * Always holds: a reader answers a value that is whole and sane, or the reason why it cannot; it never guesses. Pure.
 */
import { randomBytes } from "node:crypto";
import type { Electorate, Held, Member } from "./lease.ts";

/** Above any epoch that a cluster can reach: a greater one is garbage, and taking it over would spoil the numbers for ever. */
export const EPOCH_MAX = 2 ** 48;
/** A reservation is a matter of seconds. */
const RESERVE_MAX_MS = 3_600_000;

/** The lease as it is written. The store adds what it knows of its expiry. */
export interface LeaseEntry {
  readonly epoch: number;
  readonly token: string;
  readonly holder: Member;
  /** Given up, and for so long only for this node. */
  readonly reservation?: { readonly nodeId: string; readonly ms: number };
}

export type Read<T> = { readonly value: T } | { readonly refusal: string };

const text = (value: unknown, pattern: RegExp): value is string => typeof value === "string" && pattern.test(value);
const NODE_ID = /^[0-9a-f]{16}$/;
// Whatever a name, an address or a URL may be: printable, and no longer than one is.
const PRINTABLE = /^[\x20-\x7e]{0,300}$/;

/** "<node>-<epoch>-<random>". */
export function newToken(nodeId: string, epoch: number): string {
  return `${nodeId}-${epoch}-${randomBytes(8).toString("hex")}`;
}

export function isEpoch(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= EPOCH_MAX;
}

function asMember(value: unknown): Member | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { nodeId, name, advertise, proxy, region, candidate } = value as Record<string, unknown>;
  const good = text(nodeId, NODE_ID) && text(name, PRINTABLE) && text(advertise, PRINTABLE) && advertise !== "" && text(proxy, PRINTABLE) && text(region, PRINTABLE) && typeof candidate === "boolean";
  return good ? { nodeId, name, advertise, proxy, region, candidate } : undefined;
}

function parseJson(source: string): unknown {
  try {
    return JSON.parse(source);
  } catch {
    return undefined;
  }
}

export function formatMember(member: Member): string {
  const { nodeId, name, advertise, proxy, region, candidate } = member;
  return JSON.stringify({ nodeId, name, advertise, proxy, region, candidate });
}

export function parseMember(source: string): Read<Member> {
  const value = asMember(parseJson(source));
  return value === undefined ? { refusal: `it holds ${excerpt(source)}, which is not a member of a Sluice cluster` } : { value };
}

/** `sluice` is the version of this shape: a later one is refused, not misread. */
export function formatLease(entry: LeaseEntry): string {
  return JSON.stringify({ sluice: 1, epoch: entry.epoch, token: entry.token, holder: JSON.parse(formatMember(entry.holder)) as unknown, ...(entry.reservation === undefined ? {} : { reservation: entry.reservation }) });
}

export function parseLease(source: string): Read<LeaseEntry> {
  const value = parseJson(source);
  if (typeof value !== "object" || value === null || !("sluice" in value)) return { refusal: `it holds ${excerpt(source)}, which is not a lease of Sluice` };
  const { sluice, epoch, token, holder: rawHolder, reservation } = value as Record<string, unknown>;
  if (sluice !== 1) return { refusal: `its lease has version ${excerpt(JSON.stringify(sluice) ?? "")}, this release reads version 1` };
  if (!isEpoch(epoch) || epoch === 0) return { refusal: `its lease has the epoch ${excerpt(JSON.stringify(epoch) ?? "")}` };
  const holder = asMember(rawHolder);
  if (holder === undefined) return { refusal: "its lease has a holder that is not a node" };
  if (!text(token, PRINTABLE) || !token.startsWith(`${holder.nodeId}-${epoch}-`)) return { refusal: "its lease has a token that is not its holder's" };
  if (reservation === undefined) return { value: { epoch, token, holder } };
  const { nodeId, ms } = (typeof reservation === "object" && reservation !== null ? reservation : {}) as Record<string, unknown>;
  const good = text(nodeId, NODE_ID) && typeof ms === "number" && ms >= 0 && ms <= RESERVE_MAX_MS;
  return good ? { value: { epoch, token, holder, reservation: { nodeId, ms } } } : { refusal: "its lease has a reservation that is not one" };
}

export function parseEpoch(source: string): Read<number> {
  const value = /^\d{1,16}$/.test(source) ? Number(source) : undefined;
  return isEpoch(value) ? { value } : { refusal: `it holds ${excerpt(source)}, which is not an epoch` };
}

export function parseClusterId(source: string): Read<string> {
  return NODE_ID.test(source) ? { value: source } : { refusal: `it holds ${excerpt(source)}, which is not the id of a cluster` };
}

export function formatElectorate({ epoch, revision, nodes }: Electorate): string {
  return JSON.stringify({ sluice: 1, epoch, revision, nodes: nodes.map(({ nodeId, name }) => ({ nodeId, name })) });
}

export function parseElectorate(source: string): Read<Electorate> {
  const refusal = { refusal: `it holds ${excerpt(source)}, which is no list of the nodes that count for durability sync` };
  const { sluice, epoch, revision, nodes } = (parseJson(source) ?? {}) as Record<string, unknown>;
  if (sluice !== 1 || !isEpoch(epoch) || !isEpoch(revision) || !Array.isArray(nodes)) return refusal;
  const read = (nodes as unknown[]).map((node) => (typeof node === "object" && node !== null ? node : {}) as Record<string, unknown>);
  const good = read.filter((node): node is { nodeId: string; name: string } => text(node["nodeId"], NODE_ID) && text(node["name"], PRINTABLE));
  return good.length === read.length ? { value: { epoch, revision, nodes: good.map(({ nodeId, name }) => ({ nodeId, name })) } } : refusal;
}

/** The lease as callers see it. */
export function toHeld(entry: LeaseEntry, remainingMs?: number): Held {
  return {
    epoch: entry.epoch, token: entry.token, holder: entry.holder,
    ...(remainingMs === undefined ? {} : { remainingMs }), ...(entry.reservation === undefined ? {} : { reservedFor: entry.reservation.nodeId }),
  };
}

/** The beginning of whatever stands there, made safe for a line of a log. */
export function excerpt(source: string): string {
  const shown = source.slice(0, 40).replace(/[^\x20-\x7e]/g, "?");
  return `"${shown}${source.length > 40 ? "…" : ""}"`;
}

/**
 * The lease in a service with keys, transactions and sessions: etcd or Consul.
 *
 * ```
 *   <prefix>/lease          who holds it; written under a session, so that it goes when its holder does not renew.
 *                           During a handoff without one: {..., reservation}; whoever takes it replaces it
 *   <prefix>/epoch          the greatest epoch so far; written in the same transaction as each acquisition, never removed
 *   <prefix>/cluster-id
 *   <prefix>/electorate     who counts for durability sync; without a session, so that it stays
 *   <prefix>/members/<id>   each under a session of its own
 * ```
 *
 * Always holds: the lease changes only by transactions that compare what was read. What was not answered in time counts as not done: the
 * session of an acquisition without an answer is ended until that succeeds, and a transaction under an ended session does nothing, however late
 * it arrives. A reservation is measured by each node from when it first saw it: it is a courtesy, the transaction decides.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { AppError } from "../../proto/errors.ts";
import { Deadline } from "./deadline.ts";
import { formatElectorate, formatLease, formatMember, newToken, parseClusterId, parseElectorate, parseEpoch, parseLease, parseMember, toHeld, type LeaseEntry, type Read } from "./entry.ts";
import { Forgotten } from "./forgotten.ts";
import type { Entry, KeyValue, Snapshot } from "./key-value.ts";
import type { Electorate, Held, LeaseStore, LeaseType, Member } from "./lease.ts";
import { Watcher } from "./watcher.ts";

const LEASE = "lease";
const EPOCH = "epoch";
const CLUSTER_ID = "cluster-id";
const ELECTORATE = "electorate";
const MEMBERS = "members/";

/** Behind the stream of events, for when it has died without a sign. */
const POLL_MS = 1_000;
const READ_MS = 3_000;
/** Work in the background that only spares others a wait. */
const TIDY_MS = 5_000;
const UNDO_PAUSE_MS = 200;

interface Found { readonly lease: LeaseEntry; readonly entry: Entry; /** The rest of its reservation, if it has one. */ readonly reservedMs: number }

export class KeyValueStore implements LeaseStore {
  readonly type: LeaseType;
  readonly #kv: KeyValue;
  readonly #forgotten = new Forgotten();
  /** By the token of a reservation: when it was first seen. Only the newest is kept. */
  #reservation: { readonly token: string; readonly sinceMs: number } | undefined;
  /** By token: the session of what this process has acquired, or goes on with. */
  readonly #sessions = new Map<string, string>();
  #memberSession: string | undefined;
  readonly #watches = new Set<() => void>();
  #closed = false;

  constructor(kv: KeyValue) {
    this.#kv = kv;
    this.type = kv.type;
  }

  async read(deadlineMs: number): Promise<Held | undefined> {
    const found = this.#find(await this.#kv.snapshot(this.#deadline(deadlineMs)));
    if (found === undefined || (found.lease.reservation !== undefined && found.reservedMs <= 0)) return undefined;
    return toHeld(found.lease, found.lease.reservation === undefined ? undefined : found.reservedMs);
  }

  async acquire(self: Member, options: { readonly ttlMs: number; readonly minEpoch: number; readonly deadlineMs: number }): Promise<Held | undefined> {
    const deadline = this.#deadline(options.deadlineMs);
    let snapshot = await this.#kv.snapshot(deadline);
    let session: string | undefined;
    try {
      for (;;) {
        const found = this.#find(snapshot);
        const isFree = found === undefined || (found.lease.reservation !== undefined && (found.lease.reservation.nodeId === self.nodeId || found.reservedMs <= 0));
        const stored = Math.max(this.#value(snapshot, EPOCH, parseEpoch) ?? 0, found?.lease.epoch ?? 0);
        if (!isFree || !this.#forgotten.mayAcquire(stored, options.minEpoch, options.ttlMs, performance.now())) {
          if (session !== undefined) this.#undo(session, options.ttlMs);
          return undefined;
        }
        const epoch = Math.max(stored + 1, options.minEpoch);
        const lease: LeaseEntry = { epoch, token: newToken(self.nodeId, epoch), holder: self };
        session ??= await this.#kv.openSession(options.ttlMs, deadline);
        const conditions = [LEASE, EPOCH].map((key) => ({ key, entry: snapshot.get(key) }));
        const done = await this.#kv.commit(conditions, [{ key: LEASE, value: formatLease(lease), session }, { key: EPOCH, value: String(epoch) }], deadline);
        // Not done, or done by the first of two attempts.
        if (!done) snapshot = await this.#kv.snapshot(deadline);
        if (done || this.#find(snapshot)?.lease.token === lease.token) {
          deadline.check();
          this.#sessions.set(lease.token, session);
          return toHeld(lease, options.ttlMs);
        }
        deadline.check();
      }
    } catch (error) {
      if (session !== undefined) this.#undo(session, options.ttlMs);
      throw error;
    }
  }

  async renew(held: Held, options: { readonly ttlMs: number; readonly deadlineMs: number }): Promise<boolean> {
    const deadline = this.#deadline(options.deadlineMs);
    const session = await this.#sessionOf(held, deadline);
    if (session === undefined) return false;
    const { ttlMs, snapshot } = await this.#kv.touch(session, deadline);
    const found = this.#ours(snapshot, held);
    if (ttlMs === 0 || found === undefined || found.entry.session !== session) return false;
    const renewed = ttlMs >= options.ttlMs || (await this.#lengthen(held, found, options.ttlMs, deadline));
    deadline.check();
    return renewed;
  }

  /** Under another session, because the life of one cannot be made longer. */
  async #lengthen(held: Held, found: Found, ttlMs: number, deadline: Deadline): Promise<boolean> {
    const session = await this.#kv.openSession(ttlMs, deadline);
    const done = await this.#kv.commit([{ key: LEASE, entry: found.entry }], [{ key: LEASE, value: found.entry.value, session }], deadline)
      || this.#ours(await this.#kv.snapshot(deadline), held)?.entry.session === session;
    if (done) this.#sessions.set(held.token, session);
    this.#tidy(done ? found.entry.session : session);
    return done;
  }

  async release(held: Held, deadlineMs: number): Promise<void> {
    const deadline = this.#deadline(deadlineMs);
    // The session is of this acquisition alone, so its end takes nothing from anybody else.
    const session = await this.#sessionOf(held, deadline);
    if (session !== undefined) await this.#kv.closeSession(session, deadline);
    this.#sessions.delete(held.token);
  }

  async transfer(held: Held, to: string, options: { readonly reserveMs: number; readonly deadlineMs: number }): Promise<boolean> {
    const deadline = this.#deadline(options.deadlineMs);
    for (;;) {
      const found = this.#find(await this.#kv.snapshot(deadline));
      if (found?.lease.token !== held.token) return false;
      // Done already, by an attempt whose answer was lost; or it is another handoff than this one.
      if (found.lease.reservation !== undefined) return found.lease.reservation.nodeId === to;
      const lease: LeaseEntry = { ...found.lease, reservation: { nodeId: to, ms: options.reserveMs } };
      const session = found.entry.session;
      this.#sessions.delete(held.token);
      if (await this.#kv.commit([{ key: LEASE, entry: found.entry }], [{ key: LEASE, value: formatLease(lease) }], deadline)) {
        deadline.check();
        this.#tidy(session);
        return true;
      }
    }
  }

  watch(onChange: (held: Held | undefined) => void, onError: (error: unknown) => void): () => void {
    const watcher: Watcher = new Watcher({
      read: () => this.read(READ_MS), pollMs: POLL_MS, onChange,
      onError: (error) => {
        // Whatever carries the events may be as dead, without having said so.
        events.restart();
        onError(error);
      },
    });
    const events = this.#kv.watch(LEASE, () => watcher.poke());
    const end = (): void => {
      watcher.end();
      events.end();
      this.#watches.delete(end);
    };
    this.#watches.add(end);
    return end;
  }

  async register(self: Member, options: { readonly memberTtlMs: number; readonly deadlineMs: number }): Promise<void> {
    const deadline = this.#deadline(options.deadlineMs);
    const key = `${MEMBERS}${self.nodeId}`;
    const value = formatMember(self);
    const former = this.#memberSession;
    let snapshot: Snapshot | undefined;
    if (former !== undefined) {
      const touched = await this.#kv.touch(former, deadline);
      snapshot = touched.snapshot;
      const entry = snapshot.get(key);
      if (touched.ttlMs >= options.memberTtlMs && entry?.value === value && entry.session === former) return;
    }
    const session = await this.#kv.openSession(options.memberTtlMs, deadline);
    for (;;) {
      snapshot ??= await this.#kv.snapshot(deadline);
      const entry = snapshot.get(key);
      if (entry?.session === session) break;
      this.#value(snapshot, key, parseMember);
      if (await this.#kv.commit([{ key, entry }], [{ key, value, session }], deadline)) break;
      snapshot = undefined;
      deadline.check();
    }
    this.#memberSession = session;
    this.#tidy(former);
  }

  async members(deadlineMs: number): Promise<readonly Member[]> {
    const snapshot = await this.#kv.snapshot(this.#deadline(deadlineMs));
    const members = [...snapshot].flatMap(([key, entry]) => {
      const member = key.startsWith(MEMBERS) && entry.session !== undefined ? parseMember(entry.value) : undefined;
      return member !== undefined && "value" in member && key === `${MEMBERS}${member.value.nodeId}` ? [member.value] : [];
    });
    return members.toSorted((a, b) => (a.nodeId < b.nodeId ? -1 : 1));
  }

  async clusterId(proposed: string, deadlineMs: number): Promise<string> {
    const deadline = this.#deadline(deadlineMs);
    for (;;) {
      const stored = this.#value(await this.#kv.snapshot(deadline), CLUSTER_ID, parseClusterId);
      if (stored !== undefined) return stored;
      if (await this.#kv.commit([{ key: CLUSTER_ID, entry: undefined }], [{ key: CLUSTER_ID, value: proposed }], deadline)) return proposed;
    }
  }

  async electorate(deadlineMs: number): Promise<Electorate | undefined> {
    return this.#value(await this.#kv.snapshot(this.#deadline(deadlineMs)), ELECTORATE, parseElectorate);
  }

  async setElectorate(before: Electorate | undefined, next: Electorate, deadlineMs: number): Promise<boolean> {
    const deadline = this.#deadline(deadlineMs);
    const value = formatElectorate(next);
    for (;;) {
      const snapshot = await this.#kv.snapshot(deadline);
      const entry = snapshot.get(ELECTORATE);
      // Done already, by an attempt whose answer was lost.
      if (entry?.value === value) return true;
      const stored = this.#value(snapshot, ELECTORATE, parseElectorate);
      if ((stored === undefined ? undefined : formatElectorate(stored)) !== (before === undefined ? undefined : formatElectorate(before))) return false;
      if (await this.#kv.commit([{ key: ELECTORATE, entry }], [{ key: ELECTORATE, value }], deadline)) return true;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const end of this.#watches) end();
    this.#kv.close();
  }

  #deadline(ms: number): Deadline {
    if (this.#closed) throw new AppError("LEASE_STORE_UNAVAILABLE", [this.#kv.name, "it was closed"]);
    return new Deadline(ms, this.#kv.name);
  }

  #find(snapshot: Snapshot): Found | undefined {
    const entry = snapshot.get(LEASE);
    const lease = this.#value(snapshot, LEASE, parseLease);
    if (entry === undefined || lease === undefined) return undefined;
    const { reservation, token } = lease;
    if (reservation === undefined) {
      if (entry.session === undefined) throw this.#corrupt(LEASE, "its lease belongs to no session, so it would never expire");
      return { lease, entry, reservedMs: 0 };
    }
    if (this.#reservation?.token !== token) this.#reservation = { token, sinceMs: performance.now() };
    return { lease, entry, reservedMs: reservation.ms - (performance.now() - this.#reservation.sinceMs) };
  }

  /** The lease, if it is this very acquisition and has not been handed on. */
  #ours(snapshot: Snapshot, held: Held): Found | undefined {
    const found = this.#find(snapshot);
    return found?.lease.token === held.token && found.lease.reservation === undefined ? found : undefined;
  }

  async #sessionOf(held: Held, deadline: Deadline): Promise<string | undefined> {
    const known = this.#sessions.get(held.token);
    if (known !== undefined) return known;
    const session = this.#ours(await this.#kv.snapshot(deadline), held)?.entry.session;
    if (session !== undefined) this.#sessions.set(held.token, session);
    return session;
  }

  #value<T>(snapshot: Snapshot, key: string, parse: (source: string) => Read<T>): T | undefined {
    const entry = snapshot.get(key);
    if (entry === undefined) return undefined;
    const read = parse(entry.value);
    if ("value" in read) return read.value;
    throw this.#corrupt(key, read.refusal);
  }

  #corrupt(key: string, reason: string): AppError {
    return new AppError("LEASE_STORE_CORRUPT", [`${this.#kv.name}, key ${this.#kv.fullKey(key)}`, reason, `if no other program needs this key, delete it; else change \`${this.#kv.prefixSetting}\` on all nodes`]);
  }

  /** Ends a session that holds nothing any more. It would end by itself. */
  #tidy(session: string | undefined): void {
    if (session !== undefined && !this.#closed) void this.#kv.closeSession(session, new Deadline(TIDY_MS, this.#kv.name)).catch(() => undefined);
  }

  /** Ends the session of an acquisition that nobody believes in, again and again until it has ended or has run out. */
  #undo(session: string, ttlMs: number): void {
    const end = performance.now() + 3 * ttlMs + TIDY_MS;
    const attempt = async (): Promise<void> => {
      while (!this.#closed && performance.now() < end) {
        try {
          return await this.#kv.closeSession(session, new Deadline(TIDY_MS, this.#kv.name));
        } catch {
          await sleep(UNDO_PAUSE_MS, undefined, { ref: false });
        }
      }
    };
    void attempt();
  }
}

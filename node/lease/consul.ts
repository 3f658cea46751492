/**
 * Consul as a {@link KeyValue}, by its HTTP API.
 *
 * Always holds: a session has no health checks, only its TTL, and no lock delay: the time after a loss that LiteFS users know as such is not
 * needed, because a holder fences itself before its TTL is over. Consul ends a session between one and two TTLs after its last renewal,
 * and has none under 10 s: a shorter TTL becomes that. Reads are consistent (the leader asks its peers); transactions go through Raft.
 */
import { AppError } from "../../proto/errors.ts";
import type { ConsulSettings } from "../core/config.ts";
import { Deadline } from "./deadline.ts";
import { Endpoints, type Answer } from "./endpoints.ts";
import type { Condition, Entry, KeyValue, Snapshot, Write } from "./key-value.ts";

const SESSION_MIN_S = 10;
/** A blocking query that is answered without a change is asked again. */
const BLOCK_S = 30;
const RECONNECT_MS = 200;

interface Pair { readonly Key: string; readonly Value: string | null; readonly ModifyIndex: number; readonly Session?: string }
type Operation = { readonly KV: { readonly Verb: string; readonly Key: string; readonly Value?: string; readonly Index?: number; readonly Session?: string } };

const base64 = (text: string): string => Buffer.from(text, "utf8").toString("base64");

export class ConsulKeyValue implements KeyValue {
  readonly type = "consul";
  readonly name: string;
  readonly prefixSetting = "lease.consul.key";
  readonly #settings: ConsulSettings;
  readonly #endpoints: Endpoints;

  constructor(settings: ConsulSettings) {
    this.#settings = settings;
    this.name = `Consul at ${settings.url}`;
    this.#endpoints = new Endpoints({ urls: [settings.url], name: this.name, unfit });
  }

  fullKey(key: string): string {
    return `${this.#settings.key}/${key}`;
  }

  async snapshot(deadline: Deadline): Promise<Snapshot> {
    const start = this.fullKey("");
    const answer = await this.#call("GET", `/v1/kv/${start}?recurse=true&consistent=true`, undefined, deadline, [404]);
    const pairs = answer.status === 404 ? [] : this.#parse<readonly Pair[]>(answer);
    return new Map(pairs.map((pair): [string, Entry] => [
      pair.Key.slice(start.length), { value: Buffer.from(pair.Value ?? "", "base64").toString("utf8"), version: String(pair.ModifyIndex), session: pair.Session },
    ]));
  }

  async openSession(ttlMs: number, deadline: Deadline): Promise<string> {
    const seconds = Math.max(SESSION_MIN_S, Math.ceil(ttlMs / 1_000));
    // Without the two empty lists the session would end with the health of the agent's machine.
    const answer = await this.#call("PUT", "/v1/session/create", { Name: "sluice", TTL: `${seconds}s`, Behavior: "delete", LockDelay: "0s", NodeChecks: [], Checks: [] }, deadline);
    return this.#parse<{ readonly ID: string }>(answer).ID;
  }

  async touch(session: string, deadline: Deadline): Promise<{ readonly ttlMs: number; readonly snapshot: Snapshot }> {
    const answer = await this.#call("PUT", `/v1/session/renew/${session}`, undefined, deadline, [404]);
    const ttl = answer.status === 404 ? undefined : /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/.exec(this.#parse<readonly { readonly TTL: string }[]>(answer)[0]?.TTL ?? "");
    const [hours, minutes, seconds] = [1, 2, 3].map((index) => Number(ttl?.[index] ?? 0));
    return { ttlMs: (hours! * 3_600 + minutes! * 60 + seconds!) * 1_000, snapshot: await this.snapshot(deadline) };
  }

  async closeSession(session: string, deadline: Deadline): Promise<void> {
    await this.#call("PUT", `/v1/session/destroy/${session}`, undefined, deadline, [404]);
  }

  async commit(conditions: readonly Condition[], writes: readonly Write[], deadline: Deadline): Promise<boolean> {
    const formerSession = (key: string): string | undefined => conditions.find((condition) => condition.key === key)?.entry?.session;
    const operations: Operation[] = [
      ...conditions.map(({ key, entry }): Operation => ({
        KV: entry === undefined ? { Verb: "check-not-exists", Key: this.fullKey(key) } : { Verb: "check-index", Key: this.fullKey(key), Index: Number(entry.version) },
      })),
      ...writes.flatMap(({ key, value, session }): Operation[] => {
        const pair = { Key: this.fullKey(key), Value: base64(value) };
        const former = formerSession(key);
        // A key is locked by one session at a time, and stays locked when it is only set.
        const unlock: Operation[] = former === undefined || former === session ? [] : [{ KV: { Verb: "unlock", ...pair, Session: former } }];
        if (session !== undefined) return [...unlock, { KV: { Verb: "lock", ...pair, Session: session } }];
        return unlock.length > 0 ? unlock : [{ KV: { Verb: "set", ...pair } }];
      }),
    ];
    const answer = await this.#call("PUT", "/v1/txn", operations, deadline, [409]);
    return answer.status === 200;
  }

  watch(key: string, onEvent: () => void): { restart(): void; end(): void } {
    let stop: (() => void) | undefined;
    let timer: NodeJS.Timeout | undefined;
    let index = "0";
    const ask = (): void => {
      stop?.();
      clearTimeout(timer);
      const request = { method: "GET", path: `/v1/kv/${this.fullKey(key)}?index=${index}&wait=${BLOCK_S}s`, headers: this.#headers() } as const;
      stop = this.#endpoints.long(request, (answer) => {
        const next = String(answer?.headers["x-consul-index"] ?? "0");
        // Also when it goes back, which a restored Consul's does: then it is asked from the beginning.
        const moved = next !== index;
        index = answer === undefined || Number(next) < Number(index) ? "0" : next;
        if (moved) onEvent();
        if (answer === undefined) timer = setTimeout(ask, RECONNECT_MS);
        else ask();
      });
    };
    ask();
    return {
      restart() {
        index = "0";
        ask();
      },
      end() {
        stop?.();
        clearTimeout(timer);
      },
    };
  }

  close(): void {
    this.#endpoints.close();
  }

  #headers(): Record<string, string> {
    return this.#settings.token === undefined ? {} : { "x-consul-token": this.#settings.token };
  }

  /** One call. A status that is neither good nor `expected` is refused for good: what passes by itself was tried again already. */
  async #call(method: "GET" | "PUT", path: string, body: unknown, deadline: Deadline, expected: readonly number[] = []): Promise<Answer> {
    const answer = await this.#endpoints.request({ method, path, headers: this.#headers(), ...(body === undefined ? {} : { body: JSON.stringify(body) }) }, deadline);
    if (answer.status === 200 || expected.includes(answer.status)) return answer;
    throw new AppError("LEASE_STORE_UNUSABLE", [this.name, `${path.split("?")[0]!}: status ${answer.status}, ${answer.body.trim().slice(0, 200)}`]);
  }

  #parse<T>(answer: Answer): T {
    try {
      return JSON.parse(answer.body) as T;
    } catch (error) {
      throw new AppError("LEASE_STORE_UNUSABLE", [this.name, "its answer is not JSON: is it a Consul?"], { cause: error });
    }
  }
}

/** Without a leader, and while it is overloaded, Consul answers 500, 503 or 429. */
function unfit(answer: Answer): string | undefined {
  return answer.status >= 500 || answer.status === 429 ? `status ${answer.status}, ${answer.body.trim().slice(0, 200)}` : undefined;
}

/**
 * etcd as a {@link KeyValue}, by its JSON gateway (v3, HTTP/1.1): no package is needed for it.
 *
 * Always holds: a session is an etcd lease of whole seconds. Reads and transactions pass through the quorum. A keep-alive does not: it is
 * answered by whoever takes itself for the leader. So it counts only if a read after it was confirmed in the same term: then no other
 * leader can have begun to count before it.
 */
import { AppError } from "../../proto/errors.ts";
import type { EtcdSettings } from "../core/config.ts";
import type { Deadline } from "./deadline.ts";
import { Endpoints, type Answer } from "./endpoints.ts";
import type { Condition, Entry, KeyValue, Snapshot, Write } from "./key-value.ts";

/** gRPC status codes, as the gateway tells them. */
const CODE = { invalid: 3, deadline: 4, notFound: 5, denied: 7, exhausted: 8, precondition: 9, unavailable: 14, unauthenticated: 16 } as const;

/** What the gateway answers, as far as it is used. Numbers of 64 bits are texts; what is zero is left out. */
interface Json {
  readonly header?: { readonly raft_term?: string };
  readonly kvs?: readonly { readonly key: string; readonly value?: string; readonly mod_revision: string; readonly lease?: string }[];
  readonly result?: Json;
  readonly succeeded?: boolean;
  readonly token?: string;
  readonly ID?: string;
  readonly TTL?: string;
}

const base64 = (text: string): string => Buffer.from(text, "utf8").toString("base64");
const RECONNECT_MS = 200;

export class EtcdKeyValue implements KeyValue {
  readonly type = "etcd";
  readonly name: string;
  readonly prefixSetting = "lease.etcd.prefix";
  readonly #settings: EtcdSettings;
  readonly #endpoints: Endpoints;
  #token: string | undefined;

  constructor(settings: EtcdSettings) {
    this.#settings = settings;
    this.name = `etcd at ${settings.endpoints.join(", ")}`;
    this.#endpoints = new Endpoints({ urls: settings.endpoints, tls: settings, name: this.name, unfit });
  }

  fullKey(key: string): string {
    return `${this.#settings.prefix}/${key}`;
  }

  async snapshot(deadline: Deadline): Promise<Snapshot> {
    return (await this.#read(deadline)).snapshot;
  }

  async #read(deadline: Deadline): Promise<{ readonly snapshot: Snapshot; readonly term: string }> {
    const start = this.fullKey("");
    // "0" is the character after "/".
    const json = await this.#call("/v3/kv/range", { key: base64(start), range_end: base64(`${this.#settings.prefix}0`) }, deadline);
    const entries = (json.kvs ?? []).map((kv): [string, Entry] => [
      Buffer.from(kv.key, "base64").toString("utf8").slice(start.length),
      { value: Buffer.from(kv.value ?? "", "base64").toString("utf8"), version: kv.mod_revision, session: kv.lease === undefined || kv.lease === "0" ? undefined : kv.lease },
    ]);
    return { snapshot: new Map(entries), term: json.header?.raft_term ?? "" };
  }

  async openSession(ttlMs: number, deadline: Deadline): Promise<string> {
    const seconds = Math.ceil(ttlMs / 1_000);
    const { ID, TTL } = await this.#call("/v3/lease/grant", { TTL: String(seconds) }, deadline);
    if (ID === undefined || Number(TTL) < seconds) throw new AppError("LEASE_STORE_UNUSABLE", [this.name, `it grants a lease of ${TTL ?? "no"} s where ${seconds} s were asked for`]);
    return ID;
  }

  async touch(session: string, deadline: Deadline): Promise<{ readonly ttlMs: number; readonly snapshot: Snapshot }> {
    for (;;) {
      const { result } = await this.#call("/v3/lease/keepalive", { ID: session }, deadline);
      const ttlMs = Number(result?.TTL ?? 0) * 1_000;
      const { snapshot, term } = await this.#read(deadline);
      if (ttlMs === 0 || (result?.header?.raft_term === term && term !== "")) return { ttlMs, snapshot };
      await deadline.pause(RECONNECT_MS, "its leader changes");
    }
  }

  async closeSession(session: string, deadline: Deadline): Promise<void> {
    await this.#call("/v3/lease/revoke", { ID: session }, deadline, [CODE.notFound]);
  }

  async commit(conditions: readonly Condition[], writes: readonly Write[], deadline: Deadline): Promise<boolean> {
    const compare = conditions.map(({ key, entry }) => ({ key: base64(this.fullKey(key)), result: "EQUAL", ...(entry === undefined ? { target: "CREATE", create_revision: "0" } : { target: "MOD", mod_revision: entry.version }) }));
    const success = writes.map(({ key, value, session }) => ({ request_put: { key: base64(this.fullKey(key)), value: base64(value), lease: session ?? "0" } }));
    // "requested lease not found": the session has ended.
    return (await this.#call("/v3/kv/txn", { compare, success }, deadline, [CODE.notFound])).succeeded === true;
  }

  watch(key: string, onEvent: () => void): { restart(): void; end(): void } {
    let stop: (() => void) | undefined;
    let timer: NodeJS.Timeout | undefined;
    const connect = (): void => {
      stop?.();
      clearTimeout(timer);
      const request = { method: "POST", path: "/v3/watch", headers: this.#headers(), body: JSON.stringify({ create_request: { key: base64(this.fullKey(key)) } }) } as const;
      const again = (): void => void (timer = setTimeout(connect, RECONNECT_MS));
      // The first piece says that the watch has begun: whatever happened before it is read now.
      stop = this.#endpoints.stream(request, (text) => {
        onEvent();
        if (!text.includes('"canceled":true')) return;
        stop?.();
        again();
      }, again);
    };
    connect();
    return {
      restart: connect,
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
    return this.#token === undefined ? {} : { authorization: this.#token };
  }

  /** One call. An error with one of the codes `expected` is answered as nothing. */
  async #call(path: string, body: object, deadline: Deadline, expected: readonly number[] = []): Promise<Json> {
    for (let attempt = 0; ; attempt++) {
      if (this.#settings.user !== undefined && this.#token === undefined) await this.#authenticate(deadline);
      const answer = await this.#endpoints.request({ method: "POST", path, headers: this.#headers(), body: JSON.stringify(body) }, deadline);
      const { json, code, error } = read(answer);
      if (json !== undefined) return json;
      if (expected.includes(code)) return {};
      // Tokens end, and end with the server that gave them; the rights may have changed as well.
      const isStale = code === CODE.unauthenticated || /auth store is old|invalid auth token/.test(error);
      if (isStale && this.#token !== undefined && attempt < 3) {
        this.#token = undefined;
        continue;
      }
      throw new AppError("LEASE_STORE_UNUSABLE", [this.name, `${path}: ${error}`]);
    }
  }

  async #authenticate(deadline: Deadline): Promise<void> {
    const { user, password } = this.#settings;
    const answer = await this.#endpoints.request({ method: "POST", path: "/v3/auth/authenticate", body: JSON.stringify({ name: user, password }) }, deadline);
    const { json, error } = read(answer);
    if (json?.token === undefined) throw new AppError("LEASE_STORE_UNUSABLE", [this.name, `user ${user ?? ""}: ${error}`]);
    this.#token = json.token;
  }
}

function parse(body: string): Record<string, unknown> | undefined {
  try {
    // A stream answers one object a line, of which the first is what was asked for.
    const value: unknown = JSON.parse(body.trim().split("\n")[0]!);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** The answer as an object, or as an error with its code. A stream wraps its errors. */
function read(answer: Answer): { readonly json?: Json; readonly code: number; readonly error: string } {
  const value = parse(answer.body);
  const wrapped = value?.["error"];
  if (answer.status === 200 && value !== undefined && wrapped === undefined) return { json: value as Json, code: 0, error: "" };
  const inner = (typeof wrapped === "object" && wrapped !== null ? wrapped : (value ?? {})) as Record<string, unknown>;
  const code = Number(inner["code"] ?? inner["grpc_code"] ?? 0);
  return { code, error: String(inner["message"] ?? inner["error"] ?? `status ${answer.status}`) };
}

/** Why another member should be asked: this one has no leader, is overloaded, or is no etcd. */
function unfit(answer: Answer): string | undefined {
  const { json, code, error } = read(answer);
  if (json !== undefined) return undefined;
  const isPassing = code === CODE.unavailable || code === CODE.deadline || code === CODE.exhausted || code === 0 || code === 13 || code === 2;
  return isPassing ? error : undefined;
}

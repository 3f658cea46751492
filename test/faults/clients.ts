/**
 * The clients of a fault test: sessions that write and read through the proxies, each with a cookie jar of its own.
 *
 * Always holds: a session asks one thing after the other and records every request; an entry is sent once, whatever became of it. Which proxy is
 * asked is drawn from the seed; how requests and faults interleave is not.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Random } from "../support/random.ts";
import type { History } from "./history.ts";

export interface ClientOptions {
  readonly seed: number;
  /** So many for each database. */
  readonly sessions: number;
  readonly databases: readonly string[];
  readonly urls: () => readonly { readonly name: string; readonly url: string }[];
  readonly history: History;
  /** ms that a request may take before its client gives it up. */
  readonly timeoutMs: number;
  /** ms between two requests of a session, about. */
  readonly thinkMs: number;
}

export class Clients {
  readonly #options: ClientOptions;
  readonly #begin = performance.now();
  #stopping = false;
  readonly #running: Promise<void>[];

  constructor(options: ClientOptions) {
    this.#options = options;
    const { sessions } = options;
    this.#running = options.databases.flatMap((db, group) => Array.from({ length: sessions }, (_, index) => {
      const [session, partner] = [index, (index + 1) % sessions].map((one) => `s${group * sessions + one}`) as [string, string];
      return this.#session(db, session, partner, new Random(options.seed + group * sessions + index));
    }));
  }

  now(): number {
    return performance.now() - this.#begin;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  async #session(db: string, session: string, partner: string, random: Random): Promise<void> {
    const { history, urls, timeoutMs, thinkMs } = this.#options;
    let cookie = "";
    const ask = async (url: string, init: RequestInit = {}): Promise<{ status: number; node: string | null; marked: boolean; body: Record<string, unknown> }> => {
      const response = await fetch(url, { ...init, headers: { ...(init.headers as Record<string, string>), ...(cookie === "" ? {} : { cookie }) }, signal: AbortSignal.timeout(timeoutMs) });
      const text = await response.text();
      const cookies = response.headers.getSetCookie();
      for (const field of cookies) cookie = field.split(";")[0]!;
      let body: Record<string, unknown>;
      try {
        body = JSON.parse(text) as Record<string, unknown>;
      } catch {
        body = { error: text.slice(0, 200) };
      }
      return { status: response.status, node: response.headers.get("sluice-node"), marked: cookies.length > 0, body };
    };
    for (let n = 1; !this.#stopping; ) {
      const { name: through, url } = random.pick(urls());
      const begin = this.now();
      if (random.chance(0.4)) {
        try {
          const { status, body, marked } = await ask(`${url}/append?db=${db}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ client: session, n }) });
          const asked = { op: "write", session, db, n, through, begin, end: this.now() } as const;
          if (status === 201) history.add({ ...asked, outcome: "ok", node: String(body["node"]), before: String(body["before"]), after: String(body["after"]), marked });
          else history.add({ ...asked, outcome: status === 409 ? "twice" : "unknown", note: `${status} ${JSON.stringify(body)}` });
        } catch (error) {
          history.add({ op: "write", session, db, n, through, begin, end: this.now(), outcome: "unknown", note: (error as Error).message });
        }
        n++;
      } else {
        try {
          const { status, body, node } = await ask(`${url}/list?db=${db}&client=${session}&client=${partner}`);
          const asked = { op: "read", session, db, through, begin, end: this.now(), node: node ?? "?" } as const;
          if (status === 200) history.add({ ...asked, outcome: "ok", node: String(body["node"]), seen: body["entries"] as Record<string, number[]> });
          else history.add({ ...asked, outcome: "failed", note: `${status} ${JSON.stringify(body)}` });
        } catch (error) {
          history.add({ op: "read", session, db, through, begin, end: this.now(), outcome: "failed", note: (error as Error).message });
        }
      }
      await sleep(thinkMs * (0.5 + random.next()));
    }
  }
}

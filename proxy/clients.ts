/**
 * Clients without cookies: which positions each of them has to see, remembered here instead of there.
 *
 * Always holds: bounded in number and in time; a client is known by the hash of what names it, so that no token stays in memory; the table is
 * this process's alone, so it keeps its promise to a client that stays with one node, until its proxy is started again. A cookie, where there is
 * one, counts instead.
 */
import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { LRUCache } from "lru-cache";
import { AppError } from "../proto/errors.ts";
import { reachedAll, type Marks } from "./positions.ts";

/** How clients are told apart: `cookie` knows cookies only, `none` not even these. */
export type ClientsSetting =
  | { readonly by: "cookie" } | { readonly by: "none" } | { readonly by: "address" } | { readonly by: "header"; readonly header: string };

/** Reads `cookie`, `none`, `address` or `header:NAME`; undefined for anything else. */
export function parseClients(text: string): ClientsSetting | undefined {
  if (text === "cookie" || text === "none" || text === "address") return { by: text };
  const header = /^header:([A-Za-z0-9!#$%&'*+.^_`|~-]{1,64})$/.exec(text)?.[1];
  return header === undefined ? undefined : { by: "header", header: header.toLowerCase() };
}

/** The same, for a text that was checked before. */
export function clientsSetting(text: string): ClientsSetting {
  const setting = parseClients(text);
  if (setting === undefined) throw new AppError("CONFIG_INVALID", ["proxy.clients", `"${text}" is none of cookie, none, address, header:NAME`]);
  return setting;
}

/** One per process. */
export class Clients {
  readonly #setting: ClientsSetting;
  readonly #marks: LRUCache<string, Marks> | undefined;

  constructor(setting: ClientsSetting, bounds: { readonly count: number; readonly ageMs: number }) {
    this.#setting = setting;
    if (setting.by === "address" || setting.by === "header") this.#marks = new LRUCache({ max: bounds.count, ttl: bounds.ageMs });
  }

  /** Whether positions go to clients and come back at all. */
  get cookies(): boolean {
    return this.#setting.by !== "none";
  }

  /** The name of this client in the table; undefined where the table does not serve it. */
  keyOf(headers: IncomingHttpHeaders, address: () => string): string | undefined {
    if (this.#marks === undefined) return undefined;
    const name = this.#setting.by === "header" ? headers[this.#setting.header] : address();
    return name === undefined || name === "" ? undefined : createHash("sha256").update(String(name)).digest("base64");
  }

  wanted(key: string | undefined): Marks | undefined {
    return key === undefined ? undefined : this.#marks?.get(key);
  }

  /** Notes what a client was told. Responses that ran at once may come in any order: one that says less takes nothing away. */
  remember(key: string | undefined, marks: Marks): void {
    if (key === undefined || this.#marks === undefined) return;
    const known = this.#marks.get(key);
    this.#marks.set(key, known !== undefined && reachedAll(known, marks) ? known : marks);
  }

  /** Forgets what a client was told: it does not exist any more. */
  forget(key: string | undefined): void {
    if (key !== undefined) this.#marks?.delete(key);
  }

  /** How many are remembered. */
  get count(): number {
    return this.#marks?.size ?? 0;
  }
}

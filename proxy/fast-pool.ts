/**
 * Connections of the fast path to the application: those that wait for work, and the requests that wait for one.
 *
 * Always holds: the connection that was used last is used first, so that those beyond the need grow old and close; never more than the bound
 * are open; requests are served in the order in which they came.
 */
import type { NetConnectOpts } from "node:net";
import { FastUpstream, type FastClient, type Flow } from "./fast-sockets.ts";

export class FastPool {
  readonly #flow: Flow;
  readonly #to: NetConnectOpts;
  readonly #most: number;
  readonly #idle: FastUpstream[] = [];
  readonly #waiting = new Set<FastClient>();
  #open = 0;

  constructor(flow: Flow, to: NetConnectOpts, most: number) {
    this.#flow = flow;
    this.#to = to;
    this.#most = most;
  }

  /** A connection that is free, or a new one that is still connecting; undefined when the bound is reached. */
  take(isFresh: boolean): FastUpstream | undefined {
    if (!isFresh) {
      for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) if (!idle.destroyed && idle.readable) return idle;
    }
    if (this.#open >= this.#most) {
      // A fresh one is wanted because an old one failed: the oldest makes room.
      const oldest = isFresh ? this.#idle.shift() : undefined;
      if (oldest === undefined) return undefined;
      oldest.destroy();
    }
    this.#open++;
    const made = new FastUpstream(this.#flow);
    made.connect(this.#to);
    return made;
  }

  /** It is free again. */
  give(upstream: FastUpstream): void {
    this.#idle.push(upstream);
  }

  /** It has gone. */
  closed(upstream: FastUpstream): void {
    this.#open--;
    const at = this.#idle.indexOf(upstream);
    if (at >= 0) this.#idle.splice(at, 1);
  }

  wait(client: FastClient): void {
    client.queued = true;
    this.#waiting.add(client);
  }

  /** The request that has waited longest; it waits no more. */
  nextWaiting(): FastClient | undefined {
    for (const client of this.#waiting) {
      this.leave(client);
      return client;
    }
    return undefined;
  }

  leave(client: FastClient): void {
    client.queued = false;
    this.#waiting.delete(client);
  }

  get counts(): { readonly open: number; readonly idle: number; readonly waiting: number } {
    return { open: this.#open, idle: this.#idle.length, waiting: this.#waiting.size };
  }

  destroy(): void {
    for (const idle of this.#idle.splice(0)) idle.destroy();
  }
}

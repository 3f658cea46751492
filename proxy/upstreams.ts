/**
 * Connections to the application and to the primary's proxy, kept alive and shared by all requests.
 *
 * Always holds: one pool to the application for the life of the process; pools to other nodes are made on demand, and those of former primaries
 * are closed once a few newer ones exist, without breaking requests that still use them.
 */
import { createRequire } from "node:module";
import type { Dispatcher, Pool as PoolType } from "undici";
import type { Limits } from "./limits.ts";

// The package's entry also loads fetch, WebSocket, caches and mocks: 9 MiB of memory that a proxy has no use for.
const Pool = createRequire(import.meta.url)("undici/lib/dispatcher/pool.js") as typeof PoolType;

/** A primary that came back gets its old pool; more former primaries than this are forgotten. */
const PEERS_MAX = 3;

export class Upstreams {
  readonly application: PoolType;
  readonly #limits: Limits;
  readonly #peers = new Map<string, PoolType>();

  /** `target` is the origin of the application. */
  constructor(target: string, limits: Limits) {
    this.#limits = limits;
    this.application = this.#pool(target);
  }

  /** The pool to another node's proxy, by its URL; undefined for what is no URL. */
  peer(url: string): Dispatcher | undefined {
    const known = this.#peers.get(url);
    if (known !== undefined) return known;
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) return undefined;
    const pool = this.#pool(new URL(url).origin);
    this.#peers.set(url, pool);
    for (const [old, former] of this.#peers) {
      if (this.#peers.size <= PEERS_MAX) break;
      this.#peers.delete(old);
      void former.close();
    }
    return pool;
  }

  /** Open connections and requests that wait for one, for the metrics. */
  counts(): Record<string, number> {
    const { connected, pending } = this.application.stats;
    let [peerConnected, peerPending] = [0, 0];
    for (const { stats } of this.#peers.values()) {
      peerConnected += stats.connected;
      peerPending += stats.pending;
    }
    return { applicationConnected: connected, applicationPending: pending, peerConnected, peerPending };
  }

  /** Cuts all connections. */
  async destroy(): Promise<void> {
    await Promise.all([this.application, ...this.#peers.values()].map((pool) => pool.destroy()));
  }

  #pool(origin: string): PoolType {
    const limits = this.#limits;
    return new Pool(origin, {
      connections: limits.upstreamConnections, pipelining: 1, connect: { timeout: limits.connectMs }, headersTimeout: limits.responseHeadMs,
      bodyTimeout: limits.responseIdleMs, maxHeaderSize: limits.responseHeadBytes,
    });
  }
}

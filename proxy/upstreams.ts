/**
 * Connections to the application and to the primary's proxy, kept alive and shared by all requests; those with trailers have their own (trailing.ts).
 *
 * Always holds: one pool to the application for the life of the process; pools to other nodes are made on demand, and those of former primaries
 * are closed once a few newer ones exist, without breaking requests that still use them.
 */
import { Agent } from "node:http";
import { Agent as TlsAgent } from "node:https";
import { createRequire } from "node:module";
import type { OnReadOpts, Socket } from "node:net";
import type { Pool as PoolType } from "undici";
import type { Limits } from "./limits.ts";
import { trailingSender, type Sender } from "./trailing.ts";

// The package's entry also loads fetch, WebSocket, caches and mocks: 9 MiB of memory that a proxy has no use for.
const Pool = createRequire(import.meta.url)("undici/lib/dispatcher/pool.js") as typeof PoolType;

/** What a connection reads into, for the moment until it is copied: Node's own way takes and gives back 64 KiB for each read, however short. */
const SHARED = Buffer.allocUnsafeSlow(64 << 10);
const READ_SHARED: OnReadOpts = {
  buffer: SHARED,
  callback(this: Socket, count: number) {
    return this.push(Buffer.from(SHARED.subarray(0, count)));
  },
};

/** A primary that came back gets its old pool; more former primaries than this are forgotten. */
const PEERS_MAX = 3;

/** One origin: a pool, and for requests with trailers as many connections that are not kept. */
export class Upstream {
  readonly #origin: URL;
  readonly #limits: Limits;
  readonly #pool: PoolType;
  readonly #agent: Agent;

  constructor(origin: string, limits: Limits) {
    this.#origin = new URL(origin);
    this.#limits = limits;
    this.#pool = new Pool(origin, {
      connections: limits.upstreamConnections, pipelining: 1,
      // What TLS reads is not what it hands on.
      connect: { timeout: limits.connectMs, ...(this.#origin.protocol === "http:" ? { onread: READ_SHARED } : {}) },
      maxHeaderSize: limits.responseHeadBytes,
    });
    this.#agent = new (this.#origin.protocol === "https:" ? TlsAgent : Agent)({ keepAlive: false, maxSockets: limits.upstreamConnections });
  }

  /** Who sends a request; `trailers` for one that has announced some. */
  sender(trailers: (() => [string, string][]) | undefined): Sender {
    return trailers === undefined ? this.#pool : trailingSender({ origin: this.#origin, agent: this.#agent, limits: this.#limits, trailers });
  }

  get connected(): number {
    return this.#pool.stats.connected + sum(this.#agent.sockets);
  }

  get pending(): number {
    return this.#pool.stats.pending + sum(this.#agent.requests);
  }

  /** Ends when its last request has. */
  close(): void {
    void this.#pool.close();
  }

  /** Cuts all connections. */
  async destroy(): Promise<void> {
    this.#agent.destroy();
    await this.#pool.destroy();
  }
}

export class Upstreams {
  readonly application: Upstream;
  readonly #limits: Limits;
  readonly #peers = new Map<string, Upstream>();

  /** `target` is the origin of the application. */
  constructor(target: string, limits: Limits) {
    this.#limits = limits;
    this.application = new Upstream(target, limits);
  }

  /** Another node's proxy, by its URL; undefined for what is no URL. */
  peer(url: string): Upstream | undefined {
    const known = this.#peers.get(url);
    if (known !== undefined) return known;
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) return undefined;
    const peer = new Upstream(new URL(url).origin, this.#limits);
    this.#peers.set(url, peer);
    for (const [old, former] of this.#peers) {
      if (this.#peers.size <= PEERS_MAX) break;
      this.#peers.delete(old);
      former.close();
    }
    return peer;
  }

  /** Open connections and requests that wait for one, for the metrics. */
  counts(): Record<string, number> {
    const { connected, pending } = this.application;
    let [peerConnected, peerPending] = [0, 0];
    for (const peer of this.#peers.values()) {
      peerConnected += peer.connected;
      peerPending += peer.pending;
    }
    return { applicationConnected: connected, applicationPending: pending, peerConnected, peerPending };
  }

  /** Cuts all connections. */
  async destroy(): Promise<void> {
    await Promise.all([this.application, ...this.#peers.values()].map((upstream) => upstream.destroy()));
  }
}

function sum(lists: NodeJS.ReadOnlyDict<readonly unknown[]>): number {
  return Object.values(lists).reduce((count, list) => count + (list?.length ?? 0), 0);
}

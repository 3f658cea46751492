/**
 * One line for a request that is over.
 *
 * Always holds: at level debug every request has its line, at level info the share that the operator asked for; without either nothing is computed.
 */
import type { Logger } from "pino";
import type { Exchange } from "./exchange.ts";
import type { FastClient } from "./fast-sockets.ts";

/** Writes the line, if this request gets one. `share` is from 0 (none) to 1 (all). */
export function writeAccess(log: Logger, share: number, exchange: Exchange, status: number, client: () => string): void {
  const isSampled = share > 0 && (share >= 1 || Math.random() < share);
  if (!isSampled && !log.isLevelEnabled("debug")) return;
  const { id, request, response, decision, reason, startedMs, headMs, sentMs, waitedMs, heldMs, resends, failures } = exchange;
  const line = {
    id, method: request.method, url: request.url, status, decision, reason, node: exchange.node, complete: response?.writableFinished ?? true, client: client(),
    ms: rounded(performance.now() - startedMs), ...(headMs > 0 ? { upstreamMs: rounded(headMs - sentMs) } : {}), waitedMs: Math.round(waitedMs), heldMs: Math.round(heldMs),
    ...(failures > 0 ? { failures, resends } : {}), ...(exchange.replayed ? { replayed: true } : {}), upstreamError: exchange.upstreamError, from: exchange.hop?.node,
  };
  if (isSampled) log.info(line, "request");
  else log.debug(line, "request");
}

/** The same for a read that took the fast path. */
export function writeFastAccess(log: Logger, share: number, client: FastClient, node: string): void {
  const isSampled = share > 0 && (share >= 1 || Math.random() < share);
  if (!isSampled && !log.isLevelEnabled("debug")) return;
  const line = {
    id: client.id, method: client.head?.method, url: client.head?.target, status: client.status, decision: "local", reason: "read", node, complete: !client.destroyed,
    client: client.peer, ms: rounded(performance.now() - client.startedMs), fast: true,
  };
  if (isSampled) log.info(line, "request");
  else log.debug(line, "request");
}

function rounded(ms: number): number {
  return Math.round(ms * 10) / 10;
}

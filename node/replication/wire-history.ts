/**
 * Epoch histories on the wire.
 *
 * Always holds: what arrives is made sound before anything is decided by it; a message without a history reads as an empty one.
 */
import { soundHistory, type EpochHistory } from "../store/epoch-history.ts";
import type { History, History__Output } from "../../proto/gen/sluice/v1/History.ts";

export function toWireHistory(database: string, history: EpochHistory): History {
  return { database, epochs: history.map(({ epoch, firstTxid, node }) => ({ epoch, firstTxid, node })) };
}

export function historyOf(wire: History__Output | null | undefined): EpochHistory {
  return soundHistory(wire?.epochs ?? []);
}

export function historiesOf(wires: readonly History__Output[]): Map<string, EpochHistory> {
  return new Map(wires.map((wire) => [wire.database, historyOf(wire)]));
}

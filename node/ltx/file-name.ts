/**
 * The names of LTX files: first and last transaction, so that a folder listing is the table of contents of the log.
 *
 * Always holds: names sort as their transactions do.
 */
import { formatHex16 } from "../../proto/position.ts";
import type { Txid } from "../../proto/position.ts";

/** "0000000000000001-0000000000000003.ltx" */
export function ltxFileName(minTxid: Txid, maxTxid: Txid): string {
  return `${formatHex16(minTxid)}-${formatHex16(maxTxid)}.ltx`;
}

const FILE_NAME = /^([0-9a-f]{16})-([0-9a-f]{16})\.ltx$/;

/** Reverses {@link ltxFileName}; undefined for any other name, and for TXIDs that no transaction can have. */
export function parseLtxFileName(name: string): { minTxid: Txid; maxTxid: Txid } | undefined {
  const match = FILE_NAME.exec(name);
  if (match === null) return undefined;
  const minTxid = Number.parseInt(match[1]!, 16);
  const maxTxid = Number.parseInt(match[2]!, 16);
  return minTxid >= 1 && minTxid <= maxTxid && Number.isSafeInteger(maxTxid) ? { minTxid, maxTxid } : undefined;
}

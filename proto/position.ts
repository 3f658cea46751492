/**
 * A position names one state of one database: (epoch, TXID, checksum).
 *
 * Always holds: within an epoch a TXID names exactly one state; TXIDs only grow; the checksum is the LTX database checksum
 * (XOR of the page checksums with bit 63 set), or 0 for a database that holds no page. The epoch is the fencing number of the lease
 * under which the transaction was committed. Every part of Sluice that compares states compares positions, never clocks.
 */

/** Number of the transaction that led to a state; 0 before the first. Safe integer: 2^53 transactions outlast any database here. */
export type Txid = number;

export interface Position {
  readonly epoch: number;
  readonly txid: Txid;
  /** 64-bit unsigned. */
  readonly checksum: bigint;
}

export const ZERO_POSITION: Position = { epoch: 0, txid: 0, checksum: 0n };

/** 16 lower-case hex digits, as LTX file names and the `-pos` file show a TXID. */
export function formatHex16(value: number | bigint): string {
  return BigInt.asUintN(64, BigInt(value)).toString(16).padStart(16, "0");
}

/** `epoch/txid/checksum`, each as 16 hex digits: the text of the `-pos` file without its newline. */
export function formatPosition(position: Position): string {
  return `${formatHex16(position.epoch)}/${formatHex16(position.txid)}/${formatHex16(position.checksum)}`;
}

const POSITION = /^([0-9a-f]{16})\/([0-9a-f]{16})\/([0-9a-f]{16})$/;

/** Reverses {@link formatPosition}; undefined for anything else, so that a forged text is never an error. */
export function parsePosition(text: string): Position | undefined {
  const match = POSITION.exec(text.trim());
  if (match === null) return undefined;
  const epoch = Number.parseInt(match[1]!, 16);
  const txid = Number.parseInt(match[2]!, 16);
  if (!Number.isSafeInteger(epoch) || !Number.isSafeInteger(txid)) return undefined;
  return { epoch, txid, checksum: BigInt(`0x${match[3]!}`) };
}

/**
 * Whether a node at `have` has everything that `want` names and that was not lost: a later epoch counts as later, whatever its TXID. A node is in an
 * epoch only once it has all that came before its first transaction, so it has what survived of the older ones; the rest exists nowhere.
 */
export function hasReached(have: Position, want: { readonly epoch: number; readonly txid: Txid }): boolean {
  return have.epoch > want.epoch || (have.epoch === want.epoch && have.txid >= want.txid);
}

export function samePosition(a: Position, b: Position): boolean {
  return a.epoch === b.epoch && a.txid === b.txid && a.checksum === b.checksum;
}

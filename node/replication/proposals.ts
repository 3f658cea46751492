/**
 * The proposals of one follower's stream on the primary: what was offered to it, and what is said instead of sending a transaction twice.
 *
 * Always holds: a proposal goes out only when everything before it has gone out, so a follower stores it where it belongs; what was offered is
 * either confirmed in its place among the transactions, or rewound.
 */
import { STREAM_PIECE_BYTES } from "../core/limits.ts";
import type { LogEntry } from "../store/tx-log.ts";
import type { FileOwner } from "../../proto/gen/sluice/v1/FileOwner.ts";
import type { FollowDown } from "../../proto/gen/sluice/v1/FollowDown.ts";
import type { Quorum } from "./quorum.ts";

export class Proposals {
  readonly #quorum: Quorum;
  /** Serial and TXID of the last one offered, by database. */
  readonly #offered = new Map<string, { readonly serial: number; readonly txid: number }>();

  constructor(quorum: Quorum) {
    this.#quorum = quorum;
  }

  /** The messages that offer what is live, for a follower that has been sent everything before `next`. Empty when there is nothing new to offer. */
  *offer(name: string, next: number, owner: FileOwner | null): Generator<FollowDown> {
    const live = this.#quorum.live(name);
    if (live === undefined || live.proposal.position.txid !== next || this.#offered.get(name)?.serial === live.serial) return;
    const { serial, proposal: { position, ltx } } = live;
    this.#offered.set(name, { serial, txid: position.txid });
    for (let at = 0; at < ltx.length; at += STREAM_PIECE_BYTES) {
      const end = Math.min(ltx.length, at + STREAM_PIECE_BYTES);
      yield { prepare: { database: name, epoch: position.epoch, txid: position.txid, serial, data: ltx.subarray(at, end), last: end === ltx.length, owner } };
    }
  }

  /** What is sent in place of this entry of the log, where the follower was offered it before. */
  confirm(name: string, entry: LogEntry): FollowDown | undefined {
    const offered = this.#offered.get(name);
    if (offered === undefined || offered.txid > entry.max) return undefined;
    this.#offered.delete(name);
    return entry.min === offered.txid && entry.max === offered.txid ? { confirm: { database: name, serial: offered.serial } } : undefined;
  }

  /** What tells the follower to drop what it was offered up to this serial; undefined when it was offered nothing. */
  rewind(name: string, serial: number): FollowDown | undefined {
    const offered = this.#offered.get(name);
    if (offered === undefined || offered.serial > serial) return undefined;
    this.#offered.delete(name);
    return { rewind: { database: name, serial } };
  }
}

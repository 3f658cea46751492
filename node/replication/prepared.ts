/**
 * Proposals as they arrive at a follower: pieces become a transaction file, which is stored and answered for, then confirmed or rewound.
 *
 * Always holds: what is answered for is stored; one that does not fit is not answered for, and the primary counts on others. Calls of one database
 * take effect in the order of the stream, because each goes through the database's turn.
 */
import type { EpochHistory } from "../store/epoch-history.ts";
import type { Follower } from "../store/follower.ts";
import { SYNC_BYTES_MAX } from "../store/sync-commit.ts";
import { AppError, isAppError } from "../../proto/errors.ts";
import type { FollowUp } from "../../proto/gen/sluice/v1/FollowUp.ts";
import type { Confirm__Output } from "../../proto/gen/sluice/v1/Confirm.ts";
import type { FileOwner__Output } from "../../proto/gen/sluice/v1/FileOwner.ts";
import type { Prepare__Output } from "../../proto/gen/sluice/v1/Prepare.ts";
import type { Rewind__Output } from "../../proto/gen/sluice/v1/Rewind.ts";

export interface PreparedHost {
  followerOf(name: string): Promise<Follower>;
  send(...messages: readonly FollowUp[]): void;
  /** Where the database is now, for the primary. */
  ack(follower: Follower): FollowUp;
  /** Of the primary. */
  epoch(): number;
  /** The epoch history of the primary, as it was told last. */
  historyOf(name: string): EpochHistory | undefined;
  /** A confirmed transaction is not here as a proposal: it is to be sent as any other. */
  resend(name: string): void;
  report(message: string, error: unknown): void;
}

/** The acknowledgement of a confirmed transaction waits so long for the next answer to go with: alone it costs both nodes as much as that. */
const ACK_PAUSE_MS = 1;

export class Prepared {
  readonly #host: PreparedHost;
  /** Databases whose position the primary is still to be told, with the timer that does it. */
  readonly #unsaid = new Map<Follower, NodeJS.Timeout>();
  readonly #pieces = new Map<string, Buffer[]>();
  readonly #owners = new Map<string, FileOwner__Output>();

  constructor(host: PreparedHost) {
    this.#host = host;
  }

  /** The stream has ended: what has not arrived as a whole never will. */
  reset(): void {
    this.#pieces.clear();
    for (const timer of this.#unsaid.values()) clearTimeout(timer);
    this.#unsaid.clear();
  }

  #acks(): FollowUp[] {
    const acks = [...this.#unsaid.keys()].map((follower) => this.#host.ack(follower));
    for (const timer of this.#unsaid.values()) clearTimeout(timer);
    this.#unsaid.clear();
    return acks;
  }

  #ackSoon(follower: Follower): void {
    if (!this.#unsaid.has(follower)) this.#unsaid.set(follower, setTimeout(() => this.#host.send(...this.#acks()), ACK_PAUSE_MS));
  }

  async prepare(message: Prepare__Output): Promise<void> {
    const { database: name, epoch, serial, data, last, owner } = message;
    const pieces = this.#pieces.get(name) ?? [];
    pieces.push(data);
    if (pieces.reduce((sum, { length }) => sum + length, 0) > 2 * SYNC_BYTES_MAX) throw new AppError("INVALID_MESSAGE", ["Prepare", "it is larger than any proposal"]);
    if (!last) return void this.#pieces.set(name, pieces);
    this.#pieces.delete(name);
    if (owner !== null) this.#owners.set(name, owner);
    const ltx = pieces.length === 1 ? data : Buffer.concat(pieces);
    try {
      const follower = await this.#host.followerOf(name);
      await follower.prepare(ltx, epoch, serial);
      this.#host.send({ stored: { database: name, serial } }, ...this.#acks());
    } catch (error) {
      this.#host.report(`A proposal for "${name}" is not stored: ${(error as Error).message}`, isAppError(error, "POSITION_MISMATCH") ? undefined : error);
    }
  }

  async confirm({ database: name, serial }: Confirm__Output): Promise<void> {
    try {
      const follower = await this.#host.followerOf(name);
      if (await follower.confirm(serial, this.#owners.get(name), this.#host.historyOf(name))) this.#ackSoon(follower);
      else this.#host.resend(name);
    } catch (error) {
      this.#host.report(`A confirmed transaction of "${name}" cannot be applied and is asked for again`, error);
      this.#host.resend(name);
    }
  }

  async rewind({ database: name, serial }: Rewind__Output): Promise<void> {
    try {
      await (await this.#host.followerOf(name)).rewind(serial, this.#host.epoch());
    } catch (error) {
      // Kept then, and refused by its serial whenever it is spoken of again.
      this.#host.report(`A refused proposal for "${name}" cannot be dropped`, error);
    }
  }
}

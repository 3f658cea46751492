/**
 * The way to one follower, on the primary: the gRPC call, then the link if the follower opens one.
 *
 * Always holds: messages go out in one order, whichever way they take: what is said on the call after Linked (TakeLease) has no place in an order. A follower
 * that opens no link has lost nothing.
 */
import { once } from "node:events";
import type * as grpc from "@grpc/grpc-js";
import { AppError } from "../../proto/errors.ts";
import { DOWN_CODEC } from "../../proto/link-frames.ts";
import type { FollowDown } from "../../proto/gen/sluice/v1/FollowDown.ts";
import type { FollowUp__Output } from "../../proto/gen/sluice/v1/FollowUp.ts";
import type { BulkDoor, Expected } from "./bulk-door.ts";
import { Link } from "./link.ts";

export type FollowCall = grpc.ServerDuplexStream<FollowUp__Output, FollowDown>;

interface WayEvents {
  onMessage(message: FollowUp__Output): void;
  /** The link broke, and the call is to end with it. */
  onLost(error: unknown): void;
}

export class WayDown {
  readonly #call: FollowCall;
  readonly #events: WayEvents;
  #expected: Expected | undefined;
  #link: Link<FollowDown, FollowUp__Output> | undefined;

  constructor(call: FollowCall, events: WayEvents) {
    this.#call = call;
    this.#events = events;
  }

  /** Waits for the follower's link; returns the token for its Welcome, the message that has to go out in this turn. */
  expectLink(door: BulkDoor): Buffer {
    const expected = door.expect();
    this.#expected = expected;
    expected.connected.then((socket) => {
      if (this.#expected !== expected) return;
      const link = new Link<FollowDown, FollowUp__Output>(socket, DOWN_CODEC, {
        onMessage: (message) => this.#events.onMessage(message),
        onLost: (error) => this.#events.onLost(error instanceof AppError ? error : new AppError("NODE_UNAVAILABLE", ["the follower", `link: ${error.message}`], { cause: error })),
      });
      this.#call.write({ linked: {} });
      this.#link = link;
    }, () => undefined);
    return expected.token;
  }

  /** The follower has said its last on the call. */
  goOn(): void {
    if (this.#link === undefined) throw new AppError("INVALID_MESSAGE", ["Linked", "there is no link"]);
    this.#link.open();
  }

  /** False when the follower does not take more for now. */
  write(message: FollowDown): boolean {
    return (this.#link ?? this.#call).write(message);
  }

  get writableNeedDrain(): boolean {
    return (this.#link ?? this.#call).writableNeedDrain;
  }

  async drained(): Promise<void> {
    if (this.#link !== undefined) return this.#link.drained();
    await once(this.#call, "drain");
  }

  close(): void {
    this.#expected?.forget();
    this.#expected = undefined;
    this.#link?.close();
  }
}

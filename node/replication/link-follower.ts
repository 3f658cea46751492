/**
 * The way to the primary, on a follower: the gRPC call, then the link if the primary offers one and it can be opened.
 *
 * Always holds: messages come in one order, whichever way they take; call and link end together. A link that cannot be opened changes nothing; one that breaks
 * before it has brought anything is not asked for in the next call, because something between the nodes may let only HTTP/2 through.
 */
import type * as grpc from "@grpc/grpc-js";
import { MAGIC } from "../../proto/bulk-frames.ts";
import { UP_CODEC } from "../../proto/link-frames.ts";
import type { FollowDown__Output } from "../../proto/gen/sluice/v1/FollowDown.ts";
import type { FollowUp } from "../../proto/gen/sluice/v1/FollowUp.ts";
import { Link } from "./link.ts";

export type FollowStream = grpc.ClientDuplexStream<FollowUp, FollowDown__Output>;

export class WayUp {
  /** Addresses where the link of the last call broke before it had brought anything. */
  static readonly #broken = new Set<string>();
  readonly #call: FollowStream;
  readonly #onMessage: (message: FollowDown__Output) => void;
  #link: Link<FollowUp, FollowDown__Output> | undefined;
  #address = "";
  #linked = false;
  #heard = false;

  /** `onLost` is called once. */
  constructor(call: FollowStream, events: { onMessage(message: FollowDown__Output): void; onLost(error: grpc.ServiceError | undefined): void }) {
    this.#call = call;
    this.#onMessage = (message) => events.onMessage(message);
    let over = false;
    const lost = (error: grpc.ServiceError | undefined): void => {
      this.#link?.close();
      if (over) return;
      over = true;
      events.onLost(error);
    };
    call.on("data", (message: FollowDown__Output) => {
      if (message.linked !== null && message.linked !== undefined) this.#goOn();
      else this.#onMessage(message);
    });
    call.on("error", (error: grpc.ServiceError) => lost(error));
    call.on("end", () => lost(undefined));
  }

  /** The primary waits for a link that begins with this token. */
  openLink(where: { readonly host: string; readonly port: number }, token: Buffer): void {
    this.#address = `${where.host}:${where.port}`;
    if (WayUp.#broken.delete(this.#address)) return;
    this.#link = Link.dial(where, Buffer.concat([MAGIC, token]), UP_CODEC, {
      onMessage: (message) => {
        this.#heard = true;
        this.#onMessage(message);
      },
      onLost: () => {
        this.#link = undefined;
        if (this.#linked) this.#lost();
      },
    });
  }

  /** The primary goes on over a link that is no more. */
  #lost(): void {
    if (!this.#heard) WayUp.#broken.add(this.#address);
    this.#call.cancel();
  }

  #goOn(): void {
    if (this.#link === undefined) return this.#lost();
    this.#call.write({ linked: {} });
    this.#linked = true;
    this.#link.open();
  }

  get #way(): FollowStream | Link<FollowUp, FollowDown__Output> {
    return this.#linked && this.#link !== undefined ? this.#link : this.#call;
  }

  write(...messages: readonly FollowUp[]): void {
    const way = this.#way;
    if (way instanceof Link) way.write(...messages);
    else for (const message of messages) way.write(message);
  }

  /** Nothing more is handed out until `resume`, but for what is on its way already. */
  pause(): void {
    this.#way.pause();
  }

  resume(): void {
    this.#way.resume();
  }

  /** Ends both ways; `onLost` tells when. */
  cancel(): void {
    this.#call.cancel();
  }
}

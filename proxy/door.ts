/**
 * Who may come in: so many connections from one address.
 *
 * Always holds: each connection that was let in is counted until it has closed, once; one too many gets a sentence instead of silence, as the answer
 * to its first request, and goes. Where other proxies stand in front all connections are theirs, so addresses say nothing and are not counted.
 */
import type { Socket } from "node:net";
import { answerSocket, linger } from "./answer.ts";

export interface DoorParts {
  /** Undefined where nobody is counted. */
  readonly connectionsPerClient: number | undefined;
  readonly lingerMs: number;
  readonly nextId: () => string;
  readonly onRefused: () => void;
}

export class Door {
  readonly #parts: DoorParts;
  readonly #open = new Map<string, number>();

  constructor(parts: DoorParts) {
    this.#parts = parts;
  }

  /** Whether the connection may stay. When not, it is taken care of; when it may, `leave` has to be told of its end. */
  enter(socket: Socket, peer: string): boolean {
    const { connectionsPerClient } = this.#parts;
    if (connectionsPerClient === undefined) return true;
    const count = this.#open.get(peer) ?? 0;
    if (count >= connectionsPerClient) {
      this.#refuse(socket);
      return false;
    }
    this.#open.set(peer, count + 1);
    return true;
  }

  leave(peer: string): void {
    const count = this.#open.get(peer);
    if (count === undefined) return;
    if (count === 1) this.#open.delete(peer);
    else this.#open.set(peer, count - 1);
  }

  #refuse(socket: Socket): void {
    const { lingerMs, nextId, onRefused } = this.#parts;
    onRefused();
    // An answer before there is a request would be none: a client may take it for one to something else.
    socket.once("data", () => answerSocket(socket, "CONNECTIONS", { id: nextId() }));
    linger(socket, lingerMs);
  }
}

/** The address of the other end of a connection, IPv4 in its usual form. */
export function peerOf({ remoteAddress = "unknown" }: Socket): string {
  return remoteAddress.startsWith("::ffff:") ? remoteAddress.slice(7) : remoteAddress;
}

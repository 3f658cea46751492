/**
 * What the process that serves a fuse-native mount and the engine say to each other: one JSON text a line, over a unix socket.
 *
 * Always holds: an `ask` is answered by one `reply` with the same id, perhaps by a later engine, to which what is unanswered is asked again;
 * everything else is told once and never answered. Paths are relative to the mount root. Both ends are of one release, so nothing is checked.
 */
import type { Socket } from "node:net";

/** Name of the socket, below the node's `run` folder. */
export const SOCKET_NAME = "mount.sock";

/** Waits for a hook of the store. `header` is hexadecimal. */
export type Ask =
  | { readonly op: "truncate"; readonly path: string; readonly size: number }
  | { readonly op: "unlink"; readonly path: string }
  | { readonly op: "rename"; readonly path: string; readonly to: string }
  | { readonly op: "journal"; readonly path: string; readonly header: string | undefined }
  /** The file is there; its creator goes on when the store watches it. */
  | { readonly op: "created"; readonly path: string }
  | { readonly op: "virtual"; readonly path: string };

/** Something has happened. */
export type Tell =
  | { readonly op: "truncated"; readonly path: string; readonly size: number }
  | { readonly op: "unlinked" | "rawWritten" | "closed"; readonly path: string }
  | { readonly op: "renamed"; readonly path: string; readonly to: string };

export type FromServer =
  | { readonly kind: "ask"; readonly id: number; readonly ask: Ask }
  | { readonly kind: "tell"; readonly tell: Tell }
  /** Answers `hide` and `count`. */
  | { readonly kind: "answer"; readonly id: number; readonly value: number }
  /** Requests served so far, by operation. */
  | { readonly kind: "counts"; readonly counts: Record<string, number> }
  /** The engine is to rename `path` to `ghost` on the mount; see Handles.leave. */
  | { readonly kind: "detach"; readonly path: string; readonly ghost: string }
  | { readonly kind: "report"; readonly message: string; readonly stack: string };

export type FromEngine =
  /** `errno` is negative, 0 for consent. `content` (hexadecimal) answers `virtual`; absent when there is no such file. */
  | { readonly kind: "reply"; readonly id: number; readonly errno: number; readonly content?: string }
  | { readonly kind: "role"; readonly role: "primary" | "follower" }
  | { readonly kind: "gate" }
  | { readonly kind: "hide"; readonly id: number; readonly path: string }
  | { readonly kind: "reveal"; readonly path: string }
  | { readonly kind: "names"; readonly names: readonly string[] }
  /** The backing file of this name was replaced or removed by the engine. */
  | { readonly kind: "entry"; readonly path: string }
  | { readonly kind: "count"; readonly id: number; readonly path: string };

export function sendLine(socket: Socket, message: FromServer | FromEngine): void {
  if (!socket.destroyed) socket.write(`${JSON.stringify(message)}\n`);
}

/** Calls back for each message that arrives. */
export function onLines<Message>(socket: Socket, receive: (message: Message) => void): void {
  let rest = "";
  socket.setEncoding("utf8");
  socket.on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) receive(JSON.parse(line) as Message);
  });
}

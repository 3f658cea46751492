/**
 * The port between nodes: gRPC, and bulk connections, told apart by their first bytes.
 *
 * Always holds: a connection that is not a bulk connection with a token that is waited for is gRPC's, or is closed; one that says nothing is closed
 * after a while. A token is good for one connection, as long as the call that gave it waits.
 */
import * as grpc from "@grpc/grpc-js";
import { randomBytes } from "node:crypto";
import { createServer, type Server, type Socket } from "node:net";
import { GREETING_BYTES, MAGIC, TOKEN_BYTES } from "../../proto/bulk-frames.ts";
import { AppError } from "../../proto/errors.ts";

const SILENT_MS_MAX = 10_000;

export interface Expected {
  readonly token: Buffer;
  readonly connected: Promise<Socket>;
  /** The call has ended: not waited for, and closed if it came. */
  forget(): void;
}

export class BulkDoor {
  readonly #expected = new Map<string, (socket: Socket) => void>();
  readonly #strangers = new Set<Socket>();
  #server: Server | undefined;

  /** A new token, and the connection that will begin with it. Rejects when none comes in time. */
  expect(): Expected {
    const token = randomBytes(TOKEN_BYTES);
    const key = token.toString("latin1");
    const { promise, resolve, reject } = Promise.withResolvers<Socket>();
    promise.catch(() => undefined);
    const timer = setTimeout(() => {
      this.#expected.delete(key);
      reject(new AppError("NODE_UNAVAILABLE", ["the follower", "its bulk connection did not come"]));
    }, SILENT_MS_MAX);
    this.#expected.set(key, (socket) => {
      clearTimeout(timer);
      this.#expected.delete(key);
      resolve(socket);
    });
    const forget = (): void => {
      clearTimeout(timer);
      this.#expected.delete(key);
      promise.then((socket) => socket.destroy(), () => undefined);
    };
    return { token, connected: promise, forget };
  }

  /** Listens for `service` and for bulk connections. Rejects with the system error. */
  async listen(service: grpc.Server, where: { readonly host: string; readonly port: number }): Promise<void> {
    const injector = service.createConnectionInjector(grpc.ServerCredentials.createInsecure());
    const server = createServer({ noDelay: true }, (socket) => this.#met(socket, (known) => injector.injectConnection(known)));
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(where, () => {
        server.off("error", reject);
        server.on("error", () => undefined);
        resolve();
      });
    });
  }

  #met(socket: Socket, toGrpc: (socket: Socket) => void): void {
    this.#strangers.add(socket);
    const timer = setTimeout(() => socket.destroy(), SILENT_MS_MAX);
    const onError = (): void => void socket.destroy();
    const leave = (): void => {
      clearTimeout(timer);
      this.#strangers.delete(socket);
      socket.off("readable", look);
      socket.off("close", leave);
      socket.off("error", onError);
    };
    const look = (): void => {
      const bytes = socket.read() as Buffer | null;
      if (bytes === null) return;
      const isBulk = MAGIC.subarray(0, Math.min(bytes.length, MAGIC.length)).equals(bytes.subarray(0, MAGIC.length));
      if (isBulk && bytes.length < GREETING_BYTES) return void socket.unshift(bytes);
      const claim = isBulk ? this.#expected.get(bytes.toString("latin1", MAGIC.length, GREETING_BYTES)) : undefined;
      leave();
      if (!isBulk) {
        socket.unshift(bytes);
        toGrpc(socket);
      } else if (claim !== undefined && bytes.length === GREETING_BYTES) {
        // Until its user listens, and after: an error without a listener would end the process.
        socket.on("error", () => undefined);
        claim(socket);
      } else {
        socket.destroy();
      }
    };
    socket.on("readable", look);
    socket.on("close", leave);
    socket.on("error", onError);
  }

  /** Takes no more connections; those of gRPC are gRPC's to end. */
  close(): void {
    this.#server?.close();
    for (const socket of this.#strangers) socket.destroy();
  }
}

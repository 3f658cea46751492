/**
 * A TCP relay between two nodes that a test can cut: after a number of bytes from the server, or at once, or for good.
 *
 * Always holds: a cut ends both directions of a connection with a reset, as a broken network does; nothing is delayed or changed before. Plain connections,
 * those that do not begin as HTTP/2 does, can be cut apart from the others, or let through by half: what they bring at first goes on, then they are reset.
 */
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

export class Relay {
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  readonly #target: number;
  #left = Infinity;
  /** Bytes that came from the target since the start. */
  bytes = 0;
  cuts = 0;
  /** Plain connections so far, and what becomes of new ones. */
  plain = 0;
  onPlain: "pass" | "drop" | "break" = "pass";
  readonly #plainPairs = new Set<readonly [Socket, Socket]>();

  private constructor(server: Server, target: number) {
    this.#server = server;
    this.#target = target;
  }

  /** Relays a free port to `target` on this machine. */
  static async start(target: number): Promise<Relay> {
    const server = createServer();
    const relay = new Relay(server, target);
    server.on("connection", (socket) => relay.#connected(socket));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return relay;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Cuts everything as soon as this many more bytes have come from the target. */
  cutAfter(bytes: number): void {
    this.#left = bytes;
  }

  #connected(near: Socket): void {
    const far = connect(this.#target, "127.0.0.1");
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    near.once("data", (first: Buffer) => {
      if (!first.subarray(0, 3).equals(Buffer.from("PRI")) && this.#metPlain(pair) === "drop") return;
      far.write(first);
      near.pipe(far);
    });
    far.on("data", (data: Buffer) => {
      this.bytes += data.length;
      this.#left -= data.length;
      if (this.#left <= 0) {
        this.#left = Infinity;
        return this.cut();
      }
      if (!near.write(data)) far.pause();
    });
    near.on("drain", () => far.resume());
    for (const socket of pair) {
      socket.on("error", () => undefined);
      socket.on("close", () => {
        for (const one of pair) one.destroy();
        this.#pairs.delete(pair);
        this.#plainPairs.delete(pair);
      });
    }
  }

  #metPlain(pair: readonly [Socket, Socket]): Relay["onPlain"] {
    this.plain++;
    this.#plainPairs.add(pair);
    if (this.onPlain === "drop") for (const socket of pair) socket.resetAndDestroy();
    // What it has brought arrives, and nothing after it.
    if (this.onPlain === "break") setTimeout(() => pair.forEach((socket) => socket.resetAndDestroy()), 20);
    return this.onPlain;
  }

  /** Breaks the plain connections that there are. */
  cutPlain(): void {
    for (const pair of this.#plainPairs) for (const socket of pair) socket.resetAndDestroy();
  }

  /** Breaks all connections that there are; new ones are served. */
  cut(): void {
    this.cuts++;
    for (const pair of this.#pairs) for (const socket of pair) socket.resetAndDestroy();
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.cut();
    await closed;
  }
}

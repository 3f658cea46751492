/**
 * The back end of the smuggling suite: a socket server that keeps exactly the bytes of each connection and answers what it reads in them.
 *
 * Always holds: nothing of what arrives is lost or interpreted before it is kept. It answers as many requests as the most easy-going reader finds, as a
 * careless application would, so that a proxy that let a second request through goes on as in real life.
 */
import { once } from "node:events";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { LENIENT, read, STRICT } from "./reader.ts";

/** The bytes of one connection that came since the last look. */
export interface Recorded {
  readonly connection: number;
  readonly bytes: string;
  /** For each piece that arrived: where it ends in `bytes`, and its place among the pieces of all connections. */
  readonly pieces: readonly (readonly [end: number, place: number])[];
  /** Whether the other side has closed the connection. */
  readonly over: boolean;
}

interface Connection {
  readonly id: number;
  readonly socket: Socket;
  pending: string;
  pieces: [end: number, place: number][];
  answered: number;
  over: boolean;
}

export class Recorder {
  readonly #server: Server;
  #connections: Connection[] = [];
  #next = 0;
  #place = 0;
  /** When a byte or an end came last, by performance.now(). */
  lastAt = 0;

  private constructor(server: Server) {
    this.#server = server;
    server.on("connection", (socket) => this.#accept(socket));
  }

  static async start(): Promise<Recorder> {
    const server = createServer({ noDelay: true });
    const recorder = new Recorder(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return recorder;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** What each connection got since the last call. A connection with an unfinished request in it is cut: its rest belongs to no later case. */
  take(): Recorded[] {
    const recorded = this.#connections.filter(({ pending, over }) => pending !== "" || over).map(({ id, pending, pieces, over }) => ({ connection: id, bytes: pending, pieces, over }));
    for (const connection of this.#connections) {
      if (connection.pending !== "" && this.#unfinished(connection)) connection.socket.destroy();
      connection.pending = "";
      connection.pieces = [];
      connection.answered = 0;
    }
    this.#connections = this.#connections.filter(({ over, socket }) => !over && !socket.destroyed);
    return recorded.filter(({ bytes }) => bytes !== "");
  }

  /** Whether a connection that is still open holds a request that has begun and not ended. */
  get waiting(): boolean {
    return this.#connections.some((connection) => !connection.over && connection.pending !== "" && this.#unfinished(connection));
  }

  stop(): void {
    this.#server.close();
    for (const { socket } of this.#connections) socket.destroy();
  }

  #unfinished({ pending }: Connection): boolean {
    return read(pending, LENIENT[0]!).stopped !== undefined;
  }

  #accept(socket: Socket): void {
    const connection: Connection = { id: this.#next++, socket, pending: "", pieces: [], answered: 0, over: false };
    this.#connections.push(connection);
    const end = (): void => {
      connection.over = true;
      this.lastAt = performance.now();
    };
    socket.on("error", end).on("close", end).on("end", end);
    socket.on("data", (chunk: Buffer) => {
      connection.pending += chunk.toString("latin1");
      connection.pieces.push([connection.pending.length, this.#place++]);
      this.lastAt = performance.now();
      const strict = read(connection.pending, STRICT);
      const { requests } = strict.stopped === undefined ? strict : read(connection.pending, LENIENT[0]!);
      for (const { method, target } of requests.slice(connection.answered)) {
        connection.answered++;
        const body = `answer to ${method} ${target.slice(0, 40)}`.replace(/[^ -~]/g, "?");
        if (socket.writable) socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${method === "HEAD" ? "" : body}`);
      }
    });
  }
}

/**
 * The serving process's side of its connection with the engine.
 *
 * Always holds: the newest engine that has connected is the one that is asked; a question that an engine did not answer before it died is
 * asked of the next one, once that one serves. Until then the request waits: nothing is lost and nothing is let through.
 */
import { rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { onLines, sendLine, type Ask, type FromEngine, type FromServer, type Tell } from "./protocol.ts";

export interface Reply {
  readonly content: Buffer | undefined;
}

interface Waiting {
  readonly ask: Ask;
  resolve(reply: Reply): void;
  reject(error: Error): void;
}

export class EngineLink {
  readonly #waiting = new Map<number, Waiting>();
  readonly #receive: (message: FromEngine) => void;
  readonly #server: Server;
  #engine: Socket | undefined;
  #serving = false;
  #nextId = 1;

  /** `receive` gets everything but replies. */
  constructor(receive: (message: FromEngine) => void) {
    this.#receive = receive;
    this.#server = createServer((socket) => this.#connected(socket));
  }

  listen(path: string): Promise<void> {
    rmSync(path, { force: true });
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(path, () => resolve());
    });
  }

  #connected(socket: Socket): void {
    this.#engine?.destroy();
    this.#engine = socket;
    this.#serving = false;
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      if (this.#engine !== socket) return;
      this.#engine = undefined;
      this.#serving = false;
    });
    onLines<FromEngine>(socket, (message) => {
      if (this.#engine !== socket) return;
      if (message.kind === "reply") return this.#answered(message);
      this.#receive(message);
      if (message.kind !== "gate") return;
      this.#serving = true;
      for (const [id, { ask }] of this.#waiting) sendLine(socket, { kind: "ask", id, ask });
    });
  }

  #answered(message: Extract<FromEngine, { kind: "reply" }>): void {
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.errno !== 0) waiting?.reject(Object.assign(new Error("refused by the engine"), { errno: message.errno }));
    else waiting?.resolve({ content: message.content === undefined ? undefined : Buffer.from(message.content, "hex") });
  }

  send(message: FromServer): void {
    if (this.#engine !== undefined) sendLine(this.#engine, message);
  }

  /** Resolves when the engine consents; rejects with its errno when it refuses. Waits for an engine when there is none. */
  ask(ask: Ask): Promise<Reply> {
    const id = this.#nextId++;
    const answer = new Promise<Reply>((resolve, reject) => this.#waiting.set(id, { ask, resolve, reject }));
    if (this.#serving) this.send({ kind: "ask", id, ask });
    return answer;
  }

  /** Dropped while there is no engine: a new one looks at everything itself. */
  tell(tell: Tell): void {
    this.send({ kind: "tell", tell });
  }

  report(message: string, error: unknown): void {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    if (this.#engine === undefined) console.error(message, stack);
    else this.send({ kind: "report", message, stack });
  }
}

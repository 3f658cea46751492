/**
 * What Node's own HTTP parser, llhttp, makes of bytes: a real HTTP server and a real HTTP client, each on streams in memory.
 *
 * Always holds: nothing is read here but by that parser, in its strict mode, as the general path of the proxy uses it; each text gets a connection of
 * its own, so that no text can hide behind another.
 */
import { Agent, createServer, request as httpRequest, type ClientRequest, type IncomingMessage, type Server } from "node:http";
import { Duplex } from "node:stream";

/** A connection without a network. */
class Wire extends Duplex {
  override _read(): void {}
  override _write(_chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    done();
  }

  /** What Node's HTTP client asks of a socket. */
  setKeepAlive(): void {}
  setNoDelay(): void {}
  setTimeout(): void {}
  ref(): void {}
  unref(): void {}

  /** Puts bytes in as if they had come; whoever listens has them when this returns. */
  feed(text: string): void {
    if (text !== "" && !this.destroyed) this.push(Buffer.from(text, "latin1"));
  }
}

/** A request as it was read. */
export interface SeenRequest {
  readonly method: string;
  readonly target: string;
  readonly version: string;
  readonly fields: readonly string[];
  /** It has no body, or an empty one: it was complete with its head. */
  readonly complete: boolean;
  readonly keepsAlive: boolean;
}

export interface SeenRequests {
  readonly requests: readonly SeenRequest[];
  /** Code of the error that the parser stopped with. */
  readonly refused: string | undefined;
}

/** For the streams to begin flowing, which they do some ticks after somebody listens. */
async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise<void>((resolve) => void setImmediate(resolve));
}

export class RequestReference {
  readonly #server: Server;
  readonly #seen = new Map<unknown, { requests: { message: IncomingMessage; keepsAlive: boolean }[]; refused: string | undefined }>();

  constructor(headBytes: number) {
    this.#server = createServer({ insecureHTTPParser: false, maxHeaderSize: headBytes, requireHostHeader: false, requestTimeout: 0, headersTimeout: 0 });
    this.#server.maxHeadersCount = 0;
    this.#server.on("request", (message, response) => this.#seen.get(message.socket)?.requests.push({ message, keepsAlive: response.shouldKeepAlive }));
    this.#server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
      const seen = this.#seen.get(socket);
      if (seen !== undefined) seen.refused ??= error.code ?? error.message;
    });
    for (const event of ["checkContinue", "checkExpectation"] as const) this.#server.on(event, (message: IncomingMessage) => this.#refuse(message.socket, event));
    for (const event of ["upgrade", "connect"] as const) this.#server.on(event, (_message: IncomingMessage, socket: Duplex) => this.#refuse(socket, event));
  }

  /** Reads each text on a connection of its own. */
  async read(texts: readonly string[]): Promise<SeenRequests[]> {
    const wires = texts.map(() => {
      const wire = new Wire();
      this.#seen.set(wire, { requests: [], refused: undefined });
      wire.on("error", () => {});
      this.#server.emit("connection", wire);
      return wire;
    });
    await settle();
    return wires.map((wire, index) => {
      wire.feed(texts[index]!);
      const { requests, refused } = this.#seen.get(wire)!;
      this.#seen.delete(wire);
      const result = {
        refused,
        requests: requests.map(({ message, keepsAlive }) => ({
          method: message.method ?? "", target: message.url ?? "", version: message.httpVersion, fields: message.rawHeaders, complete: message.complete, keepsAlive,
        })),
      };
      wire.destroy();
      return result;
    });
  }

  #refuse(socket: unknown, event: string): void {
    const seen = this.#seen.get(socket);
    if (seen !== undefined) seen.refused ??= `event ${event}`;
  }
}

/** A response that is being read, piece by piece. */
export class ResponseReader {
  readonly #wire: Wire;
  message: IncomingMessage | undefined;
  request: ClientRequest;
  refused: string | undefined;
  bodyBytes = 0;
  #body = "";

  constructor(method: string) {
    this.#wire = new Wire();
    const agent = new Agent({ keepAlive: true });
    agent.createConnection = () => this.#wire;
    this.request = httpRequest({ method, host: "a", path: "/", agent, insecureHTTPParser: false, maxHeaderSize: 64 << 10 });
    this.request.on("error", (error: NodeJS.ErrnoException) => (this.refused ??= error.code ?? error.message));
    this.request.on("response", (message) => {
      this.message = message;
      message.on("data", (chunk: Buffer) => {
        this.bodyBytes += chunk.length;
        this.#body += chunk.toString("latin1");
      });
      message.on("error", (error: NodeJS.ErrnoException) => (this.refused ??= error.code ?? error.message));
    });
    this.request.end();
  }

  /** What has come of the body; pieces are handed on some ticks after they were fed. */
  get body(): string {
    return this.#body;
  }

  /** Whether the parser has seen the end of the message. */
  get complete(): boolean {
    return this.message?.complete ?? false;
  }

  feed(text: string): void {
    this.#wire.feed(text);
  }

  /** The other side closes the connection. */
  end(): void {
    this.#wire.push(null);
  }

  destroy(): void {
    this.#wire.destroy();
  }
}

/** Readers that are ready to be fed, for requests of these methods. */
export async function responseReaders(methods: readonly string[]): Promise<ResponseReader[]> {
  const readers = methods.map((method) => new ResponseReader(method));
  await settle();
  return readers;
}
export { settle };

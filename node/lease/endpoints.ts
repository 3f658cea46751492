/**
 * HTTP requests to one service that several servers offer: tried in turn until one answers, within a deadline.
 *
 * Always holds: a server that is down, cut off or slow costs one share of the time that is left, and is not asked first again; what answers
 * later than its share is dropped with its connection. A request may therefore reach the service twice: callers send nothing that this harms.
 */
import { readFileSync } from "node:fs";
import * as http from "node:http";
import * as https from "node:https";
import { AppError } from "../../proto/errors.ts";
import type { Deadline } from "./deadline.ts";

export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

export interface Request {
  readonly method: "GET" | "PUT" | "POST";
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface EndpointsOptions {
  /** Without a path. */
  readonly urls: readonly string[];
  /** Files. */
  readonly tls?: { readonly ca: string | undefined; readonly cert: string | undefined; readonly key: string | undefined };
  /** How the service is called in errors. */
  readonly name: string;
  /** Why an answer is none (no leader, overload): then another server is asked. */
  unfit(answer: Answer): string | undefined;
}

/** More than any answer here: a server that sends more is not what it should be. */
const BODY_MAX = 4 << 20;
const NO_ANSWER = "no answer in time";
/** Between two rounds over all servers. */
const ROUND_PAUSE_MS = 50;
/** A connection over which nothing comes any more is found by the kernel. */
const KEEP_ALIVE_MS = 5_000;

export class Endpoints {
  readonly #options: EndpointsOptions;
  readonly #agent: http.Agent;
  readonly #module: typeof http | typeof https;
  readonly #streams = new Set<http.ClientRequest>();
  /** The server that answered last. */
  #first = 0;

  /** Throws LEASE_STORE_UNUSABLE where a file of the TLS settings cannot be read. */
  constructor(options: EndpointsOptions) {
    this.#options = options;
    const isTls = options.urls[0]!.startsWith("https:");
    const read = (path: string | undefined): Buffer | undefined => {
      try {
        return path === undefined ? undefined : readFileSync(path);
      } catch (error) {
        throw new AppError("LEASE_STORE_UNUSABLE", [options.name, `reading ${path ?? ""} failed: ${(error as Error).message}`], { cause: error });
      }
    };
    const files = { ca: read(options.tls?.ca), cert: read(options.tls?.cert), key: read(options.tls?.key) };
    this.#module = isTls ? https : http;
    this.#agent = new this.#module.Agent({ keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS, maxSockets: 16, ...(isTls ? files : {}) });
  }

  /** The first fit answer. Throws LEASE_STORE_UNAVAILABLE with the last reason when the deadline is over. */
  async request(request: Request, deadline: Deadline): Promise<Answer> {
    const count = this.#options.urls.length;
    let reason: string | undefined;
    for (;;) {
      for (let turn = 0; turn < count; turn++) {
        deadline.check(reason);
        const index = (this.#first + turn) % count;
        const url = this.#options.urls[index]!;
        try {
          const answer = await this.#exchange(url, request, deadline.leftMs / (count - turn));
          // A busy event loop may have run the timer late.
          deadline.check(reason);
          const unfit = this.#options.unfit(answer);
          if (unfit === undefined) {
            this.#first = index;
            return answer;
          }
          reason = `${url}: ${unfit}`;
        } catch (error) {
          if (error instanceof AppError) throw error;
          // What the last, shortest attempt ran into says less than what an earlier one was told.
          if (reason === undefined || (error as Error).message !== NO_ANSWER) reason = `${url}: ${describe(error)}`;
        }
      }
      await deadline.pause(ROUND_PAUSE_MS, reason);
    }
  }

  #exchange(url: string, request: Request, limitMs: number): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const outgoing = this.#send(url, request);
      const timer = setTimeout(() => outgoing.destroy(new Error(NO_ANSWER)), Math.max(1, limitMs));
      const fail = (error: Error): void => {
        clearTimeout(timer);
        reject(error);
      };
      outgoing.on("error", fail);
      outgoing.on("response", (incoming) => {
        const pieces: Buffer[] = [];
        let size = 0;
        incoming.on("error", fail);
        incoming.on("data", (piece: Buffer) => {
          pieces.push(piece);
          if ((size += piece.length) > BODY_MAX) outgoing.destroy(new Error("its answer is too long"));
        });
        incoming.on("end", () => {
          clearTimeout(timer);
          resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: Buffer.concat(pieces).toString("utf8") });
        });
      });
    });
  }

  #send(url: string, request: Request): http.ClientRequest {
    const body = request.body === undefined ? undefined : Buffer.from(request.body);
    const outgoing = this.#module.request(new URL(request.path, url), {
      method: request.method, agent: this.#agent,
      headers: { ...request.headers, ...(body === undefined ? {} : { "content-type": "application/json", "content-length": body.length }) },
    });
    outgoing.end(body);
    return outgoing;
  }

  /** A request whose answer does not end. `onData` gets each piece of a good one; `onEnd` is called once, however it ends. */
  stream(request: Request, onData: (text: string) => void, onEnd: () => void): () => void {
    return this.#follow(request, () => undefined, onData, onEnd);
  }

  /** Begins with the server that answered last; a failure makes the next one the first. `onEnd`: with the reason, if it is not the end of a good answer. */
  #follow(request: Request, onHead: (incoming: http.IncomingMessage) => void, onData: (text: string) => void, onEnd: (reason: string | undefined) => void): () => void {
    const outgoing = this.#send(this.#options.urls[this.#first]!, request);
    this.#streams.add(outgoing);
    let ended = false;
    const stop = (): void => {
      ended = true;
      this.#streams.delete(outgoing);
      outgoing.destroy();
    };
    const end = (reason: string | undefined): void => {
      if (ended) return;
      if (reason !== undefined) this.#first = (this.#first + 1) % this.#options.urls.length;
      stop();
      onEnd(reason);
    };
    outgoing.on("socket", (socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS));
    outgoing.on("error", (error) => end(describe(error)));
    outgoing.on("response", (incoming) => {
      onHead(incoming);
      incoming.setEncoding("utf8");
      incoming.on("data", (text: string) => {
        // A good Consul says 404 where there is no key, in the same way.
        if (incoming.statusCode === 200 || incoming.statusCode === 404) onData(text);
      });
      incoming.on("error", (error) => end(describe(error)));
      incoming.on("end", () => end(incoming.statusCode === 200 || incoming.statusCode === 404 ? undefined : `status ${incoming.statusCode ?? 0}`));
    });
    return stop;
  }

  /** A request that is answered when something happens. `onAnswer` is called once; undefined: it failed. */
  long(request: Request, onAnswer: (answer: Answer | undefined) => void): () => void {
    let body = "";
    let headers: http.IncomingHttpHeaders = {};
    return this.#follow(request, (incoming) => (headers = incoming.headers), (text) => (body += text), (reason) => onAnswer(reason === undefined ? { status: 200, headers, body } : undefined));
  }

  close(): void {
    for (const stream of this.#streams) stream.destroy();
    this.#agent.destroy();
  }
}

function describe(error: unknown): string {
  const { message, code } = error as NodeJS.ErrnoException;
  return message !== "" ? message : (code ?? "it cannot be reached");
}

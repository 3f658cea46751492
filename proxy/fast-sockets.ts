/**
 * The two ends of the fast path: a client's connection and one to the application.
 *
 * Always holds: all of them read into one buffer, which is used up before the call returns, so an idle connection owns no memory for reading;
 * none has a timer, a closure or a listener of its own. A client connection that was handed over is an ordinary socket: what it reads goes
 * into its stream. `Flow` says what happens; these classes only say when.
 */
import { Socket, type SocketConstructorOpts } from "node:net";
import type { ChunkFollower } from "./fast-chunks.ts";
import type { Framing, RequestHead } from "./fast-head.ts";
import type { Timed } from "./fast-wheel.ts";

/** What the sockets tell; what was read are the first `count` bytes. Reading goes on while the answer is true. */
export interface Flow {
  clientRead(client: FastClient, bytes: Buffer, count: number): boolean;
  /** It will send nothing more. */
  clientEnded(client: FastClient): void;
  clientClosed(client: FastClient): void;
  clientExpired(client: FastClient): void;
  clientDrained(client: FastClient): void;
  upstreamConnected(upstream: FastUpstream): void;
  upstreamRead(upstream: FastUpstream, bytes: Buffer, count: number): boolean;
  upstreamEnded(upstream: FastUpstream): void;
  upstreamClosed(upstream: FastUpstream, error: Error | null): void;
  upstreamExpired(upstream: FastUpstream): void;
}

/** Idle: between requests. Busy: a request is under way. Handed: the general path's. Over: only the last answer still has to go out. */
export type ClientPhase = "idle" | "busy" | "handed" | "over";

const BUFFER_BYTES = 64 << 10;
const SHARED = Buffer.allocUnsafeSlow(BUFFER_BYTES);

/** The part of a socket that Node's own classes hand on when one socket takes over from another. */
type Handle = object;

export class FastClient extends Socket implements Timed {
  due = 0;
  slot = 0;
  previous: Timed | undefined = undefined;
  next: Timed | undefined = undefined;

  readonly flow: Flow;
  phase: ClientPhase = "idle";
  /** Bytes that have come and not been looked at: the beginning of a head, or what came behind the request under way. Then nothing is read. */
  rest: Buffer | undefined = undefined;
  pieces = 0;
  /** Its address; IPv4 without "::ffff:". */
  peer = "";
  /** The client has ended its side. */
  ended = false;
  /** Waits for a connection to the application. */
  queued = false;

  /** The request under way. */
  text = "";
  head: RequestHead | undefined = undefined;
  id = "";
  upstream: FastUpstream | undefined = undefined;
  /** Was sent a second time already. */
  again = false;
  /** Status of the response, once its head went out. */
  status = 0;
  startedMs = 0;
  headMs = 0;
  /** The connection ends with this response. */
  closing = false;

  /** Fields that this connection's requests get for this Host, around the request id. */
  host = "";
  before = "";
  after = "";

  constructor(handle: Handle, flow: Flow) {
    super({ handle, allowHalfOpen: true, onread: CLIENT_READ } as SocketConstructorOpts);
    this.flow = flow;
    this.on("end", clientEnded);
  }

  expired(): void {
    this.flow.clientExpired(this);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.flow.clientClosed(this);
    // An error of the connection is no news to anybody here: it has gone, and that is all there is to know.
    super._destroy(this.phase === "handed" ? error : null, done);
  }
}

interface ShellHandle {
  reading: boolean;
  readStop(): void;
}

/**
 * Takes the connection out of the socket that Node has made for it and puts it into one that reads into the shared buffer: Node's server has no
 * option for that, and its own way costs 64 KiB of memory for each read. The server goes on counting the new one. Undefined when it has gone already.
 */
export function takeOver(shell: Socket, flow: Flow): FastClient | undefined {
  const inner = shell as unknown as { _handle: ShellHandle | null; _server: unknown; server: unknown };
  const handle = inner._handle;
  if (handle === null) return undefined;
  handle.readStop();
  handle.reading = false;
  inner._handle = null;
  const client = new FastClient(handle, flow);
  const taken = client as unknown as { _server: unknown; server: unknown };
  taken._server = inner._server;
  taken.server = inner.server;
  inner._server = inner.server = null;
  return client;
}

/** What is expected next on a connection to the application. */
export type UpstreamPhase = "idle" | "head" | "body" | "trailers" | "over";

export class FastUpstream extends Socket implements Timed {
  due = 0;
  slot = 0;
  previous: Timed | undefined = undefined;
  next: Timed | undefined = undefined;

  readonly flow: Flow;
  phase: UpstreamPhase = "idle";
  client: FastClient | undefined = undefined;
  connected = false;
  /** The beginning of a head or of trailers. */
  partial = "";
  framing: Framing = "none";
  left = 0;
  chunks: ChunkFollower | undefined = undefined;
  keepAlive = false;
  idleMs = 0;

  constructor(flow: Flow) {
    super({ onread: UPSTREAM_READ } as SocketConstructorOpts);
    this.flow = flow;
    this.on("end", upstreamEnded);
    this.once("connect", upstreamConnected);
  }

  expired(): void {
    this.flow.upstreamExpired(this);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.flow.upstreamClosed(this, error);
    super._destroy(null, done);
  }
}

/** For `once("drain", …)`. */
export function clientDrained(this: FastClient): void {
  this.flow.clientDrained(this);
}

function clientEnded(this: FastClient): void {
  if (this.phase !== "handed") this.flow.clientEnded(this);
}

function upstreamEnded(this: FastUpstream): void {
  this.flow.upstreamEnded(this);
}

function upstreamConnected(this: FastUpstream): void {
  this.flow.upstreamConnected(this);
}

const CLIENT_READ = {
  buffer: SHARED,
  callback(this: FastClient, count: number): boolean {
    return this.phase === "handed" ? this.push(Buffer.from(SHARED.subarray(0, count))) : this.flow.clientRead(this, SHARED, count);
  },
};

const UPSTREAM_READ = {
  buffer: SHARED,
  callback(this: FastUpstream, count: number): boolean {
    return this.flow.upstreamRead(this, SHARED, count);
  },
};

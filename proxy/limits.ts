/**
 * Every bound of the proxy, by name: sizes in bytes, times in milliseconds.
 *
 * Always holds: nothing in the proxy waits, buffers or counts without one of these. The defaults suit an application behind a load balancer
 * or directly on the net; a configuration may override each of them, and the relations between them are checked when it is read.
 */
export const DEFAULT_LIMITS = {
  /** Request line and header fields together; more is answered with 431. */
  headBytes: 32 << 10,
  /** Number of header fields; more is answered with 431. */
  headerCount: 200,
  /** Body of one request; more is answered with 413. */
  bodyBytes: 1 << 30,
  /** From the first byte of a head to its last; more is answered with 408. */
  headMs: 30_000,
  /** A period in which a request body must bring at least `bodyPeriodBytes`, while the proxy is waiting for it; else it is answered with 408. */
  bodyIdleMs: 30_000,
  bodyPeriodBytes: 256,
  /** How much of a request body is kept so that it can be sent again, of one request and of all together. */
  keptBodyBytes: 1 << 20,
  keptBytes: 64 << 20,
  /** Requests that are held at once; more are answered with 503. What has been read of each is below 64 KiB, besides what is kept. */
  heldRequests: 1_000,
  /** How long requests are held for an application that does not accept connections, counted from when it began. */
  targetRestartMs: 5_000,
  /** How long an idle client connection is kept open. Longer than load balancers usually keep theirs, so that they close first. */
  keepAliveMs: 75_000,
  /** Connecting to the application or to another node's proxy; more is answered with 504. */
  connectMs: 3_000,
  /** From the end of the request to the head of the response; more is answered with 504. */
  responseHeadMs: 120_000,
  /** Between two pieces of a response body; more breaks the response off. */
  responseIdleMs: 300_000,
  /** How long a client may take nothing of a response that is waiting for it. */
  stalledClientMs: 60_000,
  /** Head of a response. */
  responseHeadBytes: 64 << 10,
  /** After an answer that came before the request was read to its end: how long, and how much of, the rest is read and thrown away. */
  lingerMs: 2_000,
  lingerBytes: 16 << 20,
  /** Open client connections. */
  connections: 20_000,
  /** Open connections from one address, where clients connect directly; requests on more are answered with 429. */
  connectionsPerClient: 2_000,
  /** How long an upgraded connection (WebSocket) may be silent in both directions. */
  tunnelIdleMs: 3_600_000,
  /** Clients without cookies that are remembered. */
  clients: 10_000,
  /** Connections to the application, and as many to the primary's proxy; more requests wait for one to be free. Requests with trailers have as many of their own. */
  upstreamConnections: 256,
  /** How long a kept connection may be silent once a successor has taken over; its next request is answered as its last. */
  followedQuietMs: 2_000,
  /** How long a stop waits for running requests. */
  stopMs: 10_000,
};

export type Limits = Readonly<typeof DEFAULT_LIMITS>;

/** The names whose value must be smaller than that of the other name, with the reason. */
export const LIMIT_ORDER: readonly (readonly [keyof Limits, keyof Limits, string])[] = [
  ["connectMs", "responseHeadMs", "a connection comes before a response"],
  ["headBytes", "bodyBytes", "a body of a head's size is ordinary"],
];

/**
 * What a node says of itself: the JSON of `GET /status`, and the interface through which the admin server asks for it.
 *
 * Always holds: plain data; TXIDs and checksums are 16 hex digits, as in file names and in the `-pos` file; absent means unknown, never zero.
 */

/** A position of a database as people see it. */
export interface StatusPosition {
  readonly epoch: number;
  readonly txid: string;
  readonly checksum: string;
}

export interface DatabaseStatus extends StatusPosition {
  /** Path below the mount. */
  readonly name: string;
  readonly pageSize: number;
  readonly pageCount: number;
  /** Transactions that the primary has and this node has not; 0 on the primary. */
  readonly lagTransactions?: number;
  /** How long this node has been behind, in ms; 0 when it is not. */
  readonly lagMs?: number;
  /** Bytes of transaction log on the disk. */
  readonly logBytes: number;
  /** First TXID in the log. */
  readonly logFrom?: string;
  /** "ok", or what is going on: "snapshot", "damaged", … */
  readonly state: string;
}

export interface FollowerStatus {
  readonly name: string;
  readonly nodeId: string;
  /** Address of its end of the connection, or its advertise address. */
  readonly address: string;
  readonly region: string;
  readonly connectedSince: string;
  readonly positions: readonly (StatusPosition & { readonly name: string })[];
}

export interface NodeStatus {
  readonly node: { readonly name: string; readonly id: string; readonly region: string; readonly advertise: string; readonly clusterId?: string };
  readonly version: string;
  readonly startedAt: string;
  readonly role: "primary" | "follower" | "candidate";
  /** The state of the role machine: "primary", "follower", or what is between (ARCHITECTURE.md). */
  readonly roleState: string;
  readonly epoch: number;
  /** Unset while none is known. */
  readonly primary?: { readonly name: string; readonly advertise: string };
  /** Why this node does not take the free lease: without some nodes an acknowledged commit of a database with durability sync may be missing. */
  readonly electionLacks?: string;
  readonly ready: boolean;
  /** Follower: the stream from the primary is alive. */
  readonly connected?: boolean;
  readonly mount: { readonly path: string; readonly driver: string; readonly reason: string };
  readonly databases: readonly DatabaseStatus[];
  /** On the primary. */
  readonly followers: readonly FollowerStatus[];
  /** Files in the mount that are not replicated: not databases, or excluded by a rule. At most 1,000 names. */
  readonly local: { readonly count: number; readonly names: readonly string[] };
  readonly damage: { readonly found: number; readonly healed: number };
  /** Files in `aside/`. */
  readonly aside: number;
  /** What this node had committed and lost against another primary's history, kept in `diverged/`; `unseen`: entries that no operator has looked at. */
  readonly diverged: { readonly entries: number; readonly transactions: number; readonly unseen: number };
  /** Requests a second over the last ten seconds, by the proxy's decision; absent without a proxy. */
  readonly proxy?: Readonly<Record<string, number>>;
}

/** What a long command answers. */
export interface CommandResult {
  readonly database: string;
  readonly txid: string;
  readonly checksum: string;
  readonly pages: number;
  readonly bytes: number;
}

/** One family of metrics, in the manner of Prometheus; counters end in `_total`. */
export interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly samples: readonly { readonly labels?: Readonly<Record<string, string>>; readonly value: number }[];
}

/** The engine, as the admin server sees it. Errors of the world are thrown as AppErrors. */
export interface AdminSource {
  /** Whether the mount serves. */
  health(): boolean;
  /** Whether applications can be sent here; the reason is a sentence for a person. */
  ready(): { readonly ready: boolean; readonly reason: string };
  status(): NodeStatus | Promise<NodeStatus>;
  metrics(): readonly Metric[] | Promise<readonly Metric[]>;
  /** Moves the lease to the named node, else to the most advanced follower; answers who gets it. */
  handOff(to: string | undefined): Promise<{ readonly primary: string }>;
  /** Makes this node the primary; `force`: even where acknowledged commits may be with nodes that do not answer. */
  promote(force: boolean): Promise<{ readonly primary: string }>;
  /** Has engine and proxy started again from the files as they are. */
  upgrade(): void;
  /** Copies the database file at the absolute path `source` into the mount as `name`. */
  import(name: string, source: string): Promise<CommandResult>;
  /** Writes a consistent copy of the database `name` to the absolute path `target`, which must not exist. */
  export(name: string, target: string): Promise<CommandResult>;
  /** Looks for what is wrong with one database, or all of them. Changes nothing. */
  verify(name: string | undefined): Promise<object>;
  /** Takes a database anew from the primary; without a name, those of which something is wrong. */
  repair(name: string | undefined): Promise<{ readonly repaired: readonly CommandResult[] }>;
  /** `sluice diverged`: what it answers is of the kind that the command line prints. */
  diverged(command: DivergedCommand): Promise<object>;
}

export type DivergedCommand =
  | { readonly command: "list"; readonly seen: boolean }
  | { readonly command: "show" | "drop"; readonly id: string }
  /** `target`: absolute path, which must not exist. */
  | { readonly command: "export"; readonly id: string; readonly target: string };

/**
 * A database that the store knows, with what is done with it at the moment.
 *
 * Always holds: at most one of `primary` and `follower` is there; neither while the node has no role, or changes it.
 */
import type { Database } from "./database.ts";
import type { Follower } from "./follower.ts";
import type { Primary } from "./primary.ts";

export interface StoredDatabase {
  readonly database: Database;
  primary: Primary | undefined;
  follower: Follower | undefined;
  /** While the node becomes a follower with it: a program that must make its `-wal` waits for `done`, and says so by `waited`. */
  changing?: { readonly done: Promise<void>; readonly waited: PromiseWithResolvers<void> } | undefined;
}

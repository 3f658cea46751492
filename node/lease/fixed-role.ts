/**
 * The role that the configuration fixes: the node whose `advertise` address is `lease.primary` writes, for ever; the others follow it.
 *
 * Always holds: the state never changes while the node runs. The epoch is kept by the caller: it goes up when the primary's machine went down
 * without a clean stop, because what its log then says may differ from what its followers have.
 */
export type LeaseState =
  | { readonly holder: "self"; readonly epoch: number }
  /** `advertise`: where the holder takes replication streams. */
  | { readonly holder: "other"; readonly advertise: string }
  | { readonly holder: "none" };

export class StaticLease {
  readonly #state: LeaseState;

  constructor(options: { readonly advertise: string; readonly primary: string; readonly epoch: number }) {
    this.#state = options.advertise === options.primary ? { holder: "self", epoch: options.epoch } : { holder: "other", advertise: options.primary };
  }

  current(): LeaseState {
    return this.#state;
  }
}

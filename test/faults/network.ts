/**
 * A network of its own for every node: a namespace each, joined by veth pairs to a bridge in a namespace of the hub; this process is on it too.
 *
 * Always holds: packets between two members are lost one way or both ways by a neighbour entry that leads to nobody, so the sender sees no
 * error, as with a cable that is cut; nothing outside the namespaces is changed, except one interface of this process. Deleting the
 * namespaces removes everything. Programs are started by `nsenter --net`: they keep this mount name space, so their mounts can be seen here.
 */
import { spawn, spawnSync, type ChildProcess, type SpawnOptions } from "node:child_process";
import { networkInterfaces } from "node:os";

/** A station that does not exist: what is sent to it is flooded by the bridge and taken by nobody. */
const NOBODY = "02:00:00:00:fa:11";

function ip(...args: string[]): void {
  const { status, stderr } = spawnSync("ip", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${args.join(" ")}: ${stderr.trim()}`);
}

/** Why namespaces cannot be had here, or false. */
export function whyNoNetwork(): string | false {
  if (process.getuid?.() !== 0) return "SKIPPED: network namespaces need root; faults were NOT tested";
  for (const tool of ["ip", "nsenter", "mkfs.ext4"]) if (spawnSync(tool, ["-V"]).error !== undefined) return `SKIPPED: ${tool} is not installed; faults were NOT tested`;
  const name = `sluice-probe-${process.pid}`;
  const made = spawnSync("ip", ["netns", "add", name], { encoding: "utf8" });
  if (made.status !== 0) return `SKIPPED: no network namespaces here (${made.stderr.trim()}); faults were NOT tested`;
  spawnSync("ip", ["netns", "del", name]);
  return false;
}

export class FaultNetwork {
  readonly #prefix: string;
  readonly #subnet: string;
  readonly #members: string[] = [];
  readonly #cut = new Set<string>();

  private constructor(prefix: string, subnet: string) {
    this.#prefix = prefix;
    this.#subnet = subnet;
  }

  /** `prefix` begins the names of the namespaces; the clean-up of the tests finds them by it. */
  static create(prefix: string): FaultNetwork {
    const used = Object.values(networkInterfaces()).flatMap((list) => list ?? []).map(({ address }) => address);
    let subnet = "";
    for (let n = process.pid; subnet === "" || used.some((address) => address.startsWith(`${subnet}.`)); n++) subnet = `10.${64 + ((n >> 8) % 128)}.${n % 256}`;
    const network = new FaultNetwork(prefix, subnet);
    const hub = network.#namespace("hub");
    ip("netns", "add", hub);
    ip("-n", hub, "link", "add", "bridge", "type", "bridge");
    ip("-n", hub, "link", "set", "bridge", "up");
    const here = network.#ownInterface();
    ip("link", "add", here, "type", "veth", "peer", "name", "clients", "netns", hub);
    ip("-n", hub, "link", "set", "clients", "master", "bridge", "up");
    ip("addr", "add", `${subnet}.1/24`, "dev", here);
    ip("link", "set", here, "up");
    return network;
  }

  #namespace(member: string): string {
    return `${this.#prefix}-${member}`;
  }

  /** At most 15 characters. */
  #ownInterface(): string {
    return `slf${process.pid}`;
  }

  /** A member with an address of its own. */
  add(name: string): string {
    const namespace = this.#namespace(name);
    const hub = this.#namespace("hub");
    this.#members.push(name);
    ip("netns", "add", namespace);
    ip("-n", hub, "link", "add", `to-${name}`, "type", "veth", "peer", "name", "eth0", "netns", namespace);
    ip("-n", hub, "link", "set", `to-${name}`, "master", "bridge", "up");
    ip("-n", namespace, "addr", "add", `${this.address(name)}/24`, "dev", "eth0");
    ip("-n", namespace, "link", "set", "lo", "up");
    ip("-n", namespace, "link", "set", "eth0", "up");
    return this.address(name);
  }

  /** The address of a member; `clients` is this process. */
  address(name: string): string {
    return name === "clients" ? `${this.#subnet}.1` : `${this.#subnet}.${10 + this.#members.indexOf(name)}`;
  }

  /** Starts a program in the namespace of a member. */
  spawn(member: string, command: readonly string[], options: SpawnOptions): ChildProcess {
    return spawn("nsenter", [`--net=/var/run/netns/${this.#namespace(member)}`, ...command], options);
  }

  /** From now on nothing that `from` sends arrives at `to`. */
  lose(from: string, to: string): void {
    if (this.#cut.has(`${from} ${to}`)) return;
    this.#cut.add(`${from} ${to}`);
    if (from === "clients") ip("neigh", "replace", this.address(to), "lladdr", NOBODY, "nud", "permanent", "dev", this.#ownInterface());
    else ip("-n", this.#namespace(from), "neigh", "replace", this.address(to), "lladdr", NOBODY, "nud", "permanent", "dev", "eth0");
  }

  /** Undoes {@link lose}. */
  heal(from: string, to: string): void {
    if (!this.#cut.delete(`${from} ${to}`)) return;
    if (from === "clients") ip("neigh", "del", this.address(to), "dev", this.#ownInterface());
    else ip("-n", this.#namespace(from), "neigh", "del", this.address(to), "dev", "eth0");
  }

  healAll(): void {
    for (const pair of [...this.#cut]) this.heal(...(pair.split(" ") as [string, string]));
  }

  dispose(): void {
    for (const name of [...this.#members, "hub"]) spawnSync("ip", ["netns", "del", this.#namespace(name)]);
    // The kernel takes a namespace apart later; the other end of the pair goes with it, and this name is wanted again at once.
    spawnSync("ip", ["link", "del", this.#ownInterface()], { stdio: "ignore" });
  }
}

/**
 * Free TCP ports for nodes of a test.
 *
 * Always holds: a port is given out once in a run of the tests, to whichever file asks, so a node that is down finds its port free when it
 * starts again; and none is one that the kernel gives to connections or to `listen(0)`.
 */
import { randomInt } from "node:crypto";
import * as fs from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";

/** The folder in which the files of a run note their ports; without it (a file run by hand) only this process knows. */
export const PORTS_VARIABLE = "SLUICE_TEST_PORTS";
/** Below what Linux gives out by itself (net.ipv4.ip_local_port_range begins with 32768). */
const FIRST = 12_000;
const END = 32_000;
const TRIES = 5_000;

const given = new Set<number>();

export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries++) {
    if (tries > TRIES) throw new Error("no free ports");
    const port = randomInt(FIRST, END);
    if (claim(port) && await isFree(port)) ports.push(port);
  }
  return ports;
}

function claim(port: number): boolean {
  if (given.has(port)) return false;
  given.add(port);
  const folder = process.env[PORTS_VARIABLE];
  if (folder === undefined) return true;
  fs.mkdirSync(folder, { recursive: true });
  try {
    fs.mkdirSync(join(folder, String(port)));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, () => server.close(() => resolve(true)));
  });
}

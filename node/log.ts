/**
 * The log of a process of the node: one line an event, JSON or, on a terminal, for people.
 *
 * Always holds: every process writes to its own standard output with the same fields (level, time, name of the part,
 * node, msg), so that the streams of guardian, engine and proxy can share one pipe. Lines are written at once and whole: a process that is killed has lost none.
 */
import { pino, type DestinationStream, type Logger } from "pino";
import type { LogConfig } from "./core/config.ts";

export type { Logger } from "pino";

/** The part that speaks; the application writes what it likes. */
export type Part = "guardian" | "engine";

/** Makes the logger. `isTerminal` decides for format "auto". The pretty printer is loaded only where it is used. */
export async function createLogger(config: LogConfig, names: { readonly node: string; readonly part: Part }, isTerminal = process.stdout.isTTY): Promise<Logger> {
  const options = { level: config.level, base: { name: names.part, node: names.node } };
  return pino(options, config.format === "pretty" || (config.format === "auto" && isTerminal) ? await prettyStream() : plainStream());
}

function plainStream(): DestinationStream {
  const stream = pino.destination({ fd: 1, sync: true });
  // Whoever read the log has gone away: the node goes on without it.
  stream.on("error", () => {});
  return stream;
}

async function prettyStream(): Promise<DestinationStream> {
  const { default: pretty } = await import("pino-pretty");
  return pretty({ destination: 1, sync: true, colorize: process.stdout.isTTY, translateTime: "SYS:HH:MM:ss.l", ignore: "node" });
}

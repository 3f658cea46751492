/**
 * The command line: reads the arguments, runs one command, answers an exit code.
 *
 * Always holds: 0 is success; 1 is a command that failed; 2 is one that was not begun, because of its arguments, the configuration or the
 * state of the machine. Every error is a sentence that says what is wrong and a line that says what to do. Parts that only one command
 * needs are loaded by that command.
 */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import { isAppError } from "../proto/errors.ts";
import { VERSION } from "./version.ts";

export interface CliOutput {
  out(text: string): void;
  err(text: string): void;
}

export const EXIT = { ok: 0, failed: 1, refused: 2 } as const;

interface Arguments {
  /** `-c FILE`. */
  readonly config: string | undefined;
  readonly name: string | undefined;
  readonly json: boolean;
  /** `--to NODE`. */
  readonly to: string | undefined;
  readonly seen: boolean;
  readonly force: boolean;
  /** `--from WHERE`. */
  readonly from: string | undefined;
  readonly files: readonly string[];
}

interface Command {
  readonly usage: string;
  readonly summary: string;
  /** Beyond `-c FILE` and `-h`. */
  readonly options: ParseArgsOptionsConfig;
  /** Names of the positional arguments; one with a question mark may be left out. */
  readonly files: readonly string[];
  readonly needsName: boolean;
  run(args: Arguments, output: CliOutput): Promise<number>;
}

/** How long an engine may take to stop in order and to start again. */
const UPGRADE_MS = 60_000;
const NAME = { name: { type: "string" } } as const;

const COMMANDS: Readonly<Record<string, Command>> = {
  mount: {
    usage: "mount [-c FILE]", summary: "Runs the node in the foreground. SIGTERM and SIGINT unmount and end it.", options: {}, files: [], needsName: false,
    async run(args) {
      const { runMount } = await import("./mount-command.ts");
      return await runMount(args.config);
    },
  },
  status: {
    usage: "status [-c FILE] [--json]", summary: "Shows role, databases and followers of the running node.", options: { json: { type: "boolean" } }, files: [], needsName: false,
    async run(args, output) {
      const { askNode } = await import("./admin-client.ts");
      const { formatStatus } = await import("./status-table.ts");
      const status = await askNode(await configOf(args.config), "GET", "/status");
      output.out(args.json ? JSON.stringify(status, undefined, 2) : formatStatus(status));
      return EXIT.ok;
    },
  },
  import: {
    usage: "import [-c FILE] --name app.db SOURCE.db", summary: "Copies a database file into the mount of the running node.", options: NAME, files: ["SOURCE.db"], needsName: true,
    run: (args, output) => transfer(args, output, { path: "/import", parameter: "source", done: "Imported" }),
  },
  export: {
    usage: "export [-c FILE] --name app.db TARGET.db", summary: "Writes a consistent copy of a database of the running node.", options: NAME, files: ["TARGET.db"], needsName: true,
    run: (args, output) => transfer(args, output, { path: "/export", parameter: "target", done: "Exported" }),
  },
  handoff: {
    usage: "handoff [-c FILE] [--to NODE]", summary: "Moves the lease from this node, the primary, to another one; the gap for writers is short.", options: { to: { type: "string" } }, files: [], needsName: false,
    run: (args, output) => moveLease(args, output, "/handoff", args.to === undefined ? {} : { to: args.to }),
  },
  promote: {
    usage: "promote [--force] [-c FILE]", options: { force: { type: "boolean" } }, files: [], needsName: false,
    summary: "Makes this node the primary: by a handoff, or by taking a lease that nobody has. --force: also where durability sync makes an election wait for nodes that do not answer; what they alone have is not taken over.",
    run: (args, output) => moveLease(args, output, "/promote", args.force ? { force: "true" } : {}),
  },
  upgrade: {
    usage: "upgrade [-c FILE]", summary: "Starts engine and proxy again from the files as they are now; the mount and the application stay.", options: {}, files: [], needsName: false,
    async run(args, output) {
      const { askNode } = await import("./admin-client.ts");
      const config = await configOf(args.config);
      const before = await askNode(config, "GET", "/status") as { startedAt: string };
      await askNode(config, "POST", "/upgrade");
      for (const until = Date.now() + UPGRADE_MS; Date.now() < until; await sleep(50)) {
        const now = await askNode(config, "GET", "/status").catch(() => undefined) as { startedAt: string; version: string } | undefined;
        if (now === undefined || now.startedAt === before.startedAt) continue;
        output.out(`Engine and proxy run version ${now.version}`);
        return EXIT.ok;
      }
      output.err(`sluice: The engine is not back within ${UPGRADE_MS / 1_000} s\nThe log of the node has the reason; the guardian goes on starting it.`);
      return EXIT.failed;
    },
  },
  diverged: {
    usage: "diverged list [--seen] | show ID | export ID TARGET | drop ID   [-c FILE] [--json]",
    summary: "What this node had committed and lost against another primary's history. --seen, show and export note that somebody has looked; then `status` is silent about it.\nexport writes the whole database as it was, or the LTX files where it was too large to be kept. list, show and export also work while the node does not run.",
    options: { json: { type: "boolean" }, seen: { type: "boolean" } }, files: ["COMMAND", "ID?", "TARGET?"], needsName: false,
    async run(args, output) {
      const { parseDiverged, askDiverged, formatDiverged } = await import("./diverged-command.ts");
      const command = parseDiverged(args.files, args.seen);
      if (typeof command === "string") return usageError(output, command, "Usage: sluice diverged list | show ID | export ID TARGET | drop ID");
      const answer = await askDiverged(await configOf(args.config), command);
      output.out(args.json ? JSON.stringify(answer, undefined, 2) : formatDiverged(command, answer));
      return EXIT.ok;
    },
  },
  verify: {
    usage: "verify [-c FILE] [--name app.db] [--json]",
    summary: "Reads databases, logs and what belongs to them, and prints each file that is wrong with the command that mends it. Changes nothing. Works while the node runs and while it does not; exit code 1 when something is wrong.",
    options: { ...NAME, json: { type: "boolean" } }, files: [], needsName: false,
    async run(args, output) {
      const { askVerify, findingsOf, formatVerify, isSound } = await import("./verify-command.ts");
      const config = await configOf(args.config);
      const report = await askVerify(config, args.name);
      output.out(args.json ? JSON.stringify({ sound: isSound(report), ...report, findings: findingsOf(config, report) }, undefined, 2) : formatVerify(config, report));
      return isSound(report) ? EXIT.ok : EXIT.failed;
    },
  },
  repair: {
    usage: "repair --from peer [-c FILE] [--name app.db]",
    summary: "Takes a database of this node, which follows, anew from the primary: the old files and log go to aside/. Without --name, each database of which `sluice verify` finds something wrong.",
    options: { ...NAME, from: { type: "string" } }, files: [], needsName: false,
    async run(args, output) {
      if (args.from !== "peer") return usageError(output, args.from === undefined ? "--from is missing: where the data comes from" : `"${args.from}" is nothing to repair from`, "The only one is a peer: sluice repair --from peer [-c FILE] [--name app.db]");
      const { askRepair } = await import("./verify-command.ts");
      const { formatSize } = await import("./config/units.ts");
      const repaired = await askRepair(await configOf(args.config), args.name);
      for (const { database, pages, bytes, txid } of repaired) output.out(`Repaired ${database}: ${pages} pages, ${formatSize(bytes)}, at TXID ${txid}; what was here is in aside/`);
      if (repaired.length === 0) output.out("Nothing is wrong; with --name a database is taken anew all the same.");
      return EXIT.ok;
    },
  },
  "check-config": {
    usage: "check-config [FILE] [--json]", summary: "Lists everything that is wrong with the configuration; --json shows it with all defaults.",
    options: { json: { type: "boolean" } }, files: ["FILE?"], needsName: false,
    async run(args, output) {
      const config = await configOf(args.files[0] ?? args.config);
      output.out(args.json ? JSON.stringify(config) : `${config.source.file} can be used.`);
      return EXIT.ok;
    },
  },
  version: {
    usage: "version", summary: "Prints the version.", options: {}, files: [], needsName: false,
    async run(_args, output) {
      output.out(VERSION);
      return EXIT.ok;
    },
  },
  help: {
    usage: "help", summary: "Prints this.", options: {}, files: ["COMMAND?"], needsName: false,
    async run(args, output) {
      const command = args.files[0] === undefined ? undefined : COMMANDS[args.files[0]];
      output.out(command === undefined ? helpText() : commandHelp(command));
      return EXIT.ok;
    },
  },
};

/** Runs one command; never throws for anything that can happen in the world. */
export async function runCli(argv: readonly string[], output: CliOutput): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined) {
    output.err(helpText());
    return EXIT.refused;
  }
  const aliases: Readonly<Record<string, string>> = { "--help": "help", "-h": "help", "--version": "version", "-v": "version" };
  const key = aliases[name] ?? name;
  const command = Object.hasOwn(COMMANDS, key) ? COMMANDS[key] : undefined;
  if (command === undefined) {
    const { nearest } = await import("./config/problem.ts");
    const near = nearest(name, Object.keys(COMMANDS));
    return usageError(output, `There is no command "${name}"`, near === undefined ? "`sluice help` lists the commands." : `Did you mean \`sluice ${near}\`?`);
  }
  const args = readArguments(command, rest);
  if (args === "help") {
    output.out(commandHelp(command));
    return EXIT.ok;
  }
  if (typeof args === "string") return usageError(output, args, `Usage: sluice ${command.usage}`);
  try {
    return await command.run(args, output);
  } catch (error) {
    return await printError(error, output);
  }
}

/** The arguments of a command; a sentence when they cannot be used; "help" when help is asked for. */
function readArguments(command: Command, rest: readonly string[]): Arguments | string {
  let parsed;
  try {
    parsed = parseArgs({ args: [...rest], allowPositionals: true, strict: true, options: { config: { type: "string", short: "c" }, help: { type: "boolean", short: "h" }, ...command.options } });
  } catch (error) {
    // The sentences of parseArgs go on with advice about "--" that only confuses here.
    return (error as Error).message.split(". ")[0]!.replace(/\.$/, "");
  }
  const values = parsed.values as { config?: string; help?: boolean; name?: string; json?: boolean; to?: string; seen?: boolean; force?: boolean; from?: string };
  if (values.help === true) return "help";
  const required = command.files.filter((file) => !file.endsWith("?"));
  if (parsed.positionals.length < required.length) return `${required[parsed.positionals.length]!} is missing`;
  const extra = parsed.positionals[command.files.length];
  if (extra !== undefined) return `"${extra}" is one argument too many`;
  if (command.needsName && (values.name === undefined || values.name === "")) return "--name is missing: the name of the database in the mount";
  return { config: values.config, name: values.name, json: values.json === true, to: values.to, seen: values.seen === true, force: values.force === true, from: values.from, files: parsed.positionals };
}

async function configOf(file: string | undefined) {
  const { loadConfig } = await import("./config.ts");
  return loadConfig(file);
}

/** `import` and `export`: the node does the work by path, so paths are made absolute here. */
async function transfer(args: Arguments, output: CliOutput, kind: { readonly path: "/import" | "/export"; readonly parameter: "source" | "target"; readonly done: string }): Promise<number> {
  const file = resolve(args.files[0]!);
  if (kind.parameter === "source" && !existsSync(file)) return usageError(output, `There is no file ${file}`, "Give the path of a SQLite database.");
  if (kind.parameter === "target" && existsSync(file)) return usageError(output, `${file} exists already`, "Choose another name, or remove it first.");
  const config = await configOf(args.config);
  const { askNode } = await import("./admin-client.ts");
  const { formatSize } = await import("./config/units.ts");
  const result = await askNode(config, "POST", kind.path, { name: args.name!, [kind.parameter]: file }) as { txid: string; pages: number; bytes: number };
  output.out(`${kind.done} ${args.name!}: ${result.pages} pages, ${formatSize(result.bytes)}, at TXID ${result.txid}`);
  return EXIT.ok;
}

async function moveLease(args: Arguments, output: CliOutput, path: string, query: Record<string, string>): Promise<number> {
  const { askNode } = await import("./admin-client.ts");
  const { primary } = await askNode(await configOf(args.config), "POST", path, query) as { primary: string };
  output.out(`${primary} is the primary now`);
  return EXIT.ok;
}

function usageError(output: CliOutput, sentence: string, hint: string): number {
  output.err(`sluice: ${sentence}\n${hint}`);
  return EXIT.refused;
}

/** Errors before anything was begun end with 2, so that a supervisor need not try again. */
const REFUSALS: ReadonlySet<string> = new Set(["CONFIG_INVALID", "MOUNT_BUSY", "DRIVER_UNAVAILABLE"]);

async function printError(error: unknown, output: CliOutput): Promise<number> {
  const { NodeError } = await import("./admin-client.ts");
  if (error instanceof NodeError) {
    output.err(`sluice: ${error.message}\n${error.hint}`);
    return EXIT.failed;
  }
  if (!isAppError(error)) {
    // Not in the error table: a fault of ours, so whoever reports it needs to know where.
    output.err(`sluice: ${error instanceof Error ? error.stack ?? error.message : String(error)}`);
    return EXIT.failed;
  }
  const { configErrors } = await import("./config.ts");
  for (const one of configErrors(error)) output.err(`sluice: ${one.message}`);
  output.err(error.hint);
  return REFUSALS.has(error.code) ? EXIT.refused : EXIT.failed;
}

function helpText(): string {
  const width = Math.max(...Object.values(COMMANDS).map((command) => command.usage.length)) + 2;
  const lines = Object.values(COMMANDS).map((command) => `  sluice ${command.usage.padEnd(width)}${command.summary}`);
  return [
    "Sluice: SQLite on many machines, without a change to the application.", "", ...lines, "",
    "The configuration is FILE, else ./sluice.yml, else /etc/sluice.yml; sluice.example.yml explains every setting.",
    "Exit code 0: done; 1: failed; 2: not begun, because of arguments, configuration or the state of this machine.",
  ].join("\n");
}

function commandHelp(command: Command): string {
  return `Usage: sluice ${command.usage}\n\n${command.summary}`;
}

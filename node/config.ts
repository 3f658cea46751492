/**
 * Finds, reads and checks the configuration file.
 *
 * Always holds: what is returned is complete and frozen; what is refused is refused with file, line, key, reason and remedy. Nothing outside
 * the file is looked at but the environment variables that it names and, for a default, the host name.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { AppError } from "../proto/errors.ts";
import { applySchema } from "./config/schema.ts";
import { problemError, type Problem } from "./config/problem.ts";
import { readYaml } from "./config/yaml-source.ts";
import type { Config } from "./core/config.ts";

export type { Config } from "./core/config.ts";

/** Where the file is looked for when none is named, in this order. */
export const DEFAULT_FILES = ["./sluice.yml", "/etc/sluice.yml"] as const;

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads the configuration from `path`, or from the first of {@link DEFAULT_FILES} that exists.
 * Throws CONFIG_INVALID for the first problem of the file; `cause` is the list of errors for the others, if any.
 */
export function loadConfig(path?: string, env: Environment = process.env): Config {
  const file = findConfigFile(path);
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw problemError({ file, line: 0, key: "", ...unreadable(error as NodeJS.ErrnoException) });
  }
  const result = parseConfig(text, file, env);
  if ("config" in result) return result.config;
  const [first, ...others] = result.problems.map((problem) => problemError(problem));
  throw others.length === 0 ? first! : Object.assign(first!, { cause: others });
}

/** The errors that {@link loadConfig} found, all of them. */
export function configErrors(error: AppError): readonly AppError[] {
  return [error, ...(Array.isArray(error.cause) ? (error.cause as AppError[]) : [])];
}

/** The pure part of {@link loadConfig}: text in, configuration or problems out. */
export function parseConfig(text: string, file: string, env: Environment): { readonly config: Config } | { readonly problems: readonly Problem[] } {
  const source = readYaml(text, file, env);
  if (source.problems.length > 0) return { problems: source.problems };
  const result = applySchema({ value: source.value, file, lines: source.lines, base: dirname(file) });
  return "config" in result ? { config: freeze(result.config) } : result;
}

function findConfigFile(path: string | undefined): string {
  if (path !== undefined) return resolve(path);
  const found = DEFAULT_FILES.find((candidate) => existsSync(candidate));
  if (found !== undefined) return resolve(found);
  throw problemError({ file: resolve(DEFAULT_FILES[0]), line: 0, key: "", reason: `there is no such file, nor ${DEFAULT_FILES[1]}`, remedy: "write one (see sluice.example.yml), or name it with -c FILE" });
}

function unreadable(error: NodeJS.ErrnoException): { reason: string; remedy: string } {
  switch (error.code) {
    case "ENOENT": return { reason: "there is no such file", remedy: "check the path" };
    case "EACCES": return { reason: "reading it is not permitted", remedy: "run as the user that owns it, or change its mode" };
    case "EISDIR": return { reason: "it is a folder", remedy: "name the file in it" };
    default: return { reason: `reading it failed with ${error.code ?? error.message}`, remedy: "check the file" };
  }
}

function freeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  for (const child of Object.values(value)) freeze(child);
  return Object.freeze(value);
}

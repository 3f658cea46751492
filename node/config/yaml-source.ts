/**
 * Reads the YAML text: values, the line of each key, and `${VAR}` in texts replaced.
 *
 * Always holds: variables are replaced after parsing and only inside scalar texts, so that the value of a variable can never add a key or
 * change the structure. A replaced value is not scanned again. Keys are not replaced.
 */
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Document, type Node, type Pair } from "yaml";
import { formatKey, type Problem } from "./problem.ts";

export interface YamlSource {
  /** Objects have no prototype, so that no key is special. */
  readonly value: unknown;
  /** By {@link formatKey}, in the order of the file. */
  readonly lines: Readonly<Record<string, number>>;
  readonly problems: readonly Problem[];
}

/** Lists below these keys hold texts whatever they look like: `exec: [server, --port, 3000]`. */
const TEXT_LISTS = new Set(["exec"]);

const DEPTH_MAX = 20;
const NODES_MAX = 10_000;
const TOO_LARGE = "it is nested too deeply, or too large";

export function readYaml(text: string, file: string, env: Readonly<Record<string, string | undefined>>): YamlSource {
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false, uniqueKeys: true, version: "1.2", merge: false });
  const lines: Record<string, number> = Object.create(null) as Record<string, number>;
  const problems: Problem[] = [];
  const lineAt = (offset: number | undefined): number => (offset === undefined ? 0 : counter.linePos(offset).line);
  const add = (line: number, key: string, reason: string, remedy: string): void => void problems.push({ file, line, key, reason, remedy });

  const first = document.errors[0];
  if (first !== undefined) {
    // What follows the first syntax error is usually a consequence of it.
    const line = lineAt(first.pos[0]);
    if (first.code === "DUPLICATE_KEY") {
      const key = /^[^:\s]+/.exec(text.slice(first.pos[0]))?.[0] ?? "";
      add(line, key, "this key stands twice", "remove one of the two lines");
    } else {
      const sentence = first.message.replace(/\s+/g, " ").trim().replace(/\.$/, "");
      const variable = /[{[,].*\$\{/.test(text.split("\n")[line - 1] ?? "");
      add(line, "", `it is not YAML: ${sentence}`, variable ? 'put quotes around a text that contains ${…}: "${NAME}"' : "correct the indentation, quotes or brackets near this line");
    }
    return { value: undefined, lines, problems };
  }

  const expand = (value: string, line: number, key: string): string =>
    value.replace(/\$\$\{|\$\{([^}]*)\}|\$\{/g, (all, inner: string | undefined) => {
      if (all === "$${") return "${";
      const match = /^([A-Za-z_][A-Za-z0-9_]*)(?::-([^]*))?$/.exec(inner ?? "");
      if (match === null) {
        add(line, key, `"${all}" is not a variable`, "write ${NAME} or ${NAME:-default}, and $${ for the characters themselves");
        return "";
      }
      const [, name, fallback] = match;
      const found = env[name!];
      if (found !== undefined && (found !== "" || fallback === undefined)) return found;
      if (fallback !== undefined) return fallback;
      add(line, key, `the variable ${name!} is not set`, `set it in the environment, or write a default: \${${name!}:-value}`);
      return "";
    });

  const follow = (node: unknown): unknown => (isAlias(node) ? node.resolve(document as Document<Node>) : node);

  let nodes = 0;
  const walk = (given: unknown, path: readonly (string | number)[], depth: number): unknown => {
    const node = follow(given);
    const key = formatKey(path);
    // Aliases can contain themselves, or each other many times over.
    if (depth > DEPTH_MAX || ++nodes > NODES_MAX) {
      if (problems.every((problem) => problem.reason !== TOO_LARGE)) add(lines[formatKey(path.slice(0, 2))] ?? 0, formatKey(path.slice(0, 2)), TOO_LARGE, "write it without aliases");
      return null;
    }
    if (isMap(node)) {
      const object: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
      for (const pair of node.items as Pair<Node, Node | null>[]) {
        const keyNode = follow(pair.key);
        const line = lineAt((isScalar(keyNode) ? keyNode.range?.[0] : undefined) ?? undefined);
        if (!isScalar(keyNode)) {
          add(line, key, "a key is not a text", "write each key as a plain word");
          continue;
        }
        const name = typeof keyNode.value === "string" ? keyNode.value : keyNode.source ?? String(keyNode.value);
        const childPath = [...path, name];
        lines[formatKey(childPath)] = line;
        object[name] = walk(pair.value, childPath, depth + 1);
      }
      return object;
    }
    if (isSeq(node)) {
      return node.items.map((item, index) => {
        const childPath = [...path, index];
        const target = item as Node | null;
        lines[formatKey(childPath)] = lineAt(target?.range?.[0]);
        return walk(item, childPath, depth + 1);
      });
    }
    if (!isScalar(node)) return null;
    const line = lines[key] ?? 1;
    if (typeof node.value === "string") return expand(node.value, line, key);
    return TEXT_LISTS.has(String(path[0])) && path.length > 1 && node.source !== undefined ? node.source : node.value;
  };

  const value = walk(document.contents, [], 0);
  return { value, lines, problems };
}

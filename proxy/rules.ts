/**
 * Path rules: where a path is answered, whether its cookies and which databases count, and how new its data must be.
 *
 * Always holds: a rule is matched against the decoded path without its query; `*` stands for any characters, slashes included; the pattern
 * covers the whole path; the first match wins. The bytes that are forwarded are never changed. Applications decode paths in different ways,
 * so a path is read in several ways here, and one that would meet different rules is refused: the client could choose its rule otherwise.
 */
import type { Facts } from "./decide.ts";

/** A rule as the configuration has it. */
export interface PathRule {
  readonly path: string;
  /** "auto" leaves it to the method. */
  readonly to?: "auto" | "local" | "primary";
  /** false: the positions of clients neither count nor are they told any. */
  readonly cookie?: boolean;
  /** Patterns of the databases whose positions count; all without it. */
  readonly databases?: readonly string[];
  readonly consistency?: Facts["consistency"];
}

/** What holds for a path. */
export interface Rule {
  readonly to: Facts["rule"];
  readonly cookie: boolean;
  /** Undefined when every database counts. */
  readonly counts: ((database: string) => boolean) | undefined;
  readonly consistency: Facts["consistency"];
}

/** What holds where no rule matches. */
export const NO_RULE: Rule = { to: "none", cookie: true, counts: undefined, consistency: "session" };

/** The rule of a target in origin form (`/path?query`); undefined for an ambiguous path. */
export type RuleMatcher = (target: string) => Rule | undefined;

/** Makes the matcher of a rule list. */
export function ruleMatcher(rules: readonly PathRule[]): RuleMatcher {
  if (rules.length === 0) return () => NO_RULE;
  // Rules that say the same are one object, so that a path between two of them is not ambiguous.
  const known = new Map([[sameness({ path: "" }), NO_RULE]]);
  const compiled = rules.map((rule) => {
    const key = sameness(rule);
    const meaning = known.get(key) ?? compile(rule);
    known.set(key, meaning);
    return { pattern: globPattern(rule.path), meaning };
  });
  const ruleOf = (path: string): Rule => compiled.find(({ pattern }) => pattern.test(path))?.meaning ?? NO_RULE;
  return (target) => {
    const query = target.indexOf("?");
    const path = query < 0 ? target : target.slice(0, query);
    const match = ruleOf(decodeOnce(path, KEPT_ENCODED));
    if (PLAIN_PATH.test(path) && !DOUBTFUL.test(path)) return match;
    return readings(path).every((reading) => ruleOf(reading) === match) ? match : undefined;
  };
}

function sameness({ to = "auto", cookie = true, databases, consistency = "session" }: PathRule): string {
  return JSON.stringify([to, cookie, databases ?? null, consistency]);
}

function compile({ to = "auto", cookie = true, databases, consistency = "session" }: PathRule): Rule {
  const patterns = databases?.map(globPattern);
  return { to: to === "auto" ? "none" : to, cookie, consistency, counts: patterns === undefined ? undefined : (name) => patterns.some((pattern) => pattern.test(name)) };
}

/** Paths of these characters only are read alike by everybody, unless they have dot segments or empty ones. */
const PLAIN_PATH = /^[A-Za-z0-9/._~!$&'()*+,=:@-]*$/;
const DOUBTFUL = /\/\/|\/\.\.?(?:\/|$)/;
/** Encoded forms that must not turn into separators in the first reading: `/`, `\`, `%`, `;`, NUL. */
const KEPT_ENCODED = /^(?:2f|5c|25|3b|00)$/i;

function globPattern(glob: string): RegExp {
  return new RegExp(`^${glob.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&")).join("[^]*")}$`);
}

/** What different servers make of one path: decoded in part, once, twice; path parameters cut; separators merged; dot segments resolved. */
function readings(path: string): string[] {
  const decoded = [decodeOnce(path, KEPT_ENCODED), decodeOnce(path), decodeOnce(decodeOnce(path))];
  const all = new Set<string>();
  for (const one of decoded) {
    for (const cut of [one, one.replace(/;[^/]*/g, "")]) {
      for (const slashes of [cut, cut.replace(/\\/g, "/")]) {
        const merged = slashes.replace(/\/{2,}/g, "/");
        for (const form of [slashes, merged, resolveDots(slashes), resolveDots(merged)]) all.add(form);
      }
    }
  }
  return [...all];
}

/** Percent-decoding of single bytes; what is not valid stays as it is, and so does what `kept` names. */
function decodeOnce(path: string, kept?: RegExp): string {
  if (!path.includes("%")) return path;
  const bytes = path.replace(/%([0-9A-Fa-f]{2})/g, (all, hex: string) => (kept?.test(hex) === true ? all : String.fromCharCode(Number.parseInt(hex, 16))));
  // Multi-byte characters: the rule is written in Unicode, the path carries UTF-8.
  const text = Buffer.from(bytes, "latin1").toString("utf8");
  return text.includes("\ufffd") ? bytes : text;
}

/** RFC 3986, section 5.2.4. */
function resolveDots(path: string): string {
  const out: string[] = [];
  const segments = path.split("/");
  segments.forEach((segment, index) => {
    const last = index === segments.length - 1;
    if (segment === "..") {
      if (out.length > 1) out.pop();
      if (last) out.push("");
    } else if (segment === ".") {
      if (last) out.push("");
    } else out.push(segment);
  });
  return out.join("/");
}

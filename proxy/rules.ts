/**
 * Path rules: which paths are always local, which always go to the primary.
 *
 * Always holds: a rule is matched against the decoded path without its query; `*` stands for any characters, slashes included; the pattern
 * covers the whole path; the first match wins. The bytes that are forwarded are never changed. Applications decode paths in different ways,
 * so a path is read in several ways here, and one that would meet different rules is refused: the client could choose its rule otherwise.
 */
export interface PathRule {
  readonly path: string;
  readonly to: "local" | "primary";
}

export type RuleMatch = PathRule["to"] | "none" | "ambiguous";
export type RuleMatcher = (target: string) => RuleMatch;

/** Makes the matcher of a rule list. The target is in origin form (`/path?query`). */
export function ruleMatcher(rules: readonly PathRule[]): RuleMatcher {
  if (rules.length === 0) return () => "none";
  const compiled = rules.map((rule) => ({ pattern: globPattern(rule.path), to: rule.to }));
  const ruleOf = (path: string): RuleMatch => compiled.find((rule) => rule.pattern.test(path))?.to ?? "none";
  return (target) => {
    const path = target.split("?", 1)[0]!;
    const match = ruleOf(decodeOnce(path, KEPT_ENCODED));
    if (PLAIN_PATH.test(path) && !DOUBTFUL.test(path)) return match;
    return readings(path).every((reading) => ruleOf(reading) === match) ? match : "ambiguous";
  };
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

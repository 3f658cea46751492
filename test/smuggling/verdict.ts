/**
 * What a subject makes of a case: it is sent on a raw socket, and the requests that the back end recorded are read.
 *
 * Always holds: one case at a time runs on a subject, so whatever its back end gets belongs to that case; a verdict never hides that readers
 * disagree about the recorded bytes. Which requests a verdict holds is decided by bytes only, never by what the subject answered.
 */
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { LENIENT, read, STRICT, type Reading, type ReadRequest, type Rules } from "./reader.ts";
import type { Recorded } from "./recorder.ts";
import type { Subject } from "./subjects.ts";

export interface Verdict {
  readonly requests: readonly ReadRequest[];
  /** What readers of the recorded bytes do not agree on; undefined when all read the same. */
  readonly ambiguous: string | undefined;
  /** Whether the back end got the beginning of a request and then the end of the connection. */
  readonly cut: boolean;
  /** Status codes that the client got. */
  readonly statuses: readonly number[];
}

export interface Manner {
  /** Nothing moves for so long: the case waits for bytes that will not come. */
  readonly quietMs: number;
  /** Sizes of the pieces in which the bytes are sent; all at once without. */
  readonly pieces?: (rest: number) => number;
}

/** Runs one case. */
export async function judge(subject: Subject, bytes: string, manner: Manner): Promise<Verdict> {
  const { recorder } = subject;
  recorder.take();
  const socket = connect({ host: "127.0.0.1", port: subject.port, noDelay: true });
  let lastAt = performance.now();
  let text = "";
  let over = false;
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    lastAt = performance.now();
  });
  socket.on("end", () => (over = true)).on("close", () => (over = true));
  await once(socket, "connect");
  for (let at = 0; at < bytes.length && !over;) {
    const size = manner.pieces?.(bytes.length - at) ?? bytes.length;
    const piece = Buffer.from(bytes.slice(at, at + size), "latin1");
    await new Promise<void>((resolve) => void socket.write(piece, () => resolve()));
    at += size;
    if (at < bytes.length) await sleep(1);
  }
  lastAt = performance.now();
  const quiet = (): boolean => performance.now() - Math.max(lastAt, recorder.lastAt) > manner.quietMs;
  // After the client's connection has ended, one to the back end with half a request in it is about to be cut.
  while (!(over && !recorder.waiting) && !quiet()) await sleep(2);
  socket.destroy();
  const cutBefore = performance.now();
  while (recorder.waiting && performance.now() - cutBefore < manner.quietMs) await sleep(2);
  return verdictOf(recorder.take(), [...text.matchAll(/HTTP\/1\.[01] (\d{3})/g)].map((match) => Number(match[1])));
}

function verdictOf(recorded: readonly Recorded[], statuses: readonly number[]): Verdict {
  const placed: { readonly request: ReadRequest; readonly place: number }[] = [];
  let ambiguous: string | undefined;
  let cut = false;
  for (const { bytes, pieces } of recorded) {
    const place = (end: number): number => pieces.find(([to]) => to >= end)?.[1] ?? Infinity;
    const keep = (reading: Reading): void => reading.requests.forEach((request, index) => placed.push({ request, place: place(reading.ends[index]!) }));
    const strict = read(bytes, STRICT);
    if (strict.stopped === "incomplete") cut = true;
    if (strict.stopped === undefined || strict.stopped === "incomplete") keep(strict);
    else {
      ambiguous ??= `the strict reader stops: ${strict.stopped}`;
      keep(read(bytes, LENIENT[0]!));
    }
    for (const rules of LENIENT) ambiguous ??= differenceOf(strict.requests, bytes, rules);
  }
  // Stable: requests of one piece stay in their order.
  const requests = placed.toSorted((a, b) => a.place - b.place).map(({ request }) => request);
  return { requests, ambiguous, cut, statuses };
}

/** What a reader sees otherwise than the strict one. */
function differenceOf(strict: readonly ReadRequest[], bytes: string, rules: (typeof LENIENT)[number]): string | undefined {
  const { requests } = read(bytes, rules);
  if (requests.length !== strict.length) return `"${rules.name}" reads ${requests.length} requests, the strict reader ${strict.length}`;
  for (const [index, one] of strict.entries()) {
    const other = requests[index]!;
    if (one.method !== other.method || one.target !== other.target) return `"${rules.name}" reads ${other.method} ${other.target}`;
    if (one.body !== other.body) return `"${rules.name}" reads another body of ${one.method} ${one.target}`;
    const names = new Set(one.fields.map(([name]) => name));
    const collision = rules.underscores ? one.fields.find(([name]) => name.includes("_") && names.has(name.replaceAll("_", "-"))) : undefined;
    if (collision !== undefined) return `"${rules.name}" takes ${collision[0]} for another field`;
    const plain = (fields: ReadRequest["fields"]): string => JSON.stringify(rules.underscores ? fields.map(([name, value]) => [name.replaceAll("_", "-"), value]) : fields);
    if (plain(one.fields) !== plain(other.fields)) return `"${rules.name}" reads other fields of ${one.method} ${one.target}`;
  }
  return undefined;
}

/** The verdict of the grammar itself: what a strict reader makes of the bytes that the client sends. */
export function grammar(bytes: string, rules: Rules = STRICT): Verdict {
  const { requests, stopped } = read(bytes, rules);
  // Behind a request that ends the connection nothing counts.
  const last = requests.findIndex(endsConnection);
  return { requests: last < 0 ? requests : requests.slice(0, last + 1), ambiguous: undefined, cut: stopped === "incomplete", statuses: [] };
}

function endsConnection({ version, fields }: ReadRequest): boolean {
  const options = fields.filter(([name]) => name === "connection").flatMap(([, value]) => value.toLowerCase().split(",").map((one) => one.trim()));
  return options.includes("close") || (version === "1.0" && !options.includes("keep-alive"));
}

/** How a verdict stands to another; "same", or a sentence without what differs from run to run. */
export function relation(ours: Verdict, theirs: Verdict): string {
  for (let i = 0; i < Math.min(ours.requests.length, theirs.requests.length); i++) {
    const difference = difference1(ours.requests[i]!, theirs.requests[i]!);
    if (difference !== undefined) return difference;
  }
  if (ours.requests.length < theirs.requests.length) return "stricter";
  return ours.requests.length > theirs.requests.length ? "laxer" : "same";
}

function difference1(ours: ReadRequest, theirs: ReadRequest): string | undefined {
  if (ours.method !== theirs.method) return "other method";
  if (originForm(ours.target) !== originForm(theirs.target)) return "other target";
  if (ours.body !== theirs.body) return "other body";
  const parts = [...differences("", comparable(ours.fields, OWN), comparable(theirs.fields, OWN)), ...differences("trailers ", comparable(ours.trailers), comparable(theirs.trailers))];
  return parts.length === 0 ? undefined : parts.join("; ");
}

/** What two sets of fields differ in; `kind` stands before the names. */
function differences(kind: string, mine: ReadonlyMap<string, string>, yours: ReadonlyMap<string, string>): string[] {
  const names = [...new Set([...mine.keys(), ...yours.keys()])].filter((name) => mine.get(name) !== yours.get(name));
  const missing = names.filter((name) => !mine.has(name));
  const more = names.filter((name) => !yours.has(name));
  const other = names.filter((name) => mine.has(name) && yours.has(name));
  const list = (word: string, some: readonly string[]): string[] => (some.length === 0 ? [] : [`${word} ${kind}${some.length > 3 ? `${some.length} fields` : some.join(", ")}`]);
  return [...list("without", missing), ...list("with", more), ...list("other", other)];
}

/** What each proxy adds or ends by itself: not a matter of how a request is read. */
const OWN = new Set(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "content-length", "via", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id", "sluice-request-id"]);

function comparable(fields: ReadRequest["fields"], but: ReadonlySet<string> = new Set()): Map<string, string> {
  const result = new Map<string, string>();
  for (const [name, value] of fields) {
    if (but.has(name)) continue;
    const known = result.get(name);
    result.set(name, known === undefined ? value : `${known}\n${value}`);
  }
  return result;
}

function originForm(target: string): string {
  const match = /^https?:\/\/[^/?#]*(.*)$/i.exec(target);
  return match === null ? target : match[1]!.startsWith("/") ? match[1]! : `/${match[1]!}`;
}

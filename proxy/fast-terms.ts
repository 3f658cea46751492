/**
 * What the fast path asks of the rest of the proxy: whether a read may be answered here and now, and which fields go with it both ways.
 *
 * Always holds: it decides by the same function, rules, cookie and header code as the general path, and only ever says yes to what that path
 * would send to the application at once, without adding a cookie. Whatever is asked for by a field of Sluice is left to the general path.
 */
import type { ProxyConfig } from "./config.ts";
import { readCookie, withoutCookie } from "./cookie.ts";
import { decide, type Facts } from "./decide.ts";
import type { EngineView } from "./engine-view.ts";
import { fieldList, keptFields, keptRequest, type RequestHead, type ResponseHead } from "./fast-head.ts";
import { requestFields, responseFields, SLUICE_NODE, SLUICE_REQUEST_ID, SLUICE_TXID } from "./headers.ts";
import { formatMarks, NO_MARKS, reachedAll, type Marks } from "./positions.ts";
import { ruleMatcher, type Rule, type RuleMatcher } from "./rules.ts";

/** Stands for the request id while the fields around it are made. No field can hold it. */
const PLACE = "\u0000";

/** The fields of a connection's requests for one Host. */
export interface ClientFields {
  readonly peer: string;
  host: string;
  before: string;
  after: string;
}

export class FastTerms {
  readonly #config: ProxyConfig;
  readonly #view: EngineView;
  readonly #ruleOf: RuleMatcher;
  /** Filled in again for each request. */
  readonly #facts: Facts = {
    rule: "none", method: "read", consistency: "session", role: "unknown", position: "reached", primary: "unknown", hop: "direct", lag: "left", hold: "left",
  };
  readonly #fixed: string;
  #shown: { marks: Marks; text: string } = { marks: NO_MARKS, text: "" };

  constructor(config: ProxyConfig, view: EngineView) {
    this.#config = config;
    this.#view = view;
    this.#ruleOf = ruleMatcher(config.rules);
    this.#fixed = `${SLUICE_NODE}: ${encodeURIComponent(config.node.name)}\r\n${SLUICE_REQUEST_ID}: `;
  }

  /** Whether this proxy has a fast path at all: clients that are known by more than their cookie need the general one. */
  static fit(config: ProxyConfig): boolean {
    return config.target.startsWith("http://") && (config.clients.by === "cookie" || config.clients.by === "none");
  }

  /** Whether the request goes to the application now, as a read that changes nobody's cookie. */
  admits(head: RequestHead): boolean {
    const rule = this.#ruleOf(head.target);
    if (rule === undefined) return false;
    const state = this.#view.state();
    const facts = this.#facts;
    facts.rule = rule.to;
    facts.consistency = rule.consistency;
    facts.role = state === undefined ? "unknown" : state.role === "primary" ? "primary" : "follower";
    const want = head.cookie === undefined ? undefined : this.#wanted(head.cookie, rule);
    // A strong read is behind until the primary has said where it is.
    const isReached = rule.consistency !== "strong" && (want === undefined || (state !== undefined && reachedAll(state.positions, want)));
    facts.position = isReached ? "reached" : "behind";
    if (decide(facts).action !== "local") return false;
    // The primary sets a cookie after what may have written, and sets one right that names what does not exist.
    return facts.role !== "primary" || (facts.rule !== "primary" && (isReached || want === undefined));
  }

  #wanted(cookie: string, rule: Rule): Marks | undefined {
    if (!rule.cookie || this.#config.clients.by === "none") return undefined;
    const want = readCookie(cookie, this.#config.cookie.name);
    if (want === undefined || rule.counts === undefined) return want;
    return new Map([...want].filter(([database]) => rule.counts!(database)));
  }

  /** The head of the request as the application gets it. */
  requestText(text: string, head: RequestHead, id: string, client: ClientFields): string {
    const cookie = head.cookie === undefined ? undefined : withoutCookie(head.cookie, this.#config.cookie.name);
    if (!head.plain) {
      const lineEnd = text.indexOf("\r\n") + 2;
      return `${text.slice(0, lineEnd)}${lines(this.#fields(fieldList(text, lineEnd, head.fieldsEnd), client.peer, id))}\r\n`;
    }
    if (client.host !== head.host) this.#prepare(client, head.host);
    return keptRequest(text, head, cookie) + client.before + id + client.after;
  }

  /** The general path's fields for this client and Host, cut in two where the request id goes. */
  #prepare(client: ClientFields, host: string): void {
    const made = lines(this.#fields(["Host", host], client.peer, PLACE).slice(2));
    const at = made.indexOf(PLACE);
    client.host = host;
    client.before = made.slice(0, at);
    client.after = `${made.slice(at + 1)}\r\n`;
  }

  #fields(raw: readonly string[], clientAddress: string, requestId: string): string[] {
    const { cookie, trustedHops } = this.#config;
    return requestFields(raw, { to: "application", requestId, httpVersion: "1.1", clientAddress, hop: "", cookieName: cookie.name, trustedHops });
  }

  /** The head of the response as the client gets it. */
  responseText(text: string, head: ResponseHead, id: string, close: boolean): string {
    let fields = this.#fixed + id + this.#positions();
    if (close) fields += "\r\nConnection: close\r\n\r\n";
    else fields += "\r\n\r\n";
    const line = text.charCodeAt(7) === 0x31 ? text.slice(0, head.fieldsFrom) : `HTTP/1.1${text.slice(8, head.fieldsFrom)}`;
    // A body that ends with the connection gets an end that the client can see.
    const coding = head.framing === "close" || (!head.plain && head.framing === "chunked") ? "Transfer-Encoding: chunked\r\n" : "";
    if (head.plain) return line + keptFields(text, head) + coding + fields;
    return `${line}${lines(responseFields(fieldList(text, head.fieldsFrom, head.fieldsEnd), "application", []))}${coding}${fields}`;
  }

  /** A lower bound of what the application can have read. */
  #positions(): string {
    const marks = this.#view.state()?.positions;
    if (marks === undefined || marks.size === 0) return "";
    if (this.#shown.marks !== marks) this.#shown = { marks, text: `\r\n${SLUICE_TXID}: ${formatMarks(marks)}` };
    return this.#shown.text;
  }
}

/** A flat list as lines. */
export function lines(fields: readonly string[]): string {
  let text = "";
  for (let i = 0; i < fields.length; i += 2) text += `${fields[i]}: ${fields[i + 1]}\r\n`;
  return text;
}

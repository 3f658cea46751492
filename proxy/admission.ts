/**
 * Whether a request may come in at all, and what it asks for: path rule, consistency, followers to wait for, positions to see.
 *
 * Always holds: nothing is sent anywhere here; what is refused is refused before a byte of its body is read, with the row of ANSWERS that says why. Positions
 * come from the cookie, else from the table of clients; what is broken in them is ignored.
 */
import type { IncomingMessage } from "node:http";
import type { AnswerCode, AnswerOptions } from "./answer.ts";
import { checkRequest, type CheckedRequest, type Fault } from "./check.ts";
import type { Clients } from "./clients.ts";
import type { ProxyConfig } from "./config.ts";
import { readCookie } from "./cookie.ts";
import { FACT_VALUES, type Facts } from "./decide.ts";
import { peerOf } from "./door.ts";
import type { Exchange } from "./exchange.ts";
import { originalAddress, SLUICE_ACK, SLUICE_CONSISTENCY } from "./headers.ts";
import { countedMarks, type Marks } from "./positions.ts";
import { ruleMatcher, type Rule, type RuleMatcher } from "./rules.ts";

/** What an admitted request asks for. */
export interface Asked {
  readonly checked: CheckedRequest;
  readonly rule: Rule;
  readonly consistency: Facts["consistency"];
  readonly ack: number | undefined;
  readonly clientKey: string | undefined;
  readonly want: Marks | undefined;
}

export interface Refused {
  readonly reason: NonNullable<Exchange["reason"]>;
  readonly code: AnswerCode;
  readonly options: Partial<AnswerOptions>;
}

const STATUS_OF_FAULT: Partial<Record<Fault, number>> = { version: 505, fields: 431 };
const ACK_FIELD = SLUICE_ACK.toLowerCase();
const ACK = /^(?:\d|1[0-6])$/;
const CONSISTENCY_FIELD = SLUICE_CONSISTENCY.toLowerCase();

const refused = (reason: Refused["reason"], code: AnswerCode, options: Partial<AnswerOptions> = {}): Refused => ({ reason, code, options });

export class Admission {
  readonly #config: ProxyConfig;
  readonly #clients: Clients;
  readonly #ruleOf: RuleMatcher;

  constructor(config: ProxyConfig, clients: Clients) {
    this.#config = config;
    this.#clients = clients;
    this.#ruleOf = ruleMatcher(config.rules);
  }

  /** "server": a question about this server as a whole (RFC 9110, section 9.3.7), nothing for the application. */
  admit(request: IncomingMessage): Asked | Refused | "server" {
    const { limits } = this.#config;
    const checked = checkRequest({ method: request.method ?? "", url: request.url ?? "", httpVersion: request.httpVersion, rawHeaders: request.rawHeaders }, limits.headerCount);
    if ("fault" in checked) {
      const status = STATUS_OF_FAULT[checked.fault];
      return refused(checked.fault, "INVALID", { sentence: checked.sentence, close: true, ...(status === undefined ? {} : { status }) });
    }
    if (checked.target === "*") return "server";
    if (checked.body.kind === "length" && checked.body.bytes > limits.bodyBytes) return refused("size", "BODY_LARGE");
    const rule = this.#ruleOf(checked.target);
    if (rule === undefined) return refused("path", "AMBIGUOUS_PATH");
    const asked = request.headers[CONSISTENCY_FIELD];
    if (asked !== undefined && !(FACT_VALUES.consistency as readonly unknown[]).includes(asked)) return refused("consistency", "CONSISTENCY");
    const ack = request.headers[ACK_FIELD];
    if (ack !== undefined && !ACK.test(String(ack))) return refused("ack", "ACK");
    return {
      checked, rule, consistency: asked === undefined ? rule.consistency : (asked as Facts["consistency"]), ack: ack === undefined ? undefined : Number(ack),
      ...this.#wanted(request, rule),
    };
  }

  /** What the client has to see: its cookie says it, else the table of clients. */
  #wanted(request: IncomingMessage, rule: Rule): Pick<Asked, "clientKey" | "want"> {
    if (!this.#clients.cookies || !rule.cookie) return { clientKey: undefined, want: undefined };
    const clientKey = this.#clients.keyOf(request.headers, () => this.addressOf(request));
    const marks = readCookie(request.headers.cookie, this.#config.cookie.name) ?? this.#clients.wanted(clientKey);
    return { clientKey, want: marks === undefined ? undefined : countedMarks(marks, rule.counts) };
  }

  /** The client's address, as far as the proxies before this one are believed. */
  addressOf(request: IncomingMessage): string {
    return originalAddress(request.headers["x-forwarded-for"] as string | undefined, peerOf(request.socket), this.#config.trustedHops);
  }
}

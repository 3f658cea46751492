/**
 * The proxy's own answers: one row each, with status and sentence.
 *
 * Always holds: an answer is plain text, says what happened in one sentence, carries the request id, and is never cached. None of them means that
 * the application ran, except those that say so.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { discardRest } from "./body.ts";
import { SLUICE_REFUSED, SLUICE_REQUEST_ID } from "./headers.ts";
import type { Limits } from "./limits.ts";

interface AnswerRow {
  readonly status: number;
  readonly sentence: string;
  /** Seconds after which trying again makes sense. */
  readonly retryAfter?: number;
}

export const ANSWERS = {
  INVALID: { status: 400, sentence: "The request cannot be understood." },
  AMBIGUOUS_PATH: { status: 400, sentence: "The path can be read in two ways that fall under different rules." },
  BODY_SLOW: { status: 408, sentence: "The request body did not arrive in time." },
  HEAD_SLOW: { status: 408, sentence: "The request did not arrive in time." },
  BODY_LARGE: { status: 413, sentence: "The request body is larger than this node accepts." },
  HEAD_LARGE: { status: 431, sentence: "The request line and header fields are larger than this node accepts." },
  EXPECTATION: { status: 417, sentence: "The only expectation that is understood is 100-continue." },
  CONSISTENCY: { status: 400, sentence: "Sluice-Consistency is none of eventual, session and strong." },
  ACK: { status: 400, sentence: "Sluice-Ack is not a whole number from 0 to 16." },
  CONNECTIONS: { status: 429, sentence: "Too many connections from this address are open.", retryAfter: 5 },
  NO_TUNNELS: { status: 501, sentence: "This node does not open tunnels (CONNECT)." },
  HELD_FULL: { status: 503, sentence: "Too many requests are waiting for a primary already; the request was not executed.", retryAfter: 5 },
  HELD_ENDED: { status: 503, sentence: "The client ended its side of the connection while the request was held; the request was not executed.", retryAfter: 2 },
  REPLAY_LARGE: { status: 502, sentence: "The application wants the request answered by the primary, but its body is longer than what is kept; send it with POST or PUT." },
  TARGET_DOWN: { status: 502, sentence: "The application on this node does not accept connections." },
  TARGET_BROKE: { status: 502, sentence: "The application broke off before it answered; whether it acted on the request is not known." },
  PRIMARY_BROKE: { status: 502, sentence: "The primary broke off before it answered; whether it acted on the request is not known." },
  LEASE_LOST: { status: 502, sentence: "This node lost the lease while the request ran; whether what it wrote is kept is not known." },
  PRIMARY_DOWN: { status: 503, sentence: "The primary does not accept connections; the request was not sent.", retryAfter: 2 },
  NO_PRIMARY: { status: 503, sentence: "No primary is known at the moment; the request was not executed.", retryAfter: 2 },
  NO_ROLE: { status: 503, sentence: "This node does not know its role at the moment; the request was not executed.", retryAfter: 2 },
  NOT_PRIMARY: { status: 503, sentence: "This node is not the primary; the request was not executed.", retryAfter: 1 },
  STOPPING: { status: 503, sentence: "This node is stopping; the request was not executed.", retryAfter: 2 },
  TARGET_SLOW: { status: 504, sentence: "The application did not answer in time." },
  PRIMARY_SLOW: { status: 504, sentence: "The primary did not answer in time." },
  INTERNAL: { status: 500, sentence: "The proxy failed to handle the request." },
} as const satisfies Record<string, AnswerRow>;

export type AnswerCode = keyof typeof ANSWERS;

export interface AnswerOptions {
  readonly id: string;
  /** Replaces the row's sentence and status where more is known. */
  readonly sentence?: string;
  readonly status?: number;
  /** Says that the connection ends: the client waits for "100 Continue" and may or may not send the body now. */
  readonly close?: boolean;
  /** Another node's proxy sent the request. */
  readonly isForwarded?: boolean;
}

/** Sends an answer and takes care of what the client still sends. Does nothing when a head has gone out already. */
export function answer(request: IncomingMessage, response: ServerResponse, limits: Limits, code: AnswerCode, options: AnswerOptions): void {
  if (response.headersSent || response.destroyed) return;
  const row: AnswerRow = ANSWERS[code];
  const body = answerText(code, options);
  const fields = [
    "Content-Type", "text/plain; charset=utf-8", "Content-Length", String(Buffer.byteLength(body)), "Cache-Control", "no-store",
    SLUICE_REQUEST_ID, options.id,
  ];
  if (row.retryAfter !== undefined) fields.push("Retry-After", String(row.retryAfter));
  const refused = REFUSED[code];
  if (refused !== undefined && options.isForwarded === true) fields.push(SLUICE_REFUSED, refused);
  if (options.close === true) response.shouldKeepAlive = false;
  response.writeHead(options.status ?? row.status, fields);
  response.end(request.method === "HEAD" ? undefined : body);
  discardRest(request, limits);
}

/** The same on a bare socket, where there is no response object; the connection ends with it. */
export function answerSocket(socket: Socket, code: AnswerCode, options: AnswerOptions): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const status = options.status ?? ANSWERS[code].status;
  const body = answerText(code, options);
  const { retryAfter }: AnswerRow = ANSWERS[code];
  const refused = options.isForwarded === true ? REFUSED[code] : undefined;
  socket.end(
    `HTTP/1.1 ${status} ${REASON_PHRASES[status] ?? "Error"}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`
    + `Cache-Control: no-store\r\nConnection: close\r\n${retryAfter === undefined ? "" : `Retry-After: ${retryAfter}\r\n`}`
    + `${refused === undefined ? "" : `${SLUICE_REFUSED}: ${refused}\r\n`}${SLUICE_REQUEST_ID}: ${options.id}\r\n\r\n${body}`,
  );
}

/** Answers that tell the node that forwarded the request: it has not been touched, and may be sent again. */
const REFUSED: Partial<Record<AnswerCode, string>> = {
  NOT_PRIMARY: "not-primary", NO_ROLE: "no-role", NO_PRIMARY: "no-primary", HELD_FULL: "full", STOPPING: "stopping",
};

/** Gives a client time to read its answer, and to end its side, before the connection is cut. */
export function linger(socket: Socket, lingerMs: number): void {
  socket.on("error", () => socket.destroy());
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), lingerMs);
  socket.once("close", () => clearTimeout(timer));
}

function answerText(code: AnswerCode, options: AnswerOptions): string {
  return `${options.sentence ?? ANSWERS[code].sentence}\nRequest ${options.id}\n`;
}

const REASON_PHRASES: Readonly<Record<number, string>> = {
  400: "Bad Request", 408: "Request Timeout", 413: "Payload Too Large", 417: "Expectation Failed", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
  500: "Internal Server Error", 505: "HTTP Version Not Supported", 431: "Request Header Fields Too Large", 501: "Not Implemented", 429: "Too Many Requests",
};

/**
 * The responses of the fast path: what an application sends, read just far enough to know where it ends, and passed on as its bytes come.
 *
 * Always holds: a byte is passed on once, in order, and none that lies behind the end of the response; no byte of a response has reached the client
 * when its request is given up. Who is asked, and what comes of an end or a fault, is fast.ts's (`Delivery`).
 */
import { ChunkFollower } from "./fast-chunks.ts";
import { fieldList, INTERIM, readResponseHead, TRAILERS } from "./fast-head.ts";
import type { FastClient, FastUpstream } from "./fast-sockets.ts";
import { lines, type FastTerms } from "./fast-terms.ts";
import { trailerFields } from "./headers.ts";

/** What becomes of a response. The answers say whether to go on reading from the application. */
export interface Delivery {
  /** Connections end with their response. */
  readonly stopping: boolean;
  /** A piece has been passed on, and more is to come. `isTaken`: the client takes more now. */
  goOn(upstream: FastUpstream, client: FastClient, isTaken: boolean): boolean;
  /** All of it has been passed on. `isExact`: nothing came behind it. */
  complete(upstream: FastUpstream, client: FastClient, isExact: boolean): boolean;
  /** It is not for the fast path, and nothing of it has been passed on. */
  giveUp(upstream: FastUpstream, client: FastClient): boolean;
  /** It has begun and cannot be completed. */
  break(client: FastClient, code: string): void;
}

/** As much of a response is made a text to look for the end of its head; all of it if that is not enough. */
const HEAD_BYTES = 1 << 10;
/** Holds what one read can bring, and a head. */
const OUT_BYTES = 80 << 10;
/** How long an application keeps an idle connection that does not say so: Node's own default is 5 s. */
const IDLE_MS = 4_000;
/** Taken off what it says, so that the connection is not used at the moment at which it closes. */
const IDLE_MARGIN_MS = 1_000;

export class FastResponses {
  readonly #delivery: Delivery;
  readonly #terms: FastTerms;
  readonly #headBytesMax: number;
  /** Responses are put together here, and are out before the next one is, unless their client is slow. */
  #out = Buffer.allocUnsafeSlow(OUT_BYTES);

  constructor(delivery: Delivery, terms: FastTerms, headBytesMax: number) {
    this.#delivery = delivery;
    this.#terms = terms;
    this.#headBytesMax = headBytesMax;
  }

  /** Takes the next bytes of the response to `client`. Returns whether to go on reading. */
  read(upstream: FastUpstream, client: FastClient, bytes: Buffer, count: number): boolean {
    switch (upstream.phase) {
      case "head": return this.#readHead(upstream, client, bytes, count);
      case "body": return this.#readBody(upstream, client, bytes, 0, count, "");
      case "trailers": return this.#readTrailers(upstream, client, bytes.toString("latin1", 0, count));
      default: return true;
    }
  }

  #readHead(upstream: FastUpstream, client: FastClient, read: Buffer, count: number): boolean {
    let bytes = read;
    let length = count;
    let text = read.toString("latin1", 0, Math.min(count, HEAD_BYTES));
    if (upstream.partial !== "") {
      text = upstream.partial + read.toString("latin1", 0, count);
      upstream.partial = "";
      bytes = Buffer.from(text, "latin1");
      length = bytes.length;
    }
    let end = text.indexOf("\r\n\r\n");
    if (end < 0 && text.length < length) {
      text = bytes.toString("latin1", 0, length);
      end = text.indexOf("\r\n\r\n");
    }
    if (end < 0 ? text.length > this.#headBytesMax : end > this.#headBytesMax) return this.#delivery.giveUp(upstream, client);
    if (end < 0) {
      upstream.partial = text;
      return true;
    }
    if (text.charCodeAt(9) === 0x31 && INTERIM.test(text.slice(0, end + 2))) return this.#readInterim(upstream, client, text, end, Buffer.from(bytes.subarray(end + 4, length)));
    const head = readResponseHead(text, end, client.head!.method === "HEAD");
    // A replay, or what is not understood: the general path asks again, and knows what to do with it.
    if (head === undefined || head.replay) return this.#delivery.giveUp(upstream, client);
    client.status = head.status;
    client.headMs = performance.now();
    upstream.phase = "body";
    upstream.framing = head.framing;
    upstream.left = head.length;
    upstream.keepAlive = head.keepAlive;
    upstream.idleMs = head.idleSeconds === 0 ? IDLE_MS : Math.max(0, head.idleSeconds * 1_000 - IDLE_MARGIN_MS);
    upstream.chunks = head.framing === "chunked" ? new ChunkFollower() : undefined;
    client.closing = client.head!.close || client.ended || this.#delivery.stopping;
    const out = this.#terms.responseText(text, head, client.id, client.closing);
    return this.#readBody(upstream, client, bytes, end + 4, length, out);
  }

  /** Of the interim responses, Early Hints are for the client; the others concern one connection. */
  #readInterim(upstream: FastUpstream, client: FastClient, text: string, end: number, rest: Buffer): boolean {
    if (text.startsWith("103", 9)) {
      const links = fieldList(text, text.indexOf("\r\n") + 2, end + 2).flatMap((item, index, all) => (index % 2 === 0 && item.toLowerCase() === "link" ? [item, all[index + 1]!] : []));
      if (links.length > 0) client.write(`HTTP/1.1 103 Early Hints\r\n${lines(links)}\r\n`, "latin1");
    }
    return rest.length === 0 || this.#readHead(upstream, client, rest, rest.length);
  }

  /** Passes on `bytes` between `from` and `length`, after `before`, as far as they belong to the body. Returns whether to go on reading. */
  #readBody(upstream: FastUpstream, client: FastClient, bytes: Buffer, from: number, length: number, before: string): boolean {
    switch (upstream.framing) {
      case "none":
        this.#pass(client, before, bytes, 0, 0);
        return this.#delivery.complete(upstream, client, length === from);
      case "length": {
        const to = Math.min(length, from + upstream.left);
        upstream.left -= to - from;
        const isTaken = this.#pass(client, before, bytes, from, to);
        return upstream.left === 0 ? this.#delivery.complete(upstream, client, length === to) : this.#delivery.goOn(upstream, client, isTaken);
      }
      case "chunked": {
        const chunks = upstream.chunks!;
        const to = chunks.read(bytes, from, length);
        const isTaken = this.#pass(client, before, bytes, from, to);
        if (chunks.over) return this.#delivery.complete(upstream, client, length === to);
        if (chunks.trailers) {
          upstream.phase = "trailers";
          return this.#readTrailers(upstream, client, bytes.toString("latin1", to, length));
        }
        if (!chunks.fault) return this.#delivery.goOn(upstream, client, isTaken);
        this.#delivery.break(client, "chunks");
        return true;
      }
      case "close": {
        const text = length === from ? "" : `${(length - from).toString(16)}\r\n${bytes.toString("latin1", from, length)}\r\n`;
        return this.#delivery.goOn(upstream, client, client.write(before + text, "latin1"));
      }
    }
  }

  /** Trailers go on without the fields that frame, route or authenticate. */
  #readTrailers(upstream: FastUpstream, client: FastClient, more: string): boolean {
    const text = (upstream.partial += more);
    const end = text.indexOf("\r\n\r\n");
    if (end < 0 && text.length <= this.#headBytesMax) return true;
    if (end < 0 || !TRAILERS.test(text.slice(0, end + 2))) {
      this.#delivery.break(client, "trailers");
      return true;
    }
    upstream.partial = "";
    client.write(`${lines(trailerFields(fieldList(text, 0, end + 2)).flat())}\r\n`, "latin1");
    return this.#delivery.complete(upstream, client, text.length === end + 4);
  }

  /** Writes `before` and a piece of `bytes` as one. Returns whether the client takes more. */
  #pass(client: FastClient, before: string, bytes: Buffer, from: number, to: number): boolean {
    const size = before.length + to - from;
    // What a slow client has not taken yet must not be written over, and the buffer is too large to be left to it.
    const isShared = size <= OUT_BYTES && client.writableLength === 0;
    const out = isShared ? this.#out : Buffer.allocUnsafeSlow(size);
    out.write(before, "latin1");
    bytes.copy(out, before.length, from, to);
    const isTaken = client.write(size === out.length ? out : out.subarray(0, size));
    if (isShared && client.writableLength > 0) this.#out = Buffer.allocUnsafeSlow(OUT_BYTES);
    return isTaken;
  }
}

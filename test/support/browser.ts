/**
 * A real browser for a test: Chromium without a window, led over its DevTools protocol.
 *
 * Always holds: it has a profile of its own, which goes with it; what a page throws and does not catch is kept in `errors`.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { until } from "./cluster.ts";

export const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => existsSync(path));

interface Answer { readonly id?: number; readonly result?: unknown; readonly error?: { readonly message: string }; readonly method?: string; readonly params?: unknown }

export class Page {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #next = 1;
  readonly errors: string[] = [];

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => {
      const answer = JSON.parse(String(data)) as Answer;
      if (answer.id !== undefined) this.#waiting.get(answer.id)?.(answer);
      else if (answer.method === "Runtime.exceptionThrown") this.errors.push(JSON.stringify(answer.params));
    });
  }

  /** One call of the protocol. */
  async call<T>(method: string, params: object = {}): Promise<T> {
    const id = this.#next++;
    const { promise, resolve } = Promise.withResolvers<Answer>();
    this.#waiting.set(id, resolve);
    this.#socket.send(JSON.stringify({ id, method, params }));
    const { result, error } = await promise;
    this.#waiting.delete(id);
    if (error !== undefined) throw new Error(`${method}: ${error.message}`);
    return result as T;
  }

  /** What an expression gives in the page; a promise is waited for. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.call<{ result: { value: T }; exceptionDetails?: { text: string; exception?: { description?: string } } }>("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  }

  /** Waits until an expression gives something true. Between two documents there is nothing to ask: that counts as not yet. */
  async until<T>(what: string, expression: string): Promise<NonNullable<T>> {
    return until<T | undefined>(what, () => this.evaluate<T>(expression).catch(() => undefined));
  }

  /** Chooses a file in a file input, as a person would. */
  async choose(selector: string, file: string): Promise<void> {
    const { root } = await this.call<{ root: { nodeId: number } }>("DOM.getDocument");
    const { nodeId } = await this.call<{ nodeId: number }>("DOM.querySelector", { nodeId: root.nodeId, selector });
    await this.call("DOM.setFileInputFiles", { nodeId, files: [file] });
  }
}

/** Starts the browser with one page at `url`. */
export async function openPage(t: TestContext, url: string): Promise<Page> {
  const profile = mkdtempSync(join(tmpdir(), "sluice-browser-"));
  const browser = spawn(CHROMIUM!, ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-port=0", `--user-data-dir=${profile}`, "about:blank"], { stdio: ["ignore", "ignore", "pipe"] });
  t.after(async () => {
    if (browser.exitCode === null && browser.signalCode === null) {
      browser.kill("SIGKILL");
      await once(browser, "exit");
    }
    // Its helpers end a moment later and may still write.
    rmSync(profile, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 });
  });
  let said = "";
  browser.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const port = await until("the browser to listen", () => {
    if (browser.exitCode !== null) throw new Error(`the browser ended: ${said}`);
    return /DevTools listening on ws:\/\/127\.0\.0\.1:(\d+)\//.exec(said)?.[1];
  });
  const target = await until("a page", async () => {
    const targets = (await (await fetch(`http://127.0.0.1:${port}/json/list`)).json()) as { type: string; webSocketDebuggerUrl: string }[];
    return targets.find(({ type }) => type === "page");
  });
  const socket = new WebSocket(target.webSocketDebuggerUrl);
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    socket.addEventListener("error", reject);
  });
  t.after(() => socket.close());
  const page = new Page(socket);
  await page.call("Runtime.enable");
  await page.call("Page.enable");
  await page.call("Page.navigate", { url });
  return page;
}

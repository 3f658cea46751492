/**
 * The command line's way to the running node: HTTP on the unix socket in its data folder, else on its `admin` address.
 *
 * Always holds: commands go by the socket only; `status` may go by TCP, because who may not open the data folder may still ask. There is no
 * time limit: an import of a large database takes as long as it takes, and a node that dies closes the connection.
 */
import { request } from "node:http";
import { join } from "node:path";
import { RUN_FILES, splitAddress, type Config } from "./core/config.ts";

/** The node refused, or is not there. Its own code, sentence and hint. */
export class NodeError extends Error {
  readonly code: string;
  readonly hint: string;

  constructor(code: string, message: string, hint: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "NodeError";
    this.code = code;
    this.hint = hint;
  }
}

type Where = { readonly socketPath: string } | { readonly host: string; readonly port: number };

/** Asks and answers the JSON body. Throws a {@link NodeError} when the node does not run, refuses, or ends before it has answered. */
export async function askNode(config: Config, method: "GET" | "POST", path: string, parameters: Readonly<Record<string, string>> = {}): Promise<unknown> {
  const query = new URLSearchParams(parameters).toString();
  const target = query === "" ? path : `${path}?${query}`;
  const socketPath = join(config.data, "run", RUN_FILES.adminSocket);
  try {
    return await ask({ socketPath }, method, target);
  } catch (error) {
    if (error instanceof NodeError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? "";
    const absent = ["ENOENT", "ECONNREFUSED", "ENOTDIR"].includes(code);
    if (method === "GET" && (absent || code === "EACCES")) {
      try {
        return await ask(splitAddress(reachable(config.admin)), method, target);
      } catch (second) {
        if (second instanceof NodeError) throw second;
      }
    }
    if (code === "EACCES") throw new NodeError("NOT_PERMITTED", `Cannot open ${socketPath}: not permitted`, "Run the command as the user that runs the node.", { cause: error });
    if (absent) throw new NodeError("NOT_RUNNING", `The node of ${config.source.file} does not run (nothing answers at ${socketPath})`, "Start it with `sluice mount`, or name its configuration with -c FILE.", { cause: error });
    throw new NodeError("NODE_ENDED", `The node ended before it had answered (${code === "" ? (error as Error).message : code})`, "Its log says why; run the command again once it is back.", { cause: error });
  }
}

function ask(where: Where, method: string, path: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ ...where, method, path, headers: { host: "admin" }, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        try {
          const body = JSON.parse(Buffer.concat(chunks).toString("utf8")) as { error?: { code: string; message: string; hint: string } };
          if (body.error === undefined) resolve(body);
          else reject(new NodeError(body.error.code, body.error.message, body.error.hint));
        } catch {
          reject(new NodeError("NOT_A_NODE", "What answers there is not a node of Sluice", "Check `admin` and `data` in the configuration."));
        }
      });
    });
    outgoing.on("error", reject);
    outgoing.end();
  });
}

/** An address to connect to, for an address to listen on. */
function reachable(address: string): string {
  return address.replace(/^(?:0\.0\.0\.0|\[::\]):/, "127.0.0.1:");
}

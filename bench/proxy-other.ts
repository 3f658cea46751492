/**
 * Node proxies to compare with, each a process of its own: `http-proxy` with a keep-alive agent, and Node's server piped to undici.
 *
 *   node bench/proxy-other.ts app|http-proxy|undici PORT [TARGET_PORT]
 *
 * `app` is the application behind all of them: it answers 1 KiB. Always holds: none of them decides, checks or rewrites anything but what its own
 * library does.
 */
import { createRequire } from "node:module";
import { Agent, createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { Pool } from "undici";

const [kind, port, target] = process.argv.slice(2);
const BODY = Buffer.alloc(1_024, "x");

interface HttpProxy {
  web(request: IncomingMessage, response: ServerResponse): void;
  on(event: "error", listener: (error: Error, request: IncomingMessage, response: ServerResponse) => void): void;
}

function serverOf(): Server {
  switch (kind) {
    case "app":
      return createServer((request, response) => {
        request.resume();
        response.setHeader("Content-Type", "text/plain").setHeader("Content-Length", BODY.length).end(BODY);
      });
    case "http-proxy": {
      const library = createRequire(import.meta.url)("http-proxy") as { createProxyServer(options: object): HttpProxy };
      const proxy = library.createProxyServer({ target: `http://127.0.0.1:${target}`, agent: new Agent({ keepAlive: true }), xfwd: true });
      proxy.on("error", (_error, _request, response) => void response.destroy());
      return createServer((request, response) => proxy.web(request, response));
    }
    case "undici": {
      const pool = new Pool(`http://127.0.0.1:${target}`, { connections: 256, pipelining: 1 });
      return createServer((request, response) => {
        const hasBody = request.method !== "GET" && request.method !== "HEAD";
        const { connection: _connection, ...headers } = request.headers;
        pool.stream({ path: request.url!, method: request.method as "GET", headers, body: hasBody ? request : null }, ({ statusCode, headers: fields }) => {
          delete fields["connection"];
          delete fields["keep-alive"];
          response.writeHead(statusCode, fields as Record<string, string>);
          return response;
        }, () => undefined);
      });
    }
    default:
      throw new Error(`there is no "${kind}"`);
  }
}

const server = serverOf();
server.keepAliveTimeout = 300_000;
server.listen(Number(port), "127.0.0.1");
process.on("disconnect", () => process.exit(0));

/**
 * The process of the http-proxy subject: the package as its own documentation shows it, with kept-alive connections to the back end.
 *
 * It is a process of its own because some cases make the package throw where nobody can catch it; a service would die of that, and is kept alive
 * here so that the other cases are judged too.
 */
import { Agent, createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";

/** The part that is used of a package without types. */
interface HttpProxy {
  web(request: IncomingMessage, response: ServerResponse): void;
  on(event: "error", listener: (error: Error, request: IncomingMessage, response: ServerResponse) => void): void;
}
const { createProxyServer } = createRequire(import.meta.url)("http-proxy") as { createProxyServer(options: object): HttpProxy };

const agent = new Agent({ keepAlive: true, maxSockets: 1 });
const proxy = createProxyServer({ target: { host: "127.0.0.1", port: Number(process.argv[2]) }, agent });
proxy.on("error", (_error, _request, response) => response.destroy());
const server = createServer((request, response) => proxy.web(request, response));
server.listen(0, "127.0.0.1", () => process.send!({ port: (server.address() as AddressInfo).port }));
process.on("uncaughtException", () => process.send!({ thrown: true }));
process.on("disconnect", () => process.exit(0));

/**
 * The socket of `proxy.listen`: made before anything is mounted, so that a port that cannot be had ends the start.
 *
 * Always holds: a failure is a configuration error that names the key; nothing is left open then.
 */
import { lookup } from "node:dns/promises";
import { AppError } from "../../proto/errors.ts";
import { splitAddress } from "../core/config.ts";
import { bindTcp } from "../native/tcp-socket.ts";

/** The descriptor of the bound socket; the caller closes it. Throws CONFIG_INVALID. */
export async function bindProxySocket(listen: string): Promise<number> {
  const { host, port } = splitAddress(listen);
  try {
    return bindTcp((await lookup(host)).address, port);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new AppError("CONFIG_INVALID", ["proxy.listen", `cannot listen on ${listen}: ${code === "EADDRINUSE" ? "the port is in use" : message}`], { cause: error });
  }
}

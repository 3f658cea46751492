/**
 * The delaying relay of the fault tests in front of a server, with its delay in the hands of a test.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { freePorts } from "./servers.ts";

export interface SlowRelay {
  readonly port: number;
  setDelay(ms: number): Promise<void>;
  end(): void;
}

export async function slowRelay(target: number): Promise<SlowRelay> {
  const [port] = await freePorts(1);
  const child = fork(new URL("../faults/delay-relay.ts", import.meta.url), [`127.0.0.1:${port!}=127.0.0.1:${target}`], { execArgv: ["--no-warnings"] });
  await once(child, "message");
  return {
    port: port!,
    async setDelay(delayMs) {
      const done = once(child, "message");
      child.send({ delayMs });
      await done;
    },
    end: () => void child.kill("SIGKILL"),
  };
}

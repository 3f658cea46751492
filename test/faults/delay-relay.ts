/**
 * A TCP relay that delays: a process in the namespace of a node, in front of what other nodes reach of it.
 *
 * Arguments: pairs of `listen=target` ("10.0.0.1:7001=127.0.0.1:7001"). `{delayMs}` by IPC sets the delay of every piece of data, each way.
 * Always holds: pieces of one direction keep their order, also when the delay becomes shorter; an end of either side ends the other.
 */
import { connect, createServer, type Socket } from "node:net";

let delayMs = 0;
process.on("message", (message: { delayMs: number }) => {
  ({ delayMs } = message);
  process.send!({ done: delayMs });
});
process.on("disconnect", () => process.exit(0));

function carry(from: Socket, to: Socket): void {
  const queue: { readonly at: number; readonly work: () => void }[] = [];
  let timer: NodeJS.Timeout | undefined;
  const pump = (): void => {
    timer = undefined;
    while (queue.length > 0 && queue[0]!.at <= performance.now()) queue.shift()!.work();
    if (queue.length > 0) timer = setTimeout(pump, Math.max(1, queue[0]!.at - performance.now()));
  };
  const later = (work: () => void): void => {
    queue.push({ at: performance.now() + delayMs, work });
    if (timer === undefined) pump();
  };
  from.on("data", (data) => later(() => {
    if (to.write(data)) return;
    from.pause();
    to.once("drain", () => from.resume());
  }));
  from.on("end", () => later(() => to.end()));
  from.on("error", () => later(() => to.destroy()));
}

const split = (text: string): { host: string; port: number } => ({ host: text.slice(0, text.lastIndexOf(":")), port: Number(text.slice(text.lastIndexOf(":") + 1)) });

let listening = 0;
const pairs = process.argv.slice(2).map((pair) => pair.split("=") as [string, string]);
for (const [listen, target] of pairs) {
  createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    const far = connect({ ...split(target), noDelay: true, allowHalfOpen: true });
    carry(near, far);
    carry(far, near);
  }).listen(split(listen), () => {
    if (++listening === pairs.length) process.send!({ ready: true });
  });
}

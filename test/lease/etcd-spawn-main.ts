/**
 * What a guardian does with the etcd of its node, alone. Argument: name and lease of the configuration as JSON. Ends at SIGTERM.
 */
import type { Config } from "../../node/core/config.ts";
import { superviseEtcd } from "../../node/guardian/etcd-child.ts";

const say = (fields: object, text: string): void => void process.stdout.write(`${JSON.stringify({ ...fields, text })}\n`);
const etcd = superviseEtcd(JSON.parse(process.argv[2]!) as Config, { info: say, warn: say, error: say })!;
etcd.start();
const alive = setInterval(() => undefined, 1_000);
process.on("SIGTERM", () => void etcd.end("SIGTERM", 10_000).then(() => clearInterval(alive)));

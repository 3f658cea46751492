/**
 * The entry of the `sluice` command. Everything it can do is in cli.ts; here it only meets the process.
 */
import { runCli } from "./cli.ts";

process.exitCode = await runCli(process.argv.slice(2), {
  out: (text) => void process.stdout.write(`${text}\n`),
  err: (text) => void process.stderr.write(`${text}\n`),
});

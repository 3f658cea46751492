/** The version of this release, from package.json, which lies one level higher when the built files run. */
import { existsSync, readFileSync } from "node:fs";

function read(): string {
  for (const place of ["../package.json", "../../package.json"]) {
    const url = new URL(place, import.meta.url);
    if (existsSync(url)) return (JSON.parse(readFileSync(url, "utf8")) as { version: string }).version;
  }
  return "unknown";
}

export const VERSION: string = read();

/**
 * The types of the configuration's values, as schemas: what the parsers of units.ts accept, and what a text must look like.
 *
 * Always holds: the message of an issue is its reason and its remedy, parted by {@link SPLIT}.
 */
import { z } from "zod";
import { isRefusal, parseAddress, parseDuration, type Parsed } from "./units.ts";

/** Separates reason and remedy in the message of a schema issue: a character that no sentence contains. */
export const SPLIT = "\u0000";

/** A schema from a parser of units.ts. */
export function parsed<T>(parse: (value: unknown) => Parsed<T>): z.ZodPipe<z.ZodUnknown, z.ZodTransform<T, unknown>> {
  return z.unknown().transform((value, context): T => {
    const result = parse(value);
    if (!isRefusal(result)) return result.value;
    context.issues.push({ code: "custom", input: value, message: `${result.reason}${SPLIT}${result.remedy}` });
    return z.NEVER;
  });
}

export const matching = (pattern: RegExp, reason: string, remedy: string) => z.string().regex(pattern, `${reason}${SPLIT}${remedy}`);

export const HOUR_MS = 3_600_000;

export const listenAddress = parsed((value) => parseAddress(value, { reachable: false }));
export const reachableAddress = parsed((value) => parseAddress(value, { reachable: true }));
export const duration = (minMs: number, maxMs: number) => parsed((value) => parseDuration(value, { minMs, maxMs }));
export const folder = matching(/^[^\0]+$/, "it is empty", "give the path of a folder");
export const file = matching(/^[^\0]+$/, "it is empty", "give the path of a file");
export const oneOf = <const T extends readonly string[]>(values: T) => z.enum(values);

/** The texts that come from variables are always texts. */
export const flag = z.union([z.boolean(), z.enum(["true", "false"]).transform((text) => text === "true")]);

/**
 * Programmer errors. What can happen in the world is an AppError and is handled; what can only be a bug is an assert: it stays on, and it
 * stops the process, because a node that has lost track of its own state must not go on answering.
 */
export class AssertionError extends Error {
  override name = "AssertionError";
}

export function assert(condition: unknown, message = "assertion failed"): asserts condition {
  if (condition === false || condition === undefined || condition === null || condition === 0 || condition === "") throw new AssertionError(message);
}

/** The end of an exhaustive switch. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`);
}

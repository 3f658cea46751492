/**
 * Large buffers that were used once are taken away early.
 *
 * Always holds: a collection comes at most once in EVERY_BYTES of what passed. V8 sees only the small objects that stand for such buffers and
 * lets some 60 MiB of them gather before it looks; a young generation of 2 MiB is looked through in less than a millisecond.
 */

const EVERY_BYTES = 8 << 20;

/** There where the process runs with --expose-gc, as the engine does. */
const collect = (globalThis as { gc?: (options: { type: "minor" }) => void }).gc;
let passed = 0;

/** So many bytes went by in buffers of their own. */
export function passedBy(bytes: number): void {
  passed += bytes;
  if (passed < EVERY_BYTES) return;
  passed = 0;
  collect?.({ type: "minor" });
}

/**
 * Keeps paths true while a directory is renamed: an operation that waits for a hook knows its file by path, and a rename above it would
 * make that path a lie.
 *
 * Always holds: no operation runs on a path below a directory that is being moved, and no directory moves while an operation runs below
 * it or below its target. An operation that waited goes on under its new path. One directory moves at a time.
 */
import { isUnder } from "./policy.ts";

/** Anything with paths that may be corrected. */
export interface Operation {
  path: string | undefined;
  /** Where a rename leads. */
  to?: string | undefined;
}

interface Move {
  readonly from: string;
  readonly to: string;
}

export class Moves {
  readonly #active = new Set<Operation>();
  readonly #waiting = new Set<Operation>();
  #move: Move | undefined;
  #wake: (() => void)[] = [];

  /** Begins an operation; a promise only when it must wait. Ended by leave(). */
  enter(operation: Operation): Promise<void> | undefined {
    if (this.#move === undefined || !touches(operation, this.#move)) {
      this.#active.add(operation);
      return undefined;
    }
    return this.#enterLater(operation);
  }

  async #enterLater(operation: Operation): Promise<void> {
    this.#waiting.add(operation);
    while (this.#move !== undefined && touches(operation, this.#move)) await this.#change();
    this.#waiting.delete(operation);
    this.#active.add(operation);
  }

  leave(operation: Operation): void {
    this.#active.delete(operation);
    this.#changed();
  }

  /** Begins the move of a directory: waits until nothing runs below either path, and keeps it so until end(). It is corrected like any other while it waits. */
  async begin(operation: Operation & { path: string; to: string }): Promise<void> {
    this.#waiting.add(operation);
    while (this.#move !== undefined) await this.#change();
    this.#waiting.delete(operation);
    const move = { from: operation.path, to: operation.to };
    this.#move = move;
    while ([...this.#active].some((active) => touches(active, move))) await this.#change();
  }

  /** Ends the move; `moved` says whether it happened. */
  end(moved: boolean): void {
    const move = this.#move;
    this.#move = undefined;
    if (moved && move !== undefined) {
      for (const waiting of this.#waiting) {
        if (waiting.path !== undefined) waiting.path = afterMove(waiting.path, move);
        if (waiting.to !== undefined) waiting.to = afterMove(waiting.to, move);
      }
    }
    this.#changed();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  #changed(): void {
    const wake = this.#wake;
    if (wake.length === 0) return;
    this.#wake = [];
    for (const resolve of wake) resolve();
  }
}

function touches(operation: Operation, move: Move): boolean {
  return [operation.path, operation.to].some((path) => path !== undefined && (isUnder(path, move.from) || isUnder(path, move.to)));
}

/** A path as it reads once the move has happened. */
function afterMove(path: string, move: Move): string {
  return isUnder(path, move.from) ? move.to + path.slice(move.from.length) : path;
}

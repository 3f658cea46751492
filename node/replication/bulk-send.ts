/**
 * The pages of a snapshot over a bulk connection, as fast as the follower takes them.
 *
 * Always holds: at most SLOTS runs are in memory, whatever the follower does; each page travels with the checksum that the log knew after the page
 * was read. Errors and a cancelled call end the connection.
 */
import fs from "node:fs";
import { once } from "node:events";
import type { Socket } from "node:net";
import { BulkArena, SLOT_BYTES, SLOTS } from "../core/bulk-arena.ts";
import { openToReadOnce } from "../store/direct-file.ts";
import type { SnapshotSource } from "../store/snapshot-source.ts";
import { RUN_BYTES, decodeMissing, encodeRunHead } from "../../proto/bulk-frames.ts";
import { AppError } from "../../proto/errors.ts";

/** Runs that are being read at once, while others wait for the follower. */
const READS = 2;
const MISSING_BYTES_MAX = 64 << 20;

/** Sends all pages from `fromPage` on; resolves with the numbers of those that the follower could not take. */
export async function sendPages(socket: Socket, source: SnapshotSource, fromPage: number): Promise<readonly number[]> {
  const failed = new Promise<never>((_, reject) => {
    socket.on("error", reject);
    socket.on("close", () => reject(new AppError("NODE_UNAVAILABLE", ["the follower", "its bulk connection ended"])));
  });
  failed.catch(() => undefined);
  const arena = new BulkArena();
  const fd = openToReadOnce("snapshot:read", source.path, source.pageSize, arena.memory);
  const reads = new Set<Promise<unknown>>();
  try {
    const free: Buffer[] = Array.from({ length: SLOTS }, (_, slot) => arena.memory.subarray(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES));
    let released = Promise.withResolvers<void>();
    const take = async (): Promise<Buffer> => {
      for (;;) {
        const buffer = free.pop();
        if (buffer !== undefined) return buffer;
        await Promise.race([released.promise, failed]);
        released = Promise.withResolvers<void>();
      }
    };
    const read = async (run: { readonly first: number; readonly count: number }) => {
      const buffer = await take();
      return { run, buffer, sums: await source.readUnproven(fd, run, buffer) };
    };
    const runs = source.runs(fromPage, RUN_BYTES);
    const ahead: ReturnType<typeof read>[] = [];
    const readOn = (): void => {
      const run = runs.next().value;
      if (run === undefined) return;
      const reading = read(run);
      ahead.push(reading);
      reads.add(reading);
      reading.catch(() => undefined).finally(() => reads.delete(reading));
    };
    const answered = answer(socket, source.pageCount);
    answered.catch(() => undefined);
    for (let i = 0; i < READS; i++) readOn();
    for (let next = ahead.shift(); next !== undefined; next = ahead.shift()) {
      const { run, buffer, sums } = await Promise.race([next, failed]);
      readOn();
      socket.cork();
      socket.write(encodeRunHead(run.first, run.count));
      socket.write(sums);
      socket.write(buffer.subarray(0, run.count * source.pageSize), () => {
        free.push(buffer);
        released.resolve();
      });
      socket.uncork();
    }
    socket.write(encodeRunHead(0, 0));
    return await Promise.race([answered, failed]);
  } finally {
    await Promise.allSettled(reads);
    fs.closeSync(fd);
    socket.destroy();
  }
}

/** What the follower says at the end. */
async function answer(socket: Socket, pageCount: number): Promise<number[]> {
  let bytes = Buffer.alloc(0);
  for (;;) {
    const more = socket.read() as Buffer | null;
    if (more === null) {
      await once(socket, "readable");
      if (socket.readableEnded || socket.destroyed) throw new AppError("NODE_UNAVAILABLE", ["the follower", "its bulk connection ended"]);
      continue;
    }
    bytes = Buffer.concat([bytes, more as Buffer<ArrayBuffer>]);
    if (bytes.length > MISSING_BYTES_MAX) throw new AppError("INVALID_MESSAGE", ["bulk connection", "its end is too long"]);
    try {
      const numbers = decodeMissing(bytes, pageCount);
      if (numbers !== undefined) return numbers;
    } catch (error) {
      throw new AppError("INVALID_MESSAGE", ["bulk connection", (error as Error).message], { cause: error });
    }
  }
}

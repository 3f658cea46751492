/**
 * Brings a follower that has diverged to the primary's state by the pages that differ: the cheap way, before a whole snapshot.
 *
 * It is a snapshot that is resumed at the common ancestor: the primary sends the pages that the diverged transactions changed, and its own
 * transactions after the ancestor. Always holds: false means that nothing was changed and a whole snapshot must do it; the result is verified before
 * readers see it.
 */
import type * as grpc from "@grpc/grpc-js";
import type { EpochHistory } from "../store/epoch-history.ts";
import type { DivergedPages } from "../store/diverged-writer.ts";
import type { Follower } from "../store/follower.ts";
import { RewindTarget } from "../store/rewind-target.ts";
import { AppError, isAppError } from "../../proto/errors.ts";
import { fromWire, toWire, type WirePosition } from "../../proto/grpc.ts";
import type { SnapshotChunk__Output } from "../../proto/gen/sluice/v1/SnapshotChunk.ts";
import type { SnapshotPages__Output } from "../../proto/gen/sluice/v1/SnapshotPages.ts";
import type { SnapshotRequest } from "../../proto/gen/sluice/v1/SnapshotRequest.ts";

/** More changed pages than this share of the database are no cheaper than all. */
const SHARE_MAX = 0.5;

export interface RewindRequest {
  readonly follower: Follower;
  readonly ancestor: { readonly epoch: number; readonly txid: number };
  readonly pages: DivergedPages;
  readonly history: EpochHistory;
  ask(request: Omit<SnapshotRequest, "hello">): grpc.ClientReadableStream<SnapshotChunk__Output>;
}

/** The numbers of the pages in a message: listed, or consecutive from the first. */
export function pageNumbers(pages: SnapshotPages__Output, pageSize: number): readonly number[] {
  return pages.numbers.length > 0 ? pages.numbers : Array.from({ length: pages.data.length / pageSize }, (_, index) => pages.firstPage + index);
}

/** How many pages came; undefined when a whole snapshot is needed. Rejects when the primary cannot be reached or the disk is full. */
export async function rewind({ follower, ancestor, pages, history, ask }: RewindRequest): Promise<number | undefined> {
  const { database, replica } = follower;
  if (replica === undefined || database.distrust !== undefined || pages.numbers.length > database.sums.pageCount * SHARE_MAX + 16) return undefined;
  const target = new RewindTarget(database);
  const call = ask({
    database: database.name, fromPage: pages.smallest + 1, resumeBase: toWire(database.name, { ...ancestor, checksum: 0n }),
    pages: pages.numbers.filter((pgno) => pgno <= pages.smallest),
  });
  let pageCount = 0;
  let pieces: Buffer[] = [];
  try {
    for await (const chunk of call as AsyncIterable<SnapshotChunk__Output>) {
      if (chunk.begin !== null && chunk.begin !== undefined) {
        const { begin } = chunk;
        // It begins somewhere else where its log does not lead on from the ancestor.
        if (begin.base?.txid !== ancestor.txid || begin.fromPage !== pages.smallest + 1 || begin.pageSize !== database.pageSize || begin.pageCount === 0) return undefined;
        ({ pageCount } = begin);
      } else if (pageCount === 0) {
        throw new AppError("INVALID_MESSAGE", ["SnapshotChunk", "pages before the beginning"]);
      } else if (chunk.pages !== null && chunk.pages !== undefined) {
        target.addPages(pageNumbers(chunk.pages, target.pageSize), chunk.pages.data);
      } else if (chunk.transactions !== null && chunk.transactions !== undefined) {
        pieces.push(chunk.transactions.data);
        if (!chunk.transactions.last) continue;
        target.addTransaction(Buffer.concat(pieces));
        pieces = [];
      } else if (chunk.end !== null && chunk.end !== undefined) {
        const position = fromWire(chunk.end.end as WirePosition);
        target.finish(position, pageCount);
        if (target.sums.pageCount === 0) return undefined;
        await follower.installRewind({ position, sums: target.sums, history, keepLogTo: ancestor.txid, copy: (pgno, offset) => target.copy(pgno, offset) });
        return target.pages;
      }
    }
    throw new AppError("NODE_UNAVAILABLE", ["the primary", "the snapshot ended early"]);
  } catch (error) {
    if (isAppError(error, "INVALID_MESSAGE") || isAppError(error, "CORRUPT_FILE")) return undefined;
    throw error;
  } finally {
    call.cancel();
    target.close();
  }
}

/**
 * Every bound of the node, by name and unit. Relations between them are asserted below, where they can be read beside the numbers.
 */
import { assert } from "./assert.ts";

/** A newest transaction of a database of up to so many bytes is kept in memory. */
export const LOG_NEWEST_BYTES_MAX = 256 << 10;
/** Transaction files up to this size share a segment of the log; larger ones have a file of their own at once. */
export const SEGMENT_RECORD_BYTES_MAX = 256 << 10;
/** A segment that has grown beyond this takes no more. */
export const SEGMENT_BYTES_MAX = 4 << 20;
/** A transaction file larger than this is written and read in pieces, never held whole. */
export const LOG_MEMORY_BYTES_MAX = 4 << 20;
/** Bytes that may wait in one follower's stream before its transactions are read from the log instead. */
export const FOLLOWER_QUEUE_BYTES_MAX = 4 << 20;
/** Piece of an LTX file in one message. */
export const STREAM_PIECE_BYTES = 256 << 10;
/** A change of more pages than this is not put in the log; followers take a snapshot. Bytes. */
export const DIFF_LOG_BYTES_MAX = 256 << 20;
/** An import of more bytes than this is a break in the log. */
export const IMPORT_LOG_BYTES_MAX = 16 << 20;
/**
 * A follower's WAL of so many bytes starts a checkpoint, of two fdatasyncs: on a disk that it shares with a primary each makes the writers there
 * wait for the journal of the file system. SQLite's default is a quarter of it with pages of 4 KiB; a reader looks pages up in one hash table.
 */
export const REPLICA_CHECKPOINT_BYTES = 16 << 20;
/** But not before so many frames: SQLite's own default. */
export const REPLICA_CHECKPOINT_FRAMES_MIN = 1000;
/** Polls of a busy WAL without news after which the watch is set again. */
export const CAPTURE_QUIET_POLLS = 8;
/** How often the sidecar of page checksums is brought up to date, in ms. */
export const SIDECAR_INTERVAL_MS = 5_000;
/** So many small neighbouring files of the log are merged into one. */
export const COMPACT_FILES = 32;
/** Transaction files up to this size are merged with their neighbours; larger ones stay as they are until retention removes them. */
export const COMPACT_RECORD_BYTES_MAX = 64 << 10;
/** At most this many are merged at once: a merge holds up everything else, some 2 ms for so many small transactions. */
export const COMPACT_FILES_MAX = 32;
/** Largest merged file, in bytes. */
export const COMPACT_BYTES_MAX = 8 << 20;

assert(SEGMENT_RECORD_BYTES_MAX <= STREAM_PIECE_BYTES, "what is sent in pieces has a file of its own");
assert(COMPACT_RECORD_BYTES_MAX <= SEGMENT_RECORD_BYTES_MAX);
assert(COMPACT_FILES <= COMPACT_FILES_MAX);
assert(STREAM_PIECE_BYTES <= FOLLOWER_QUEUE_BYTES_MAX);

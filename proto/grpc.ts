/**
 * The two gRPC services as checked types, and the channel settings that both ends use.
 *
 * Always holds: 64-bit numbers arrive as JavaScript numbers (positions stay below 2^53), bytes as Buffers, absent messages as null.
 * The .proto files are the source; `make gen` writes the types, a test compares them with the .proto files.
 */
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import type { Position } from "./position.ts";

/** Raised with every change that an older node would misread. A peer with another number is refused by name. */
export const PROTOCOL_VERSION = 3;

/** gRPC carries 64 KiB to 1 MiB messages fastest; the default 64 KiB HTTP/2 window would cost a round trip for each. */
export const CHANNEL_OPTIONS: grpc.ChannelOptions = {
  "grpc.max_receive_message_length": 8 << 20,
  "grpc.max_send_message_length": -1,
  "grpc-node.flow_control_window": 16 << 20,
  "grpc.keepalive_time_ms": 5_000,
  "grpc.keepalive_timeout_ms": 5_000,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 2_000,
};

const packageObject = grpc.loadPackageDefinition(
  loadSync(["replication.proto", "cluster.proto"].map((name) => fileURLToPath(new URL(name, import.meta.url))), {
    includeDirs: [fileURLToPath(new URL(".", import.meta.url))],
    keepCase: false, longs: Number, enums: String, defaults: true, arrays: true, oneofs: true,
  }),
) as unknown as { sluice: { v1: { Replication: grpc.ServiceClientConstructor; Cluster: grpc.ServiceClientConstructor } } };

export const ReplicationService = packageObject.sluice.v1.Replication;
{
  // Pages of snapshots come as bytes already: see snapshot-pages.ts.
  const snapshot = ReplicationService.service["Snapshot"]! as { responseSerialize: (chunk: unknown) => Buffer };
  const encode = snapshot.responseSerialize;
  snapshot.responseSerialize = (chunk) => (Buffer.isBuffer(chunk) ? chunk : encode(chunk));
}
export const ClusterService = packageObject.sluice.v1.Cluster;

export interface WirePosition { database: string; epoch: number; txid: number; checksum: Buffer }

export function toWire(database: string, position: Position): WirePosition {
  const checksum = Buffer.allocUnsafe(8);
  checksum.writeBigUInt64BE(position.checksum);
  return { database, epoch: position.epoch, txid: position.txid, checksum };
}

/** The position of a message; a checksum of another length than 8 bytes reads as 0. */
export function fromWire(wire: WirePosition): Position {
  return { epoch: wire.epoch, txid: wire.txid, checksum: wire.checksum.length === 8 ? wire.checksum.readBigUInt64BE(0) : 0n };
}

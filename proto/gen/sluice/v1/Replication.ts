// Original file: proto/replication.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { FetchRequest as _sluice_v1_FetchRequest, FetchRequest__Output as _sluice_v1_FetchRequest__Output } from '../../sluice/v1/FetchRequest.ts';
import type { FollowDown as _sluice_v1_FollowDown, FollowDown__Output as _sluice_v1_FollowDown__Output } from '../../sluice/v1/FollowDown.ts';
import type { FollowUp as _sluice_v1_FollowUp, FollowUp__Output as _sluice_v1_FollowUp__Output } from '../../sluice/v1/FollowUp.ts';
import type { HandoffReply as _sluice_v1_HandoffReply, HandoffReply__Output as _sluice_v1_HandoffReply__Output } from '../../sluice/v1/HandoffReply.ts';
import type { HandoffRequest as _sluice_v1_HandoffRequest, HandoffRequest__Output as _sluice_v1_HandoffRequest__Output } from '../../sluice/v1/HandoffRequest.ts';
import type { NodeStanding as _sluice_v1_NodeStanding, NodeStanding__Output as _sluice_v1_NodeStanding__Output } from '../../sluice/v1/NodeStanding.ts';
import type { Positions as _sluice_v1_Positions, Positions__Output as _sluice_v1_Positions__Output } from '../../sluice/v1/Positions.ts';
import type { PositionsRequest as _sluice_v1_PositionsRequest, PositionsRequest__Output as _sluice_v1_PositionsRequest__Output } from '../../sluice/v1/PositionsRequest.ts';
import type { SnapshotChunk as _sluice_v1_SnapshotChunk, SnapshotChunk__Output as _sluice_v1_SnapshotChunk__Output } from '../../sluice/v1/SnapshotChunk.ts';
import type { SnapshotRequest as _sluice_v1_SnapshotRequest, SnapshotRequest__Output as _sluice_v1_SnapshotRequest__Output } from '../../sluice/v1/SnapshotRequest.ts';
import type { StandingRequest as _sluice_v1_StandingRequest, StandingRequest__Output as _sluice_v1_StandingRequest__Output } from '../../sluice/v1/StandingRequest.ts';
import type { Transactions as _sluice_v1_Transactions, Transactions__Output as _sluice_v1_Transactions__Output } from '../../sluice/v1/Transactions.ts';

export interface ReplicationClient extends grpc.Client {
  Fetch(argument: _sluice_v1_FetchRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_sluice_v1_Transactions__Output>;
  Fetch(argument: _sluice_v1_FetchRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_sluice_v1_Transactions__Output>;
  fetch(argument: _sluice_v1_FetchRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_sluice_v1_Transactions__Output>;
  fetch(argument: _sluice_v1_FetchRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_sluice_v1_Transactions__Output>;
  
  Follow(metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientDuplexStream<_sluice_v1_FollowUp, _sluice_v1_FollowDown__Output>;
  Follow(options?: grpc.CallOptions): grpc.ClientDuplexStream<_sluice_v1_FollowUp, _sluice_v1_FollowDown__Output>;
  follow(metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientDuplexStream<_sluice_v1_FollowUp, _sluice_v1_FollowDown__Output>;
  follow(options?: grpc.CallOptions): grpc.ClientDuplexStream<_sluice_v1_FollowUp, _sluice_v1_FollowDown__Output>;
  
  Handoff(argument: _sluice_v1_HandoffRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_HandoffReply__Output>): grpc.ClientUnaryCall;
  Handoff(argument: _sluice_v1_HandoffRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_sluice_v1_HandoffReply__Output>): grpc.ClientUnaryCall;
  Handoff(argument: _sluice_v1_HandoffRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_HandoffReply__Output>): grpc.ClientUnaryCall;
  Handoff(argument: _sluice_v1_HandoffRequest, callback: grpc.requestCallback<_sluice_v1_HandoffReply__Output>): grpc.ClientUnaryCall;
  handoff(argument: _sluice_v1_HandoffRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_HandoffReply__Output>): grpc.ClientUnaryCall;
  handoff(argument: _sluice_v1_HandoffRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_sluice_v1_HandoffReply__Output>): grpc.ClientUnaryCall;
  handoff(argument: _sluice_v1_HandoffRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_HandoffReply__Output>): grpc.ClientUnaryCall;
  handoff(argument: _sluice_v1_HandoffRequest, callback: grpc.requestCallback<_sluice_v1_HandoffReply__Output>): grpc.ClientUnaryCall;
  
  Positions(argument: _sluice_v1_PositionsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  Positions(argument: _sluice_v1_PositionsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  Positions(argument: _sluice_v1_PositionsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  Positions(argument: _sluice_v1_PositionsRequest, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  positions(argument: _sluice_v1_PositionsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  positions(argument: _sluice_v1_PositionsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  positions(argument: _sluice_v1_PositionsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  positions(argument: _sluice_v1_PositionsRequest, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  
  Snapshot(argument: _sluice_v1_SnapshotRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_sluice_v1_SnapshotChunk__Output>;
  Snapshot(argument: _sluice_v1_SnapshotRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_sluice_v1_SnapshotChunk__Output>;
  snapshot(argument: _sluice_v1_SnapshotRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_sluice_v1_SnapshotChunk__Output>;
  snapshot(argument: _sluice_v1_SnapshotRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_sluice_v1_SnapshotChunk__Output>;
  
  Standing(argument: _sluice_v1_StandingRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_NodeStanding__Output>): grpc.ClientUnaryCall;
  Standing(argument: _sluice_v1_StandingRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_sluice_v1_NodeStanding__Output>): grpc.ClientUnaryCall;
  Standing(argument: _sluice_v1_StandingRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_NodeStanding__Output>): grpc.ClientUnaryCall;
  Standing(argument: _sluice_v1_StandingRequest, callback: grpc.requestCallback<_sluice_v1_NodeStanding__Output>): grpc.ClientUnaryCall;
  standing(argument: _sluice_v1_StandingRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_NodeStanding__Output>): grpc.ClientUnaryCall;
  standing(argument: _sluice_v1_StandingRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_sluice_v1_NodeStanding__Output>): grpc.ClientUnaryCall;
  standing(argument: _sluice_v1_StandingRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_NodeStanding__Output>): grpc.ClientUnaryCall;
  standing(argument: _sluice_v1_StandingRequest, callback: grpc.requestCallback<_sluice_v1_NodeStanding__Output>): grpc.ClientUnaryCall;
  
}

export interface ReplicationHandlers extends grpc.UntypedServiceImplementation {
  Fetch: grpc.handleServerStreamingCall<_sluice_v1_FetchRequest__Output, _sluice_v1_Transactions>;
  
  Follow: grpc.handleBidiStreamingCall<_sluice_v1_FollowUp__Output, _sluice_v1_FollowDown>;
  
  Handoff: grpc.handleUnaryCall<_sluice_v1_HandoffRequest__Output, _sluice_v1_HandoffReply>;
  
  Positions: grpc.handleUnaryCall<_sluice_v1_PositionsRequest__Output, _sluice_v1_Positions>;
  
  Snapshot: grpc.handleServerStreamingCall<_sluice_v1_SnapshotRequest__Output, _sluice_v1_SnapshotChunk>;
  
  Standing: grpc.handleUnaryCall<_sluice_v1_StandingRequest__Output, _sluice_v1_NodeStanding>;
  
}

export interface ReplicationDefinition extends grpc.ServiceDefinition {
  Fetch: MethodDefinition<_sluice_v1_FetchRequest, _sluice_v1_Transactions, _sluice_v1_FetchRequest__Output, _sluice_v1_Transactions__Output>
  Follow: MethodDefinition<_sluice_v1_FollowUp, _sluice_v1_FollowDown, _sluice_v1_FollowUp__Output, _sluice_v1_FollowDown__Output>
  Handoff: MethodDefinition<_sluice_v1_HandoffRequest, _sluice_v1_HandoffReply, _sluice_v1_HandoffRequest__Output, _sluice_v1_HandoffReply__Output>
  Positions: MethodDefinition<_sluice_v1_PositionsRequest, _sluice_v1_Positions, _sluice_v1_PositionsRequest__Output, _sluice_v1_Positions__Output>
  Snapshot: MethodDefinition<_sluice_v1_SnapshotRequest, _sluice_v1_SnapshotChunk, _sluice_v1_SnapshotRequest__Output, _sluice_v1_SnapshotChunk__Output>
  Standing: MethodDefinition<_sluice_v1_StandingRequest, _sluice_v1_NodeStanding, _sluice_v1_StandingRequest__Output, _sluice_v1_NodeStanding__Output>
}

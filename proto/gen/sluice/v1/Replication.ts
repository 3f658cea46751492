// Original file: proto/replication.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { FollowDown as _sluice_v1_FollowDown, FollowDown__Output as _sluice_v1_FollowDown__Output } from '../../sluice/v1/FollowDown.ts';
import type { FollowUp as _sluice_v1_FollowUp, FollowUp__Output as _sluice_v1_FollowUp__Output } from '../../sluice/v1/FollowUp.ts';
import type { Positions as _sluice_v1_Positions, Positions__Output as _sluice_v1_Positions__Output } from '../../sluice/v1/Positions.ts';
import type { PositionsRequest as _sluice_v1_PositionsRequest, PositionsRequest__Output as _sluice_v1_PositionsRequest__Output } from '../../sluice/v1/PositionsRequest.ts';
import type { SnapshotChunk as _sluice_v1_SnapshotChunk, SnapshotChunk__Output as _sluice_v1_SnapshotChunk__Output } from '../../sluice/v1/SnapshotChunk.ts';
import type { SnapshotRequest as _sluice_v1_SnapshotRequest, SnapshotRequest__Output as _sluice_v1_SnapshotRequest__Output } from '../../sluice/v1/SnapshotRequest.ts';

export interface ReplicationClient extends grpc.Client {
  Follow(metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientDuplexStream<_sluice_v1_FollowUp, _sluice_v1_FollowDown__Output>;
  Follow(options?: grpc.CallOptions): grpc.ClientDuplexStream<_sluice_v1_FollowUp, _sluice_v1_FollowDown__Output>;
  follow(metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientDuplexStream<_sluice_v1_FollowUp, _sluice_v1_FollowDown__Output>;
  follow(options?: grpc.CallOptions): grpc.ClientDuplexStream<_sluice_v1_FollowUp, _sluice_v1_FollowDown__Output>;
  
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
  
}

export interface ReplicationHandlers extends grpc.UntypedServiceImplementation {
  Follow: grpc.handleBidiStreamingCall<_sluice_v1_FollowUp__Output, _sluice_v1_FollowDown>;
  
  Positions: grpc.handleUnaryCall<_sluice_v1_PositionsRequest__Output, _sluice_v1_Positions>;
  
  Snapshot: grpc.handleServerStreamingCall<_sluice_v1_SnapshotRequest__Output, _sluice_v1_SnapshotChunk>;
  
}

export interface ReplicationDefinition extends grpc.ServiceDefinition {
  Follow: MethodDefinition<_sluice_v1_FollowUp, _sluice_v1_FollowDown, _sluice_v1_FollowUp__Output, _sluice_v1_FollowDown__Output>
  Positions: MethodDefinition<_sluice_v1_PositionsRequest, _sluice_v1_Positions, _sluice_v1_PositionsRequest__Output, _sluice_v1_Positions__Output>
  Snapshot: MethodDefinition<_sluice_v1_SnapshotRequest, _sluice_v1_SnapshotChunk, _sluice_v1_SnapshotRequest__Output, _sluice_v1_SnapshotChunk__Output>
}

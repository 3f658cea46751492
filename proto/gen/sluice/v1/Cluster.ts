// Original file: proto/cluster.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { DrainedReply as _sluice_v1_DrainedReply, DrainedReply__Output as _sluice_v1_DrainedReply__Output } from '../../sluice/v1/DrainedReply.ts';
import type { DrainedRequest as _sluice_v1_DrainedRequest, DrainedRequest__Output as _sluice_v1_DrainedRequest__Output } from '../../sluice/v1/DrainedRequest.ts';
import type { NodeState as _sluice_v1_NodeState, NodeState__Output as _sluice_v1_NodeState__Output } from '../../sluice/v1/NodeState.ts';
import type { Positions as _sluice_v1_Positions, Positions__Output as _sluice_v1_Positions__Output } from '../../sluice/v1/Positions.ts';
import type { PositionsRequest as _sluice_v1_PositionsRequest, PositionsRequest__Output as _sluice_v1_PositionsRequest__Output } from '../../sluice/v1/PositionsRequest.ts';
import type { WaitReplicatedRequest as _sluice_v1_WaitReplicatedRequest, WaitReplicatedRequest__Output as _sluice_v1_WaitReplicatedRequest__Output } from '../../sluice/v1/WaitReplicatedRequest.ts';
import type { WaitReplicatedResponse as _sluice_v1_WaitReplicatedResponse, WaitReplicatedResponse__Output as _sluice_v1_WaitReplicatedResponse__Output } from '../../sluice/v1/WaitReplicatedResponse.ts';
import type { WaitRequest as _sluice_v1_WaitRequest, WaitRequest__Output as _sluice_v1_WaitRequest__Output } from '../../sluice/v1/WaitRequest.ts';
import type { WaitResponse as _sluice_v1_WaitResponse, WaitResponse__Output as _sluice_v1_WaitResponse__Output } from '../../sluice/v1/WaitResponse.ts';
import type { WatchRequest as _sluice_v1_WatchRequest, WatchRequest__Output as _sluice_v1_WatchRequest__Output } from '../../sluice/v1/WatchRequest.ts';

export interface ClusterClient extends grpc.Client {
  Drained(argument: _sluice_v1_DrainedRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_DrainedReply__Output>): grpc.ClientUnaryCall;
  Drained(argument: _sluice_v1_DrainedRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_sluice_v1_DrainedReply__Output>): grpc.ClientUnaryCall;
  Drained(argument: _sluice_v1_DrainedRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_DrainedReply__Output>): grpc.ClientUnaryCall;
  Drained(argument: _sluice_v1_DrainedRequest, callback: grpc.requestCallback<_sluice_v1_DrainedReply__Output>): grpc.ClientUnaryCall;
  drained(argument: _sluice_v1_DrainedRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_DrainedReply__Output>): grpc.ClientUnaryCall;
  drained(argument: _sluice_v1_DrainedRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_sluice_v1_DrainedReply__Output>): grpc.ClientUnaryCall;
  drained(argument: _sluice_v1_DrainedRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_DrainedReply__Output>): grpc.ClientUnaryCall;
  drained(argument: _sluice_v1_DrainedRequest, callback: grpc.requestCallback<_sluice_v1_DrainedReply__Output>): grpc.ClientUnaryCall;
  
  GetPositions(argument: _sluice_v1_PositionsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  GetPositions(argument: _sluice_v1_PositionsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  GetPositions(argument: _sluice_v1_PositionsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  GetPositions(argument: _sluice_v1_PositionsRequest, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  getPositions(argument: _sluice_v1_PositionsRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  getPositions(argument: _sluice_v1_PositionsRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  getPositions(argument: _sluice_v1_PositionsRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  getPositions(argument: _sluice_v1_PositionsRequest, callback: grpc.requestCallback<_sluice_v1_Positions__Output>): grpc.ClientUnaryCall;
  
  Wait(argument: _sluice_v1_WaitRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_WaitResponse__Output>): grpc.ClientUnaryCall;
  Wait(argument: _sluice_v1_WaitRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_sluice_v1_WaitResponse__Output>): grpc.ClientUnaryCall;
  Wait(argument: _sluice_v1_WaitRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_WaitResponse__Output>): grpc.ClientUnaryCall;
  Wait(argument: _sluice_v1_WaitRequest, callback: grpc.requestCallback<_sluice_v1_WaitResponse__Output>): grpc.ClientUnaryCall;
  wait(argument: _sluice_v1_WaitRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_WaitResponse__Output>): grpc.ClientUnaryCall;
  wait(argument: _sluice_v1_WaitRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_sluice_v1_WaitResponse__Output>): grpc.ClientUnaryCall;
  wait(argument: _sluice_v1_WaitRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_WaitResponse__Output>): grpc.ClientUnaryCall;
  wait(argument: _sluice_v1_WaitRequest, callback: grpc.requestCallback<_sluice_v1_WaitResponse__Output>): grpc.ClientUnaryCall;
  
  WaitReplicated(argument: _sluice_v1_WaitReplicatedRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_WaitReplicatedResponse__Output>): grpc.ClientUnaryCall;
  WaitReplicated(argument: _sluice_v1_WaitReplicatedRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_sluice_v1_WaitReplicatedResponse__Output>): grpc.ClientUnaryCall;
  WaitReplicated(argument: _sluice_v1_WaitReplicatedRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_WaitReplicatedResponse__Output>): grpc.ClientUnaryCall;
  WaitReplicated(argument: _sluice_v1_WaitReplicatedRequest, callback: grpc.requestCallback<_sluice_v1_WaitReplicatedResponse__Output>): grpc.ClientUnaryCall;
  waitReplicated(argument: _sluice_v1_WaitReplicatedRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_WaitReplicatedResponse__Output>): grpc.ClientUnaryCall;
  waitReplicated(argument: _sluice_v1_WaitReplicatedRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_sluice_v1_WaitReplicatedResponse__Output>): grpc.ClientUnaryCall;
  waitReplicated(argument: _sluice_v1_WaitReplicatedRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_sluice_v1_WaitReplicatedResponse__Output>): grpc.ClientUnaryCall;
  waitReplicated(argument: _sluice_v1_WaitReplicatedRequest, callback: grpc.requestCallback<_sluice_v1_WaitReplicatedResponse__Output>): grpc.ClientUnaryCall;
  
  Watch(argument: _sluice_v1_WatchRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_sluice_v1_NodeState__Output>;
  Watch(argument: _sluice_v1_WatchRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_sluice_v1_NodeState__Output>;
  watch(argument: _sluice_v1_WatchRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_sluice_v1_NodeState__Output>;
  watch(argument: _sluice_v1_WatchRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_sluice_v1_NodeState__Output>;
  
}

export interface ClusterHandlers extends grpc.UntypedServiceImplementation {
  Drained: grpc.handleUnaryCall<_sluice_v1_DrainedRequest__Output, _sluice_v1_DrainedReply>;
  
  GetPositions: grpc.handleUnaryCall<_sluice_v1_PositionsRequest__Output, _sluice_v1_Positions>;
  
  Wait: grpc.handleUnaryCall<_sluice_v1_WaitRequest__Output, _sluice_v1_WaitResponse>;
  
  WaitReplicated: grpc.handleUnaryCall<_sluice_v1_WaitReplicatedRequest__Output, _sluice_v1_WaitReplicatedResponse>;
  
  Watch: grpc.handleServerStreamingCall<_sluice_v1_WatchRequest__Output, _sluice_v1_NodeState>;
  
}

export interface ClusterDefinition extends grpc.ServiceDefinition {
  Drained: MethodDefinition<_sluice_v1_DrainedRequest, _sluice_v1_DrainedReply, _sluice_v1_DrainedRequest__Output, _sluice_v1_DrainedReply__Output>
  GetPositions: MethodDefinition<_sluice_v1_PositionsRequest, _sluice_v1_Positions, _sluice_v1_PositionsRequest__Output, _sluice_v1_Positions__Output>
  Wait: MethodDefinition<_sluice_v1_WaitRequest, _sluice_v1_WaitResponse, _sluice_v1_WaitRequest__Output, _sluice_v1_WaitResponse__Output>
  WaitReplicated: MethodDefinition<_sluice_v1_WaitReplicatedRequest, _sluice_v1_WaitReplicatedResponse, _sluice_v1_WaitReplicatedRequest__Output, _sluice_v1_WaitReplicatedResponse__Output>
  Watch: MethodDefinition<_sluice_v1_WatchRequest, _sluice_v1_NodeState, _sluice_v1_WatchRequest__Output, _sluice_v1_NodeState__Output>
}

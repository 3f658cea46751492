import type * as grpc from '@grpc/grpc-js';
import type { MessageTypeDefinition } from '@grpc/proto-loader';

import type { ClusterClient as _sluice_v1_ClusterClient, ClusterDefinition as _sluice_v1_ClusterDefinition } from './sluice/v1/Cluster.ts';
import type { Confirm as _sluice_v1_Confirm, Confirm__Output as _sluice_v1_Confirm__Output } from './sluice/v1/Confirm.ts';
import type { DrainedReply as _sluice_v1_DrainedReply, DrainedReply__Output as _sluice_v1_DrainedReply__Output } from './sluice/v1/DrainedReply.ts';
import type { DrainedRequest as _sluice_v1_DrainedRequest, DrainedRequest__Output as _sluice_v1_DrainedRequest__Output } from './sluice/v1/DrainedRequest.ts';
import type { EpochStart as _sluice_v1_EpochStart, EpochStart__Output as _sluice_v1_EpochStart__Output } from './sluice/v1/EpochStart.ts';
import type { FetchRequest as _sluice_v1_FetchRequest, FetchRequest__Output as _sluice_v1_FetchRequest__Output } from './sluice/v1/FetchRequest.ts';
import type { FileOwner as _sluice_v1_FileOwner, FileOwner__Output as _sluice_v1_FileOwner__Output } from './sluice/v1/FileOwner.ts';
import type { FollowDown as _sluice_v1_FollowDown, FollowDown__Output as _sluice_v1_FollowDown__Output } from './sluice/v1/FollowDown.ts';
import type { FollowUp as _sluice_v1_FollowUp, FollowUp__Output as _sluice_v1_FollowUp__Output } from './sluice/v1/FollowUp.ts';
import type { HandoffReply as _sluice_v1_HandoffReply, HandoffReply__Output as _sluice_v1_HandoffReply__Output } from './sluice/v1/HandoffReply.ts';
import type { HandoffRequest as _sluice_v1_HandoffRequest, HandoffRequest__Output as _sluice_v1_HandoffRequest__Output } from './sluice/v1/HandoffRequest.ts';
import type { Heartbeat as _sluice_v1_Heartbeat, Heartbeat__Output as _sluice_v1_Heartbeat__Output } from './sluice/v1/Heartbeat.ts';
import type { Hello as _sluice_v1_Hello, Hello__Output as _sluice_v1_Hello__Output } from './sluice/v1/Hello.ts';
import type { History as _sluice_v1_History, History__Output as _sluice_v1_History__Output } from './sluice/v1/History.ts';
import type { Linked as _sluice_v1_Linked, Linked__Output as _sluice_v1_Linked__Output } from './sluice/v1/Linked.ts';
import type { NeedSnapshot as _sluice_v1_NeedSnapshot, NeedSnapshot__Output as _sluice_v1_NeedSnapshot__Output } from './sluice/v1/NeedSnapshot.ts';
import type { NodeRef as _sluice_v1_NodeRef, NodeRef__Output as _sluice_v1_NodeRef__Output } from './sluice/v1/NodeRef.ts';
import type { NodeStanding as _sluice_v1_NodeStanding, NodeStanding__Output as _sluice_v1_NodeStanding__Output } from './sluice/v1/NodeStanding.ts';
import type { NodeState as _sluice_v1_NodeState, NodeState__Output as _sluice_v1_NodeState__Output } from './sluice/v1/NodeState.ts';
import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from './sluice/v1/Position.ts';
import type { Positions as _sluice_v1_Positions, Positions__Output as _sluice_v1_Positions__Output } from './sluice/v1/Positions.ts';
import type { PositionsRequest as _sluice_v1_PositionsRequest, PositionsRequest__Output as _sluice_v1_PositionsRequest__Output } from './sluice/v1/PositionsRequest.ts';
import type { Prepare as _sluice_v1_Prepare, Prepare__Output as _sluice_v1_Prepare__Output } from './sluice/v1/Prepare.ts';
import type { Refusal as _sluice_v1_Refusal, Refusal__Output as _sluice_v1_Refusal__Output } from './sluice/v1/Refusal.ts';
import type { ReplicationClient as _sluice_v1_ReplicationClient, ReplicationDefinition as _sluice_v1_ReplicationDefinition } from './sluice/v1/Replication.ts';
import type { Rewind as _sluice_v1_Rewind, Rewind__Output as _sluice_v1_Rewind__Output } from './sluice/v1/Rewind.ts';
import type { SnapshotBegin as _sluice_v1_SnapshotBegin, SnapshotBegin__Output as _sluice_v1_SnapshotBegin__Output } from './sluice/v1/SnapshotBegin.ts';
import type { SnapshotChunk as _sluice_v1_SnapshotChunk, SnapshotChunk__Output as _sluice_v1_SnapshotChunk__Output } from './sluice/v1/SnapshotChunk.ts';
import type { SnapshotEnd as _sluice_v1_SnapshotEnd, SnapshotEnd__Output as _sluice_v1_SnapshotEnd__Output } from './sluice/v1/SnapshotEnd.ts';
import type { SnapshotPages as _sluice_v1_SnapshotPages, SnapshotPages__Output as _sluice_v1_SnapshotPages__Output } from './sluice/v1/SnapshotPages.ts';
import type { SnapshotRequest as _sluice_v1_SnapshotRequest, SnapshotRequest__Output as _sluice_v1_SnapshotRequest__Output } from './sluice/v1/SnapshotRequest.ts';
import type { StandingRequest as _sluice_v1_StandingRequest, StandingRequest__Output as _sluice_v1_StandingRequest__Output } from './sluice/v1/StandingRequest.ts';
import type { Stored as _sluice_v1_Stored, Stored__Output as _sluice_v1_Stored__Output } from './sluice/v1/Stored.ts';
import type { Subscribe as _sluice_v1_Subscribe, Subscribe__Output as _sluice_v1_Subscribe__Output } from './sluice/v1/Subscribe.ts';
import type { Tail as _sluice_v1_Tail, Tail__Output as _sluice_v1_Tail__Output } from './sluice/v1/Tail.ts';
import type { TakeLease as _sluice_v1_TakeLease, TakeLease__Output as _sluice_v1_TakeLease__Output } from './sluice/v1/TakeLease.ts';
import type { Transactions as _sluice_v1_Transactions, Transactions__Output as _sluice_v1_Transactions__Output } from './sluice/v1/Transactions.ts';
import type { WaitReplicatedRequest as _sluice_v1_WaitReplicatedRequest, WaitReplicatedRequest__Output as _sluice_v1_WaitReplicatedRequest__Output } from './sluice/v1/WaitReplicatedRequest.ts';
import type { WaitReplicatedResponse as _sluice_v1_WaitReplicatedResponse, WaitReplicatedResponse__Output as _sluice_v1_WaitReplicatedResponse__Output } from './sluice/v1/WaitReplicatedResponse.ts';
import type { WaitRequest as _sluice_v1_WaitRequest, WaitRequest__Output as _sluice_v1_WaitRequest__Output } from './sluice/v1/WaitRequest.ts';
import type { WaitResponse as _sluice_v1_WaitResponse, WaitResponse__Output as _sluice_v1_WaitResponse__Output } from './sluice/v1/WaitResponse.ts';
import type { WatchRequest as _sluice_v1_WatchRequest, WatchRequest__Output as _sluice_v1_WatchRequest__Output } from './sluice/v1/WatchRequest.ts';
import type { Welcome as _sluice_v1_Welcome, Welcome__Output as _sluice_v1_Welcome__Output } from './sluice/v1/Welcome.ts';

type SubtypeConstructor<Constructor extends new (...args: any) => any, Subtype> = {
  new(...args: ConstructorParameters<Constructor>): Subtype;
};

export interface ProtoGrpcType {
  sluice: {
    v1: {
      Cluster: SubtypeConstructor<typeof grpc.Client, _sluice_v1_ClusterClient> & { service: _sluice_v1_ClusterDefinition }
      Confirm: MessageTypeDefinition<_sluice_v1_Confirm, _sluice_v1_Confirm__Output>
      DrainedReply: MessageTypeDefinition<_sluice_v1_DrainedReply, _sluice_v1_DrainedReply__Output>
      DrainedRequest: MessageTypeDefinition<_sluice_v1_DrainedRequest, _sluice_v1_DrainedRequest__Output>
      EpochStart: MessageTypeDefinition<_sluice_v1_EpochStart, _sluice_v1_EpochStart__Output>
      FetchRequest: MessageTypeDefinition<_sluice_v1_FetchRequest, _sluice_v1_FetchRequest__Output>
      FileOwner: MessageTypeDefinition<_sluice_v1_FileOwner, _sluice_v1_FileOwner__Output>
      FollowDown: MessageTypeDefinition<_sluice_v1_FollowDown, _sluice_v1_FollowDown__Output>
      FollowUp: MessageTypeDefinition<_sluice_v1_FollowUp, _sluice_v1_FollowUp__Output>
      HandoffReply: MessageTypeDefinition<_sluice_v1_HandoffReply, _sluice_v1_HandoffReply__Output>
      HandoffRequest: MessageTypeDefinition<_sluice_v1_HandoffRequest, _sluice_v1_HandoffRequest__Output>
      Heartbeat: MessageTypeDefinition<_sluice_v1_Heartbeat, _sluice_v1_Heartbeat__Output>
      Hello: MessageTypeDefinition<_sluice_v1_Hello, _sluice_v1_Hello__Output>
      History: MessageTypeDefinition<_sluice_v1_History, _sluice_v1_History__Output>
      Linked: MessageTypeDefinition<_sluice_v1_Linked, _sluice_v1_Linked__Output>
      NeedSnapshot: MessageTypeDefinition<_sluice_v1_NeedSnapshot, _sluice_v1_NeedSnapshot__Output>
      NodeRef: MessageTypeDefinition<_sluice_v1_NodeRef, _sluice_v1_NodeRef__Output>
      NodeStanding: MessageTypeDefinition<_sluice_v1_NodeStanding, _sluice_v1_NodeStanding__Output>
      NodeState: MessageTypeDefinition<_sluice_v1_NodeState, _sluice_v1_NodeState__Output>
      Position: MessageTypeDefinition<_sluice_v1_Position, _sluice_v1_Position__Output>
      Positions: MessageTypeDefinition<_sluice_v1_Positions, _sluice_v1_Positions__Output>
      PositionsRequest: MessageTypeDefinition<_sluice_v1_PositionsRequest, _sluice_v1_PositionsRequest__Output>
      Prepare: MessageTypeDefinition<_sluice_v1_Prepare, _sluice_v1_Prepare__Output>
      Refusal: MessageTypeDefinition<_sluice_v1_Refusal, _sluice_v1_Refusal__Output>
      Replication: SubtypeConstructor<typeof grpc.Client, _sluice_v1_ReplicationClient> & { service: _sluice_v1_ReplicationDefinition }
      Rewind: MessageTypeDefinition<_sluice_v1_Rewind, _sluice_v1_Rewind__Output>
      SnapshotBegin: MessageTypeDefinition<_sluice_v1_SnapshotBegin, _sluice_v1_SnapshotBegin__Output>
      SnapshotChunk: MessageTypeDefinition<_sluice_v1_SnapshotChunk, _sluice_v1_SnapshotChunk__Output>
      SnapshotEnd: MessageTypeDefinition<_sluice_v1_SnapshotEnd, _sluice_v1_SnapshotEnd__Output>
      SnapshotPages: MessageTypeDefinition<_sluice_v1_SnapshotPages, _sluice_v1_SnapshotPages__Output>
      SnapshotRequest: MessageTypeDefinition<_sluice_v1_SnapshotRequest, _sluice_v1_SnapshotRequest__Output>
      StandingRequest: MessageTypeDefinition<_sluice_v1_StandingRequest, _sluice_v1_StandingRequest__Output>
      Stored: MessageTypeDefinition<_sluice_v1_Stored, _sluice_v1_Stored__Output>
      Subscribe: MessageTypeDefinition<_sluice_v1_Subscribe, _sluice_v1_Subscribe__Output>
      Tail: MessageTypeDefinition<_sluice_v1_Tail, _sluice_v1_Tail__Output>
      TakeLease: MessageTypeDefinition<_sluice_v1_TakeLease, _sluice_v1_TakeLease__Output>
      Transactions: MessageTypeDefinition<_sluice_v1_Transactions, _sluice_v1_Transactions__Output>
      WaitReplicatedRequest: MessageTypeDefinition<_sluice_v1_WaitReplicatedRequest, _sluice_v1_WaitReplicatedRequest__Output>
      WaitReplicatedResponse: MessageTypeDefinition<_sluice_v1_WaitReplicatedResponse, _sluice_v1_WaitReplicatedResponse__Output>
      WaitRequest: MessageTypeDefinition<_sluice_v1_WaitRequest, _sluice_v1_WaitRequest__Output>
      WaitResponse: MessageTypeDefinition<_sluice_v1_WaitResponse, _sluice_v1_WaitResponse__Output>
      WatchRequest: MessageTypeDefinition<_sluice_v1_WatchRequest, _sluice_v1_WatchRequest__Output>
      Welcome: MessageTypeDefinition<_sluice_v1_Welcome, _sluice_v1_Welcome__Output>
    }
  }
}


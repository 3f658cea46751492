// Original file: proto/replication.proto

import type { NodeRef as _sluice_v1_NodeRef, NodeRef__Output as _sluice_v1_NodeRef__Output } from '../../sluice/v1/NodeRef.ts';
import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';
import type { History as _sluice_v1_History, History__Output as _sluice_v1_History__Output } from '../../sluice/v1/History.ts';
import type { Long } from '@grpc/proto-loader';

export interface Welcome {
  'version'?: (number);
  'clusterId'?: (string);
  'nodeId'?: (string);
  'node'?: (_sluice_v1_NodeRef | null);
  'epoch'?: (number | string | Long);
  'positions'?: (_sluice_v1_Position)[];
  'histories'?: (_sluice_v1_History)[];
  'link'?: (Buffer | Uint8Array | string);
}

export interface Welcome__Output {
  'version': (number);
  'clusterId': (string);
  'nodeId': (string);
  'node': (_sluice_v1_NodeRef__Output | null);
  'epoch': (number);
  'positions': (_sluice_v1_Position__Output)[];
  'histories': (_sluice_v1_History__Output)[];
  'link': (Buffer);
}

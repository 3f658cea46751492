// Original file: proto/replication.proto

import type { NodeRef as _sluice_v1_NodeRef, NodeRef__Output as _sluice_v1_NodeRef__Output } from '../../sluice/v1/NodeRef.ts';
import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';
import type { Long } from '@grpc/proto-loader';

export interface NodeStanding {
  'nodeId'?: (string);
  'node'?: (_sluice_v1_NodeRef | null);
  'candidate'?: (boolean);
  'epoch'?: (number | string | Long);
  'positions'?: (_sluice_v1_Position)[];
}

export interface NodeStanding__Output {
  'nodeId': (string);
  'node': (_sluice_v1_NodeRef__Output | null);
  'candidate': (boolean);
  'epoch': (number);
  'positions': (_sluice_v1_Position__Output)[];
}

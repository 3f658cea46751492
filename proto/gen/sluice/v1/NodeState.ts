// Original file: proto/cluster.proto

import type { NodeRef as _sluice_v1_NodeRef, NodeRef__Output as _sluice_v1_NodeRef__Output } from '../../sluice/v1/NodeRef.ts';
import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';
import type { Long } from '@grpc/proto-loader';

export interface NodeState {
  'self'?: (_sluice_v1_NodeRef | null);
  'role'?: (string);
  'epoch'?: (number | string | Long);
  'primary'?: (_sluice_v1_NodeRef | null);
  'ready'?: (boolean);
  'connected'?: (boolean);
  'positions'?: (_sluice_v1_Position)[];
  'validMs'?: (number);
  'drain'?: (number | string | Long);
}

export interface NodeState__Output {
  'self': (_sluice_v1_NodeRef__Output | null);
  'role': (string);
  'epoch': (number);
  'primary': (_sluice_v1_NodeRef__Output | null);
  'ready': (boolean);
  'connected': (boolean);
  'positions': (_sluice_v1_Position__Output)[];
  'validMs': (number);
  'drain': (number);
}

// Original file: proto/replication.proto

import type { NodeRef as _sluice_v1_NodeRef, NodeRef__Output as _sluice_v1_NodeRef__Output } from '../../sluice/v1/NodeRef.ts';
import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';
import type { Tail as _sluice_v1_Tail, Tail__Output as _sluice_v1_Tail__Output } from '../../sluice/v1/Tail.ts';
import type { Refusal as _sluice_v1_Refusal, Refusal__Output as _sluice_v1_Refusal__Output } from '../../sluice/v1/Refusal.ts';
import type { Long } from '@grpc/proto-loader';

export interface NodeStanding {
  'nodeId'?: (string);
  'node'?: (_sluice_v1_NodeRef | null);
  'candidate'?: (boolean);
  'epoch'?: (number | string | Long);
  'positions'?: (_sluice_v1_Position)[];
  'tails'?: (_sluice_v1_Tail)[];
  'refusals'?: (_sluice_v1_Refusal)[];
  'reading'?: (boolean);
}

export interface NodeStanding__Output {
  'nodeId': (string);
  'node': (_sluice_v1_NodeRef__Output | null);
  'candidate': (boolean);
  'epoch': (number);
  'positions': (_sluice_v1_Position__Output)[];
  'tails': (_sluice_v1_Tail__Output)[];
  'refusals': (_sluice_v1_Refusal__Output)[];
  'reading': (boolean);
}

// Original file: proto/replication.proto

import type { NodeRef as _sluice_v1_NodeRef, NodeRef__Output as _sluice_v1_NodeRef__Output } from '../../sluice/v1/NodeRef.ts';
import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';
import type { History as _sluice_v1_History, History__Output as _sluice_v1_History__Output } from '../../sluice/v1/History.ts';
import type { Tail as _sluice_v1_Tail, Tail__Output as _sluice_v1_Tail__Output } from '../../sluice/v1/Tail.ts';

export interface Hello {
  'version'?: (number);
  'clusterId'?: (string);
  'nodeId'?: (string);
  'node'?: (_sluice_v1_NodeRef | null);
  'positions'?: (_sluice_v1_Position)[];
  'histories'?: (_sluice_v1_History)[];
  'tails'?: (_sluice_v1_Tail)[];
}

export interface Hello__Output {
  'version': (number);
  'clusterId': (string);
  'nodeId': (string);
  'node': (_sluice_v1_NodeRef__Output | null);
  'positions': (_sluice_v1_Position__Output)[];
  'histories': (_sluice_v1_History__Output)[];
  'tails': (_sluice_v1_Tail__Output)[];
}

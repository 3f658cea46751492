// Original file: proto/cluster.proto

import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';

export interface WaitReplicatedRequest {
  'positions'?: (_sluice_v1_Position)[];
  'replicas'?: (number);
  'timeoutMs'?: (number);
}

export interface WaitReplicatedRequest__Output {
  'positions': (_sluice_v1_Position__Output)[];
  'replicas': (number);
  'timeoutMs': (number);
}

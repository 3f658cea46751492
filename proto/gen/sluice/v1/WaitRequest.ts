// Original file: proto/cluster.proto

import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';

export interface WaitRequest {
  'positions'?: (_sluice_v1_Position)[];
  'timeoutMs'?: (number);
}

export interface WaitRequest__Output {
  'positions': (_sluice_v1_Position__Output)[];
  'timeoutMs': (number);
}

// Original file: proto/replication.proto

import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';

export interface Subscribe {
  'after'?: (_sluice_v1_Position | null);
}

export interface Subscribe__Output {
  'after': (_sluice_v1_Position__Output | null);
}

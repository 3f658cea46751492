// Original file: proto/replication.proto

import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';

export interface SnapshotEnd {
  'end'?: (_sluice_v1_Position | null);
}

export interface SnapshotEnd__Output {
  'end': (_sluice_v1_Position__Output | null);
}

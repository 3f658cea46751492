// Original file: proto/replication.proto

import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';
import type { History as _sluice_v1_History, History__Output as _sluice_v1_History__Output } from '../../sluice/v1/History.ts';

export interface Subscribe {
  'after'?: (_sluice_v1_Position | null);
  'history'?: (_sluice_v1_History | null);
}

export interface Subscribe__Output {
  'after': (_sluice_v1_Position__Output | null);
  'history': (_sluice_v1_History__Output | null);
}

// Original file: proto/replication.proto

import type { History as _sluice_v1_History, History__Output as _sluice_v1_History__Output } from '../../sluice/v1/History.ts';
import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';

export interface NeedSnapshot {
  'database'?: (string);
  'reason'?: (string);
  'history'?: (_sluice_v1_History | null);
  'ancestor'?: (_sluice_v1_Position | null);
}

export interface NeedSnapshot__Output {
  'database': (string);
  'reason': (string);
  'history': (_sluice_v1_History__Output | null);
  'ancestor': (_sluice_v1_Position__Output | null);
}

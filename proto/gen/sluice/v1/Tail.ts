// Original file: proto/replication.proto

import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';
import type { Long } from '@grpc/proto-loader';

export interface Tail {
  'position'?: (_sluice_v1_Position | null);
  'serial'?: (number | string | Long);
}

export interface Tail__Output {
  'position': (_sluice_v1_Position__Output | null);
  'serial': (number);
}

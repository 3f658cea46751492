// Original file: proto/replication.proto

import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';
import type { Long } from '@grpc/proto-loader';

export interface Heartbeat {
  'nowMs'?: (number | string | Long);
  'positions'?: (_sluice_v1_Position)[];
}

export interface Heartbeat__Output {
  'nowMs': (number);
  'positions': (_sluice_v1_Position__Output)[];
}

// Original file: proto/replication.proto

import type { Hello as _sluice_v1_Hello, Hello__Output as _sluice_v1_Hello__Output } from '../../sluice/v1/Hello.ts';
import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';
import type { Long } from '@grpc/proto-loader';

export interface FetchRequest {
  'hello'?: (_sluice_v1_Hello | null);
  'after'?: (_sluice_v1_Position | null);
  'refused'?: (number | string | Long);
}

export interface FetchRequest__Output {
  'hello': (_sluice_v1_Hello__Output | null);
  'after': (_sluice_v1_Position__Output | null);
  'refused': (number);
}

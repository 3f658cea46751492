// Original file: proto/replication.proto

import type { Hello as _sluice_v1_Hello, Hello__Output as _sluice_v1_Hello__Output } from '../../sluice/v1/Hello.ts';
import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';

export interface SnapshotRequest {
  'hello'?: (_sluice_v1_Hello | null);
  'database'?: (string);
  'fromPage'?: (number);
  'resumeBase'?: (_sluice_v1_Position | null);
  'pages'?: (number)[];
  'bulk'?: (boolean);
}

export interface SnapshotRequest__Output {
  'hello': (_sluice_v1_Hello__Output | null);
  'database': (string);
  'fromPage': (number);
  'resumeBase': (_sluice_v1_Position__Output | null);
  'pages': (number)[];
  'bulk': (boolean);
}

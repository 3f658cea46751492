// Original file: proto/replication.proto

import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';
import type { FileOwner as _sluice_v1_FileOwner, FileOwner__Output as _sluice_v1_FileOwner__Output } from '../../sluice/v1/FileOwner.ts';

export interface SnapshotBegin {
  'base'?: (_sluice_v1_Position | null);
  'pageSize'?: (number);
  'pageCount'?: (number);
  'fromPage'?: (number);
  'owner'?: (_sluice_v1_FileOwner | null);
  'bulk'?: (Buffer | Uint8Array | string);
}

export interface SnapshotBegin__Output {
  'base': (_sluice_v1_Position__Output | null);
  'pageSize': (number);
  'pageCount': (number);
  'fromPage': (number);
  'owner': (_sluice_v1_FileOwner__Output | null);
  'bulk': (Buffer);
}

// Original file: proto/replication.proto

import type { FileOwner as _sluice_v1_FileOwner, FileOwner__Output as _sluice_v1_FileOwner__Output } from '../../sluice/v1/FileOwner.ts';
import type { Long } from '@grpc/proto-loader';

export interface Prepare {
  'database'?: (string);
  'epoch'?: (number | string | Long);
  'txid'?: (number | string | Long);
  'serial'?: (number | string | Long);
  'data'?: (Buffer | Uint8Array | string);
  'last'?: (boolean);
  'owner'?: (_sluice_v1_FileOwner | null);
}

export interface Prepare__Output {
  'database': (string);
  'epoch': (number);
  'txid': (number);
  'serial': (number);
  'data': (Buffer);
  'last': (boolean);
  'owner': (_sluice_v1_FileOwner__Output | null);
}

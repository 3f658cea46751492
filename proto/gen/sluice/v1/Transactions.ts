// Original file: proto/replication.proto

import type { FileOwner as _sluice_v1_FileOwner, FileOwner__Output as _sluice_v1_FileOwner__Output } from '../../sluice/v1/FileOwner.ts';
import type { History as _sluice_v1_History, History__Output as _sluice_v1_History__Output } from '../../sluice/v1/History.ts';
import type { Long } from '@grpc/proto-loader';

export interface Transactions {
  'database'?: (string);
  'epoch'?: (number | string | Long);
  'minTxid'?: (number | string | Long);
  'maxTxid'?: (number | string | Long);
  'data'?: (Buffer | Uint8Array | string);
  'last'?: (boolean);
  'owner'?: (_sluice_v1_FileOwner | null);
  'history'?: (_sluice_v1_History | null);
}

export interface Transactions__Output {
  'database': (string);
  'epoch': (number);
  'minTxid': (number);
  'maxTxid': (number);
  'data': (Buffer);
  'last': (boolean);
  'owner': (_sluice_v1_FileOwner__Output | null);
  'history': (_sluice_v1_History__Output | null);
}

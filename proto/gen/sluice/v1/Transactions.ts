// Original file: proto/replication.proto

import type { Long } from '@grpc/proto-loader';

export interface Transactions {
  'database'?: (string);
  'epoch'?: (number | string | Long);
  'minTxid'?: (number | string | Long);
  'maxTxid'?: (number | string | Long);
  'data'?: (Buffer | Uint8Array | string);
  'last'?: (boolean);
}

export interface Transactions__Output {
  'database': (string);
  'epoch': (number);
  'minTxid': (number);
  'maxTxid': (number);
  'data': (Buffer);
  'last': (boolean);
}

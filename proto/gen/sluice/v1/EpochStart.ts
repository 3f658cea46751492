// Original file: proto/replication.proto

import type { Long } from '@grpc/proto-loader';

export interface EpochStart {
  'epoch'?: (number | string | Long);
  'firstTxid'?: (number | string | Long);
  'node'?: (string);
}

export interface EpochStart__Output {
  'epoch': (number);
  'firstTxid': (number);
  'node': (string);
}

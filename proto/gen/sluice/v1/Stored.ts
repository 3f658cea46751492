// Original file: proto/replication.proto

import type { Long } from '@grpc/proto-loader';

export interface Stored {
  'database'?: (string);
  'serial'?: (number | string | Long);
}

export interface Stored__Output {
  'database': (string);
  'serial': (number);
}

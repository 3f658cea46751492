// Original file: proto/replication.proto

import type { Long } from '@grpc/proto-loader';

export interface Confirm {
  'database'?: (string);
  'serial'?: (number | string | Long);
}

export interface Confirm__Output {
  'database': (string);
  'serial': (number);
}

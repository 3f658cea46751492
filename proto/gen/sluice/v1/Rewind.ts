// Original file: proto/replication.proto

import type { Long } from '@grpc/proto-loader';

export interface Rewind {
  'database'?: (string);
  'serial'?: (number | string | Long);
}

export interface Rewind__Output {
  'database': (string);
  'serial': (number);
}

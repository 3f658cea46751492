// Original file: proto/replication.proto

import type { Long } from '@grpc/proto-loader';

export interface Refusal {
  'database'?: (string);
  'serial'?: (number | string | Long);
}

export interface Refusal__Output {
  'database': (string);
  'serial': (number);
}

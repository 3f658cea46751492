// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

export interface Position {
  'database'?: (string);
  'epoch'?: (number | string | Long);
  'txid'?: (number | string | Long);
  'checksum'?: (Buffer | Uint8Array | string);
}

export interface Position__Output {
  'database': (string);
  'epoch': (number);
  'txid': (number);
  'checksum': (Buffer);
}

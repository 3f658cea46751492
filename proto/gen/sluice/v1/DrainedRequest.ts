// Original file: proto/cluster.proto

import type { Long } from '@grpc/proto-loader';

export interface DrainedRequest {
  'drain'?: (number | string | Long);
  'process'?: (number);
}

export interface DrainedRequest__Output {
  'drain': (number);
  'process': (number);
}

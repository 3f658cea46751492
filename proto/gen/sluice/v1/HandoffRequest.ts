// Original file: proto/replication.proto

import type { Hello as _sluice_v1_Hello, Hello__Output as _sluice_v1_Hello__Output } from '../../sluice/v1/Hello.ts';

export interface HandoffRequest {
  'hello'?: (_sluice_v1_Hello | null);
  'to'?: (string);
}

export interface HandoffRequest__Output {
  'hello': (_sluice_v1_Hello__Output | null);
  'to': (string);
}

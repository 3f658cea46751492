// Original file: proto/replication.proto

import type { Hello as _sluice_v1_Hello, Hello__Output as _sluice_v1_Hello__Output } from '../../sluice/v1/Hello.ts';

export interface StandingRequest {
  'hello'?: (_sluice_v1_Hello | null);
}

export interface StandingRequest__Output {
  'hello': (_sluice_v1_Hello__Output | null);
}

// Original file: proto/replication.proto

import type { EpochStart as _sluice_v1_EpochStart, EpochStart__Output as _sluice_v1_EpochStart__Output } from '../../sluice/v1/EpochStart.ts';

export interface History {
  'database'?: (string);
  'epochs'?: (_sluice_v1_EpochStart)[];
}

export interface History__Output {
  'database': (string);
  'epochs': (_sluice_v1_EpochStart__Output)[];
}

// Original file: proto/replication.proto

import type { Hello as _sluice_v1_Hello, Hello__Output as _sluice_v1_Hello__Output } from '../../sluice/v1/Hello.ts';
import type { Position as _sluice_v1_Position, Position__Output as _sluice_v1_Position__Output } from '../../sluice/v1/Position.ts';
import type { Subscribe as _sluice_v1_Subscribe, Subscribe__Output as _sluice_v1_Subscribe__Output } from '../../sluice/v1/Subscribe.ts';
import type { Stored as _sluice_v1_Stored, Stored__Output as _sluice_v1_Stored__Output } from '../../sluice/v1/Stored.ts';
import type { Linked as _sluice_v1_Linked, Linked__Output as _sluice_v1_Linked__Output } from '../../sluice/v1/Linked.ts';

export interface FollowUp {
  'hello'?: (_sluice_v1_Hello | null);
  'ack'?: (_sluice_v1_Position | null);
  'subscribe'?: (_sluice_v1_Subscribe | null);
  'stored'?: (_sluice_v1_Stored | null);
  'linked'?: (_sluice_v1_Linked | null);
  'kind'?: "hello"|"ack"|"subscribe"|"stored"|"linked";
}

export interface FollowUp__Output {
  'hello'?: (_sluice_v1_Hello__Output | null);
  'ack'?: (_sluice_v1_Position__Output | null);
  'subscribe'?: (_sluice_v1_Subscribe__Output | null);
  'stored'?: (_sluice_v1_Stored__Output | null);
  'linked'?: (_sluice_v1_Linked__Output | null);
  'kind'?: "hello"|"ack"|"subscribe"|"stored"|"linked";
}

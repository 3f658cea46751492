// Original file: proto/replication.proto

import type { Welcome as _sluice_v1_Welcome, Welcome__Output as _sluice_v1_Welcome__Output } from '../../sluice/v1/Welcome.ts';
import type { Transactions as _sluice_v1_Transactions, Transactions__Output as _sluice_v1_Transactions__Output } from '../../sluice/v1/Transactions.ts';
import type { NeedSnapshot as _sluice_v1_NeedSnapshot, NeedSnapshot__Output as _sluice_v1_NeedSnapshot__Output } from '../../sluice/v1/NeedSnapshot.ts';
import type { Heartbeat as _sluice_v1_Heartbeat, Heartbeat__Output as _sluice_v1_Heartbeat__Output } from '../../sluice/v1/Heartbeat.ts';
import type { TakeLease as _sluice_v1_TakeLease, TakeLease__Output as _sluice_v1_TakeLease__Output } from '../../sluice/v1/TakeLease.ts';
import type { Prepare as _sluice_v1_Prepare, Prepare__Output as _sluice_v1_Prepare__Output } from '../../sluice/v1/Prepare.ts';
import type { Confirm as _sluice_v1_Confirm, Confirm__Output as _sluice_v1_Confirm__Output } from '../../sluice/v1/Confirm.ts';
import type { Rewind as _sluice_v1_Rewind, Rewind__Output as _sluice_v1_Rewind__Output } from '../../sluice/v1/Rewind.ts';
import type { Linked as _sluice_v1_Linked, Linked__Output as _sluice_v1_Linked__Output } from '../../sluice/v1/Linked.ts';

export interface FollowDown {
  'welcome'?: (_sluice_v1_Welcome | null);
  'transactions'?: (_sluice_v1_Transactions | null);
  'needSnapshot'?: (_sluice_v1_NeedSnapshot | null);
  'heartbeat'?: (_sluice_v1_Heartbeat | null);
  'takeLease'?: (_sluice_v1_TakeLease | null);
  'prepare'?: (_sluice_v1_Prepare | null);
  'confirm'?: (_sluice_v1_Confirm | null);
  'rewind'?: (_sluice_v1_Rewind | null);
  'linked'?: (_sluice_v1_Linked | null);
  'kind'?: "welcome"|"transactions"|"needSnapshot"|"heartbeat"|"takeLease"|"prepare"|"confirm"|"rewind"|"linked";
}

export interface FollowDown__Output {
  'welcome'?: (_sluice_v1_Welcome__Output | null);
  'transactions'?: (_sluice_v1_Transactions__Output | null);
  'needSnapshot'?: (_sluice_v1_NeedSnapshot__Output | null);
  'heartbeat'?: (_sluice_v1_Heartbeat__Output | null);
  'takeLease'?: (_sluice_v1_TakeLease__Output | null);
  'prepare'?: (_sluice_v1_Prepare__Output | null);
  'confirm'?: (_sluice_v1_Confirm__Output | null);
  'rewind'?: (_sluice_v1_Rewind__Output | null);
  'linked'?: (_sluice_v1_Linked__Output | null);
  'kind'?: "welcome"|"transactions"|"needSnapshot"|"heartbeat"|"takeLease"|"prepare"|"confirm"|"rewind"|"linked";
}

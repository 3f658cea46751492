// Original file: proto/replication.proto

import type { SnapshotBegin as _sluice_v1_SnapshotBegin, SnapshotBegin__Output as _sluice_v1_SnapshotBegin__Output } from '../../sluice/v1/SnapshotBegin.ts';
import type { SnapshotPages as _sluice_v1_SnapshotPages, SnapshotPages__Output as _sluice_v1_SnapshotPages__Output } from '../../sluice/v1/SnapshotPages.ts';
import type { SnapshotEnd as _sluice_v1_SnapshotEnd, SnapshotEnd__Output as _sluice_v1_SnapshotEnd__Output } from '../../sluice/v1/SnapshotEnd.ts';
import type { Transactions as _sluice_v1_Transactions, Transactions__Output as _sluice_v1_Transactions__Output } from '../../sluice/v1/Transactions.ts';

export interface SnapshotChunk {
  'begin'?: (_sluice_v1_SnapshotBegin | null);
  'pages'?: (_sluice_v1_SnapshotPages | null);
  'end'?: (_sluice_v1_SnapshotEnd | null);
  'transactions'?: (_sluice_v1_Transactions | null);
  'kind'?: "begin"|"pages"|"end"|"transactions";
}

export interface SnapshotChunk__Output {
  'begin'?: (_sluice_v1_SnapshotBegin__Output | null);
  'pages'?: (_sluice_v1_SnapshotPages__Output | null);
  'end'?: (_sluice_v1_SnapshotEnd__Output | null);
  'transactions'?: (_sluice_v1_Transactions__Output | null);
  'kind'?: "begin"|"pages"|"end"|"transactions";
}

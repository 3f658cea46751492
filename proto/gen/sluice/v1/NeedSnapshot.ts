// Original file: proto/replication.proto


export interface NeedSnapshot {
  'database'?: (string);
  'reason'?: (string);
}

export interface NeedSnapshot__Output {
  'database': (string);
  'reason': (string);
}

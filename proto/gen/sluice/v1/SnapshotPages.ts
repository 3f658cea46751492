// Original file: proto/replication.proto


export interface SnapshotPages {
  'firstPage'?: (number);
  'numbers'?: (number)[];
  'data'?: (Buffer | Uint8Array | string);
}

export interface SnapshotPages__Output {
  'firstPage': (number);
  'numbers': (number)[];
  'data': (Buffer);
}

// Original file: proto/replication.proto


export interface FileOwner {
  'mode'?: (number);
  'uid'?: (number);
  'gid'?: (number);
}

export interface FileOwner__Output {
  'mode': (number);
  'uid': (number);
  'gid': (number);
}

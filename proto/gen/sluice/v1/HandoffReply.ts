// Original file: proto/replication.proto


export interface HandoffReply {
  'to'?: (string);
}

export interface HandoffReply__Output {
  'to': (string);
}

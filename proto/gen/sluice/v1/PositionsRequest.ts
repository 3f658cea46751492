// Original file: proto/cluster.proto


export interface PositionsRequest {
  'flush'?: (boolean);
  'databases'?: (string)[];
}

export interface PositionsRequest__Output {
  'flush': (boolean);
  'databases': (string)[];
}

// Original file: proto/cluster.proto


export interface PositionsRequest {
  'flush'?: (boolean);
  'databases'?: (string)[];
  'primary'?: (boolean);
}

export interface PositionsRequest__Output {
  'flush': (boolean);
  'databases': (string)[];
  'primary': (boolean);
}

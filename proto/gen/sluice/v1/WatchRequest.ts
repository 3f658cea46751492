// Original file: proto/cluster.proto


export interface WatchRequest {
  'process'?: (number);
}

export interface WatchRequest__Output {
  'process': (number);
}

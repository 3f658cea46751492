// Original file: proto/cluster.proto


export interface WaitReplicatedResponse {
  'replicas'?: (number);
}

export interface WaitReplicatedResponse__Output {
  'replicas': (number);
}

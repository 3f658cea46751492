// Original file: proto/replication.proto


export interface TakeLease {
}

export interface TakeLease__Output {
}

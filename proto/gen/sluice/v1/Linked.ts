// Original file: proto/replication.proto


export interface Linked {
}

export interface Linked__Output {
}

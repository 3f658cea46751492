// Original file: proto/cluster.proto


export interface DrainedReply {
}

export interface DrainedReply__Output {
}

// Original file: proto/cluster.proto


export interface WatchRequest {
}

export interface WatchRequest__Output {
}

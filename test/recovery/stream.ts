/**
 * The real stream between stores of this process: a store that serves as the primary of an epoch, and clients that follow it.
 *
 * What it cannot show is what processes, mounts and role machines do around it.
 */
import * as grpc from "@grpc/grpc-js";
import { ReplicationClient } from "../../node/replication/client.ts";
import { ReplicationServer } from "../../node/replication/server.ts";
import type { Store } from "../../node/store/store.ts";
import { CHANNEL_OPTIONS, ReplicationService } from "../../proto/grpc.ts";

const CLUSTER = "00000000000000cc";

export interface Served { readonly port: number; readonly server: ReplicationServer; close(): void }

export async function serve(store: Store, name: string, epoch: () => number): Promise<Served> {
  const self = { name, advertise: "", region: "", proxy: "" };
  const server = new ReplicationServer(store, { self, nodeId: name.padStart(16, "0"), clusterId: () => CLUSTER, epoch, isPrimary: () => true, mayDecide: () => true }, () => undefined);
  const grpcServer = new grpc.Server(CHANNEL_OPTIONS);
  grpcServer.addService(ReplicationService.service, server.handlers());
  const port = await new Promise<number>((resolve, reject) => grpcServer.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) => (error === null ? resolve(bound) : reject(error))));
  return {
    port, server,
    close() {
      server.close();
      grpcServer.forceShutdown();
    },
  };
}

/** Follows; what it reports goes to `said`. */
export function follow(store: Store, name: string, port: number, said: string[] = []): ReplicationClient {
  return new ReplicationClient({
    store, address: `127.0.0.1:${port}`, self: { name, advertise: "", region: "", proxy: "" }, nodeId: name.padStart(16, "0"), clusterId: () => CLUSTER, adoptClusterId: () => undefined,
    seenEpoch: () => 0, sawEpoch: () => undefined, onChange: () => undefined, onTakeLease: () => undefined, report: (_level, message) => void said.push(message),
  });
}

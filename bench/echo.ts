/** A gRPC server that answers every call with what it was sent: the bare round trip, as a process of its own. Prints its port. */
import * as grpc from "@grpc/grpc-js";
import { CHANNEL_OPTIONS } from "../proto/grpc.ts";

const same = (bytes: Buffer): Buffer => bytes;

export const ECHO: grpc.ServiceDefinition = {
  echo: { path: "/bench.Echo/Echo", requestStream: false, responseStream: false, requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same },
};

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const server = new grpc.Server(CHANNEL_OPTIONS);
  server.addService(ECHO, { echo: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => done(null, call.request) });
  server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error !== null) throw error;
    process.stdout.write(`${port}\n`);
  });
  process.stdin.on("end", () => process.exit(0)).resume();
}

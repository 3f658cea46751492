/** The tests of replication hold on the driver fuse-native, too. */
import { testOnNative } from "../support/native-store.ts";

testOnNative("chain", "follower");

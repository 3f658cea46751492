/** The tests of the primary hold on the driver fuse-native, too; they are the longest there, so they have a file of their own. */
import { testOnNative } from "../support/native-store.ts";

testOnNative("primary");

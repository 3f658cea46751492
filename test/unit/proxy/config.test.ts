/** The configuration that the guardian hands over. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { hostAndPort, parseConfig } from "../../../proxy/config.ts";
import { DEFAULT_LIMITS } from "../../../proxy/limits.ts";
import { isAppError } from "../../../proto/errors.ts";

const good = { listen: "0.0.0.0:8080", advertise: "http://10.0.0.1:8080", target: "127.0.0.1:3000", maxLagMs: 5_000, rules: [{ path: "/a/*", to: "local" }], engineSocket: "/x/engine.sock", node: { name: "a" } };

test("parseConfig() fills in what is left out", () => {
  const config = parseConfig(JSON.stringify(good));
  assert.equal(config.target, "http://127.0.0.1:3000");
  assert.deepEqual(config.log, { level: "info", format: "json" });
  assert.deepEqual(config.limits, DEFAULT_LIMITS);
  assert.equal(parseConfig(JSON.stringify({ ...good, limits: { headBytes: 1_000 } })).limits.headBytes, 1_000);
});

test("parseConfig() names the key that is wrong", () => {
  for (const [change, name] of [
    [{ listen: undefined }, "listen"], [{ target: 3 }, "target"], [{ target: "::::" }, "target"], [{ maxLagMs: "5s" }, "maxLagMs"], [{ maxLagMs: -1 }, "maxLagMs"], [{ rules: {} }, "rules"],
    [{ rules: [{ path: "/x", to: "moon" }] }, "rules[0].to"], [{ node: {} }, "name"], [{ engineSocket: "" }, "engineSocket"], [{ limits: { nonsense: 1 } }, "limits.nonsense"],
    [{ limits: { connectMs: 10, responseHeadMs: 5 } }, "limits.connectMs"],
  ] as const) {
    assert.throws(() => parseConfig(JSON.stringify({ ...good, ...change })), (error) => isAppError(error, "CONFIG_INVALID") && error.message.includes(name), JSON.stringify(change));
  }
  assert.throws(() => parseConfig(undefined), (error) => isAppError(error, "CONFIG_INVALID"));
  assert.throws(() => parseConfig("{"), (error) => isAppError(error, "CONFIG_INVALID"));
});

test("hostAndPort() splits IPv4, IPv6 and a bare port", () => {
  assert.deepEqual(hostAndPort("127.0.0.1:80"), { host: "127.0.0.1", port: 80 });
  assert.deepEqual(hostAndPort("[::1]:0"), { host: "::1", port: 0 });
  assert.deepEqual(hostAndPort(":8080"), { host: "", port: 8080 });
  for (const bad of ["8080", "a:b", "a:99999", "::1:80"]) assert.throws(() => hostAndPort(bad), (error) => isAppError(error, "CONFIG_INVALID"));
});

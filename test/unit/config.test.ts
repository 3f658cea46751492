/** The configuration file: what it means, and the exact sentence for everything that can be wrong with it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { test } from "node:test";
import fc from "fast-check";
import { configErrors, loadConfig, parseConfig } from "../../node/config.ts";
import { problemError } from "../../node/config/problem.ts";
import { formatDuration, formatSize, parseDuration, parseSize } from "../../node/config/units.ts";
import { databaseSettings, type Config } from "../../node/core/config.ts";
import { isAppError } from "../../proto/errors.ts";

const FILE = "/etc/sluice.yml";
const MINIMAL = "lease: {primary: 127.0.0.1:7001}\n";

function config(text: string, env: Record<string, string> = {}): Config {
  const result = parseConfig(text, FILE, env);
  assert.ok("config" in result, "problems" in result ? result.problems.map((problem) => problemError(problem).message).join("\n") : "");
  return result.config;
}

function messages(text: string, env: Record<string, string> = {}): string[] {
  const result = parseConfig(text, FILE, env);
  assert.ok("problems" in result, "this configuration was expected to be refused");
  return result.problems.map((problem) => problemError(problem).message.replace(`Cannot use configuration ${FILE}`, "").replace(/^, /, ""));
}

test("the example file sets every setting to its default", () => {
  const text = readFileSync(new URL("../../sluice.example.yml", import.meta.url), "utf8");
  const example = config(text);
  // What has no default in the code is named here once more.
  const plain = config("node: {name: a}\nlease: {primary: 127.0.0.1:7001}\nproxy: {target: 127.0.0.1:3000}\n");
  assert.deepEqual({ ...example, source: undefined }, { ...plain, source: undefined });
  for (const key of ["node.name", "node.region", "data", "fuse.mount", "fuse.driver", "listen", "advertise", "admin", "lease.type", "lease.primary", "lease.ttl", "lease.candidate", "lease.promote", "lease.local.path", "lease.etcd.endpoints", "lease.etcd.prefix", "lease.consul.url", "lease.consul.key", "proxy.listen", "proxy.advertise", "proxy.target", "proxy.maxLag", "proxy.hold", "proxy.ack", "proxy.ackTimeout", "proxy.limits.body", "proxy.limits.connectionsPerClient", "proxy.clients", "proxy.cookie.name", "proxy.cookie.domain", "proxy.cookie.secure", "proxy.cookie.sameSite", "proxy.cookie.maxAge", "proxy.trustedHops", "proxy.accessLog", "proxy.rules", "log.level", "log.format", "databases", "retention.duration", "retention.bytes"]) {
    assert.ok(key in example.source.lines, `sluice.example.yml does not show ${key}`);
  }
  assert.match(text, /^#exec:/m);
});

test("the shortest file names only the primary", () => {
  const { node, advertise, proxy, exec } = config(MINIMAL);
  assert.deepEqual({ node, advertise, proxy, exec }, { node: { name: hostname(), region: "" }, advertise: "127.0.0.1:7001", proxy: undefined, exec: undefined });
});

test("every key is read", () => {
  const { source, ...rest } = config(`
node: {name: a, region: fra}
data: /var/lib/sluice
fuse: {mount: /sluice, driver: fuse-native}
listen: 0.0.0.0:7001
advertise: 10.0.0.1:7001
admin: 127.0.0.1:7101
lease: {type: static, primary: 10.0.0.2:7001, ttl: 1m30s, candidate: false, promote: manual}
proxy:
  listen: 0.0.0.0:8080
  target: 127.0.0.1:3000
  maxLag: 250ms
  hold: 2s
  ack: 1
  ackTimeout: 500ms
  clients: header:Authorization
  cookie: {name: pos, domain: example.org, secure: "true", sameSite: none, maxAge: 1m}
  trustedHops: 2
  accessLog: 0.25
  limits: {head: 16KiB, headers: 100, headTime: 5s, body: 10MiB, bodyIdle: 6s, idle: 7s, response: 8s, connections: 9000, connectionsPerClient: 90, held: 10, restart: 12s, stop: 11s}
  rules: [{path: "/assets/*", to: local}, {path: "/r/*", consistency: strong, cookie: false, databases: ["a.db", "b/*"]}]
exec: [node, server.js, --port, 3000, true, 0x1F]
log: {level: debug, format: json}
databases: {"*.db": {durability: sync, syncReplicas: 2, syncTimeout: 800ms}, "cache/*.db": {replicate: false}}
retention: {duration: 1h, bytes: 1.5GiB}
`);
  assert.equal(source.lines["proxy.maxLag"], 12);
  assert.deepEqual(rest, {
    node: { name: "a", region: "fra" }, data: "/var/lib/sluice", fuse: { mount: "/sluice", driver: "fuse-native" },
    listen: "0.0.0.0:7001", advertise: "10.0.0.1:7001", admin: "127.0.0.1:7101",
    lease: { type: "static", primary: "10.0.0.2:7001", ttlMs: 90_000, candidate: false, promote: "manual" },
    proxy: {
      listen: "0.0.0.0:8080", advertise: "http://10.0.0.1:8080", target: "127.0.0.1:3000", maxLagMs: 250, holdMs: 2_000, ack: 1, ackTimeoutMs: 500, clients: "header:Authorization", trustedHops: 2, accessLog: 0.25,
      limits: {
        headBytes: 16 << 10, headerCount: 100, headMs: 5_000, bodyBytes: 10 << 20, bodyIdleMs: 6_000, keepAliveMs: 7_000, responseHeadMs: 8_000, connections: 9_000,
        connectionsPerClient: 90, heldRequests: 10, targetRestartMs: 12_000, stopMs: 11_000,
      },
      cookie: { name: "pos", domain: "example.org", secure: true, sameSite: "none", maxAgeMs: 60_000 },
      rules: [{ path: "/assets/*", to: "local", consistency: "session", cookie: true }, { path: "/r/*", to: "auto", consistency: "strong", cookie: false, databases: ["a.db", "b/*"] }],
    },
    exec: ["node", "server.js", "--port", "3000", "true", "0x1F"], log: { level: "debug", format: "json" },
    databases: [{ pattern: "*.db", durability: "sync", syncReplicas: 2, syncTimeoutMs: 800, replicate: true }, { pattern: "cache/*.db", durability: "async", syncReplicas: 1, syncTimeoutMs: 5_000, replicate: false }],
    retention: { durationMs: 3_600_000, bytes: 1_610_612_736 },
  });
});

test("each type of lease has its own settings, and only those", () => {
  const common = { ttlMs: 10_000, candidate: true, promote: "auto" };
  assert.deepEqual(config("lease: {type: local}").lease, { ...common, type: "local", local: { path: "/var/lib/sluice-lease.db" } });
  assert.deepEqual(config("lease: {type: local, local: {path: l.db}, etcd: {prefix: /x}}").lease, { ...common, type: "local", local: { path: "/etc/l.db" } });
  const nothing = { user: undefined, password: undefined, ca: undefined, cert: undefined, key: undefined, spawn: undefined };
  assert.deepEqual(config("lease: {type: etcd}").lease, { ...common, type: "etcd", etcd: { endpoints: ["http://127.0.0.1:2379"], prefix: "/sluice", ...nothing } });
  assert.deepEqual(config('lease: {type: etcd, etcd: {endpoints: ["https://a:1", "https://b:2"], prefix: /x/y, user: u, password: p, ca: ca.pem, cert: /c.pem, key: k.pem}}').lease, {
    ...common, type: "etcd", etcd: { endpoints: ["https://a:1", "https://b:2"], prefix: "/x/y", user: "u", password: "p", ca: "/etc/ca.pem", cert: "/c.pem", key: "/etc/k.pem", spawn: undefined },
  });
  const peers = { a: "http://10.0.0.1:2380", b: "http://10.0.0.2:2380" };
  assert.deepEqual(config(`node: {name: a}\nlease: {type: etcd, etcd: {endpoints: ["http://10.0.0.2:2379", "http://10.0.0.1:2379"], spawn: {peers: ${JSON.stringify(peers)}}}}`).lease, {
    ...common, type: "etcd", etcd: { endpoints: ["http://10.0.0.2:2379", "http://10.0.0.1:2379"], prefix: "/sluice", ...nothing, spawn: { data: "/var/lib/sluice-etcd", peers, client: "http://10.0.0.1:2379" } },
  });
  assert.deepEqual(config("lease: {type: consul, ttl: 15s, consul: {url: https://c:8501, key: a/b, token: t}}").lease, { ...common, ttlMs: 15_000, type: "consul", consul: { url: "https://c:8501", key: "a/b", token: "t" } });
});

test("a configuration is frozen and crosses a process boundary unchanged", () => {
  const original = config(`${MINIMAL}exec: [a]\nproxy: {target: 127.0.0.1:3000}\n`);
  assert.throws(() => ((original.node as { name: string }).name = "x"), TypeError);
  assert.deepEqual(JSON.parse(JSON.stringify(original)), original);
});

test("relative paths start from the folder of the file", () => {
  const { data, fuse } = config(`${MINIMAL}data: ./a/data\nfuse: {mount: ../mnt}\n`);
  assert.deepEqual([data, fuse.mount], ["/etc/a/data", "/mnt"]);
});

test("the first pattern that matches the whole path decides about a database", () => {
  const rules = config(`${MINIMAL}databases: {"*.db": {}, "cache/*.db": {replicate: false}, "**/scratch.db": {replicate: false}}\n`);
  const replicate = (path: string): boolean => databaseSettings(rules, path).replicate;
  assert.deepEqual(["app.db", "cache/a.db", "cache/x/a.db", "x/y/scratch.db", "scratch.db", "app.sqlite"].map(replicate), [true, false, true, false, true, true]);
});

test("variables are replaced inside texts and can never change the structure", () => {
  const env = { HOST: "10.0.0.9", EVIL: "x\nlisten: 6.6.6.6:1", NESTED: "${HOST}", OFF: "false", EMPTY: "" };
  const read = config(`
node: {name: "\${NAME:-fallback}", region: "\${EMPTY:-r}"}
lease:
  primary: \${HOST}:7001
exec: ["\${EVIL}", "\${NESTED}", "$\${HOST}", "\${EMPTY}", "\${NONE:-}"]
databases: {a.db: {replicate: "\${OFF}"}}
`, env);
  assert.equal(read.node.name, "fallback");
  assert.equal(read.node.region, "r");
  assert.deepEqual(read.lease, { type: "static", primary: "10.0.0.9:7001", ttlMs: 10_000, candidate: true, promote: "auto" });
  assert.deepEqual(read.exec, ["x\nlisten: 6.6.6.6:1", "${HOST}", "${HOST}", "", ""]);
  assert.equal(read.listen, "127.0.0.1:7001");
  assert.equal(databaseSettings(read, "a.db").replicate, false);
});

/** Each file, and every sentence about it. `+` stands for the lines that make the rest of the file good. */
const BAD_FILES: readonly (readonly [text: string, sentences: readonly string[]])[] = [
  ["", [": lease: it is missing; add it: it names the primary, as in `lease: {primary: 10.0.0.1:7001}`"]],
  ["lease: {type: static}", ["line 1: lease.primary: it is missing; add it: the advertise address of the primary, or of this node if it is the primary"]],
  ["+lisen: 0.0.0.0:7001", ['line 2: lisen: this key is not known; did you mean "listen"?']],
  ["+\nfuse:\n  muont: /x", ['line 4: fuse.muont: this key is not known; did you mean "mount"?']],
  ["+mount: /x", ['line 2: mount: this key is not known here; it belongs below "fuse"']],
  ["+log: {databases: 1}", ["line 2: log.databases: this key is not known here; it belongs to the top level"]],
  ["+quorum: 3", ["line 2: quorum: this key is not known; remove it, or use one of node, data, fuse, listen, advertise, admin, lease, proxy, exec, log, databases, retention"]],
  ["+__proto__: 1", ['line 2: ["__proto__"]: this key is not known; remove it, or use one of node, data, fuse, listen, advertise, admin, lease, proxy, exec, log, databases, retention']],
  ["+databases: {a.db: {replicat: false}}", ['line 2: databases["a.db"].replicat: this key is not known; did you mean "replicate"?']],
  ["+databases: {a.db: {durability: fsync}}", ['line 2: databases["a.db"].durability: "fsync" is not known; did you mean "async"?']],
  ["+databases: {a.db: {durability: sync, syncReplicas: 0}}", ['line 2: databases["a.db"].syncReplicas: 0 is not a whole number from 1 to 16; write such a number']],
  ["+databases: {a.db: {replicate: 1}}", ['line 2: databases["a.db"].replicate: 1 is not true or false; write true or false']],
  ["+databases: {a.db: false}", ['line 2: databases["a.db"]: false is not a group of keys; write a group of keys']],
  ["+node: a", ['line 2: node: "a" is not a group of keys; write a group of keys']],
  ["+node:", ["line 2: node: an empty value is not a group of keys; write a group of keys"]],
  ["+node: {name: 5}", ["line 2: node.name: 5 is not a text; write a text, with quotes around it"]],
  ['+node: {name: "a b"}', ["line 2: node.name: it is not a name; use up to 63 letters, digits, dots, dashes and underscores"]],
  ["+exec: node server.js", ['line 2: exec: "node server.js" is not a list; write a list']],
  ["+exec: []", ["line 2: exec: the list is empty; give the command and its arguments, or remove the key"]],
  ["+listen: 7002", ['line 2: listen: 7002 is not an address; write host:port, such as "127.0.0.1:7001" (an IPv6 host in brackets)']],
  ["+listen: 300.1.1.1:80", ['line 2: listen: "300.1.1.1:80" is not an address; write host:port, such as "127.0.0.1:7001" (an IPv6 host in brackets)']],
  ["+listen: ::1:80", ['line 2: listen: "::1:80" is not an address; write host:port, such as "127.0.0.1:7001" (an IPv6 host in brackets)']],
  ["+listen: a:70000", ['line 2: listen: "a:70000" has port 70000; give a port from 1 to 65535']],
  ["+advertise: 0.0.0.0:7001", ["line 2: advertise: other programs cannot reach 0.0.0.0; give the name or address under which this machine is reached"]],
  ["+listen: 0.0.0.0:7001", ['line 2: advertise: it is missing, and other nodes cannot reach 0.0.0.0; give the address under which they reach this node, such as "10.0.0.1:7001"']],
  ["+advertise: 10.0.0.1:7001", ["line 1: lease.primary: it is the listen address of this node, but other nodes know it as 10.0.0.1:7001; write 10.0.0.1:7001 to make this node the primary"]],
  ["+admin: 127.0.0.1:7001", ["line 2: admin: 127.0.0.1:7001 is already used by listen; choose another port"]],
  ["+proxy: {listen: 0.0.0.0:7101, target: 127.0.0.1:3000}", ["line 2: proxy.listen: 0.0.0.0:7101 is already used by admin; choose another port"]],
  ["+proxy: {listen: 0.0.0.0:3000, target: localhost:3000}", ["line 2: proxy.target: localhost:3000 is the proxy itself; give the address of the application"]],
  ["+proxy: {}", ["line 2: proxy.target: it is missing; add it: the address of the application, such as 127.0.0.1:3000"]],
  ["+proxy: {target: a:1, advertise: a:1}", ['line 2: proxy.advertise: "a:1" has scheme a; write a URL with scheme, host and port only, such as "http://10.0.0.1:8080"']],
  ["+proxy: {target: a:1, advertise: http://a:1/x}", ['line 2: proxy.advertise: "http://a:1/x" has more than scheme, host and port; write a URL with scheme, host and port only, such as "http://10.0.0.1:8080"']],
  ["+proxy:\n  target: a:1\n  clients: ip\n  trustedHops: -1\n  accessLog: all\n  cookie: {sameSite: strikt}", [
    'line 4: proxy.clients: it is not known; write cookie, none, address, or header:NAME',
    'line 5: proxy.trustedHops: -1 is not a whole number from 0 to 16; write such a number',
    'line 6: proxy.accessLog: "all" is not a number from 0 to 1; write such a number',
    'line 7: proxy.cookie.sameSite: "strikt" is not known; did you mean "strict"?',
  ]],
  ["+proxy:\n  target: a:1\n  cookie: {sameSite: none}", ["line 2: proxy.cookie.sameSite: browsers drop a cookie with SameSite=None that is not Secure; set proxy.cookie.secure to true"]],
  ["+proxy:\n  target: a:1\n  rules:\n    - {path: admin, to: primary}\n    - {path: /x, to: here}", [
    'line 5: proxy.rules[0].path: the path does not start with a slash; write a path such as "/admin/*"',
    'line 6: proxy.rules[1].to: "here" is not known; write one of auto, local, primary',
  ]],
  ["+lease: {}", ["line 2: lease: this key stands twice; remove one of the two lines"]],
  ["lease: {primary: a:1, ttl: 10}", ['line 1: lease.ttl: 10 is not a duration; write a number with a unit (ms, s, m, h, d), such as "10s"']],
  ["lease: {primary: a:1, ttl: 10 s}", ['line 1: lease.ttl: "10 s" is not a duration; write a number with a unit (ms, s, m, h, d), such as "10s"']],
  ["lease: {primary: a:1, ttl: 1ms}", ['line 1: lease.ttl: "1ms" is out of range; give a duration from 1s to 1h']],
  ["lease: {primary: a:1, type: raft}", ['line 1: lease.type: "raft" is not known; write one of static, local, etcd, consul']],
  ["lease: {type: locla}", ['line 1: lease.type: "locla" is not known; did you mean "local"?']],
  ["lease: {type: local, primary: a:1}", ["line 1: lease.primary: with lease.type local the nodes elect the primary; remove it, or write lease.type static"]],
  ["lease: {type: local, path: /x}", ['line 1: lease.path: this key is not known here; it belongs below "lease.local"']],
  ["lease:\n  type: local\n  candidate: maybe\n  promote: never", ['line 3: lease.candidate: "maybe" is not true or false; write true or false', 'line 4: lease.promote: "never" is not known; write one of auto, manual']],
  ["lease: {type: local, local: {path: ''}}", ["line 1: lease.local.path: it is empty; give the path of a file"]],
  ["lease: {type: local, local: {path: /sluice/lease.db}}", ["line 1: lease.local.path: /sluice/lease.db and fuse.mount (/sluice) overlap; choose a place outside of it"]],
  ["lease: {type: etcd, etcd: {endpoint: a}}", ['line 1: lease.etcd.endpoint: this key is not known; did you mean "endpoints"?']],
  ["lease: {type: etcd, etcd: {endpoints: []}}", ['line 1: lease.etcd.endpoints: the list is empty; give the URLs of the etcd servers, such as "http://10.0.0.1:2379"']],
  ["lease:\n  type: etcd\n  etcd:\n    endpoints:\n      - http://a:2379\n      - b:2379", ['line 6: lease.etcd.endpoints[1]: "b:2379" has scheme b; write a URL with scheme, host and port only, such as "http://10.0.0.1:2379"']],
  ["lease: {type: etcd, etcd: {endpoints: [\"http://a:1\", \"https://b:1\"]}}", ["line 1: lease.etcd.endpoints: http://a:1 and https://b:1 have different schemes; write http for all, or https for all"]],
  ["lease: {type: etcd, etcd: {prefix: sluice}}", ["line 1: lease.etcd.prefix: it is not the beginning of a key; write a slash and a name, such as /sluice"]],
  ["lease: {type: etcd, etcd: {user: root}}", ["line 1: lease.etcd.password: it is missing, and user is of no use without it; add it"]],
  ["lease: {type: etcd, etcd: {ca: ca.pem}}", ["line 1: lease.etcd.ca: the endpoints are http, so it would not be looked at; write https in lease.etcd.endpoints, or remove it"]],
  ["lease: {type: etcd, etcd: {endpoints: [\"https://a:1\"], key: k.pem}}", ["line 1: lease.etcd.cert: it is missing, and key is of no use without it; add it"]],
  ["node: {name: a}\nlease: {type: etcd, etcd: {spawn: {peers: {b: \"http://10.0.0.2:2380\"}}}}", ['line 2: lease.etcd.spawn.peers: it does not name this node, a; add it, as in {a: "http://10.0.0.1:2380"}']],
  ["node: {name: a}\nlease: {type: etcd, etcd: {endpoints: [\"http://10.0.0.2:2379\"], spawn: {peers: {a: \"http://10.0.0.1:2380\"}}}}", ['line 2: lease.etcd.endpoints: none of them is on this machine, where the node starts an etcd; add its own, such as "http://127.0.0.1:2379"']],
  ["node: {name: a}\nlease: {type: etcd, etcd: {spawn: {data: /var/lib/sluice/etcd, peers: {a: \"http://10.0.0.1:2380\"}}}}", ["line 2: lease.etcd.spawn.data: /var/lib/sluice/etcd and data (/var/lib/sluice) overlap; choose a place outside of it"]],
  ["lease: {type: consul, ttl: 5s}", ["line 1: lease.ttl: Consul has no sessions shorter than 10s; write 10s or more"]],
  ["lease: {type: consul, consul: {url: consul, key: /x}}", ['line 1: lease.consul.url: "consul" is not a URL; write a URL with scheme, host and port only, such as "http://127.0.0.1:8500"', "line 1: lease.consul.key: it is not the beginning of a key; write a name without a slash at its ends, such as sluice"]],
  ["+retention: {bytes: 256M}", ['line 2: retention.bytes: "256M" is not a size; write a number with a unit (KiB, MiB, GiB, KB, MB, GB), such as "256MiB"']],
  ["+retention: {bytes: 1KiB}", ['line 2: retention.bytes: "1KiB" is out of range; give a size from 1MiB to 1024TiB']],
  ["+log: {level: warning}", ['line 2: log.level: "warning" is not known; write one of trace, debug, info, warn, error, fatal, silent']],
  ["+log: {level: inof}", ['line 2: log.level: "inof" is not known; did you mean "info"?']],
  ["+data: /a/b\nfuse: {mount: /a/b/c}", ["line 3: fuse.mount: data (/a/b) and fuse.mount (/a/b/c) overlap; give two folders of which neither lies in the other"]],
  ["+data: /a/b/c\nfuse: {mount: /a/b}", ["line 2: data: data (/a/b/c) and fuse.mount (/a/b) overlap; give two folders of which neither lies in the other"]],
  ["+data: /a\nfuse: {mount: /a}", ["line 2: data: data (/a) and fuse.mount (/a) overlap; give two folders of which neither lies in the other"]],
  [`+data: /${"d".repeat(100)}`, ["line 2: data: the path is 10 bytes too long for the sockets in it; choose a shorter path"]],
  ["+exec: [\"${NONE}\"]", ["line 2: exec[0]: the variable NONE is not set; set it in the environment, or write a default: ${NONE:-value}"]],
  ["+exec: [\"${1x}\"]", ['line 2: exec[0]: "${1x}" is not a variable; write ${NAME} or ${NAME:-default}, and $${ for the characters themselves']],
  ["+exec: [\"${x\"]", ['line 2: exec[0]: "${" is not a variable; write ${NAME} or ${NAME:-default}, and $${ for the characters themselves']],
  ["lease: {primary: ${NONE}:7001}", ['line 1: it is not YAML: Unexpected flow-map-start at node end; put quotes around a text that contains ${…}: "${NAME}"']],
  ["+log:\n\tlevel: info", ["line 3: it is not YAML: Tabs are not allowed as indentation; correct the indentation, quotes or brackets near this line"]],
  ["- a", [": a list is not a group of keys; write a group of keys"]],
  ["+log: &a {level: *a}", ["line 2: log.level: it is nested too deeply, or too large; write it without aliases"]],
  [`+log:\n  a: &a [1,1,1,1,1,1,1,1,1,1]\n  b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n  c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n  d: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]`, ["line 6: log.d: it is nested too deeply, or too large; write it without aliases"]],
];

for (const [text, sentences] of BAD_FILES) {
  test(`refuses ${JSON.stringify(text.slice(0, 60))} in so many words`, () => {
    assert.deepEqual(messages(text.replace(/^\+/, MINIMAL)).map((message) => message.slice(0, 400)), sentences);
  });
}

test("problems are listed in the order of the file", () => {
  const lines = messages("lisen: 1\nlease: {primary: x}\nlog: {level: x}\nnod: {}\n").map((message) => /^line (\d)/.exec(message)?.[1]);
  assert.deepEqual(lines, ["1", "2", "3", "4"]);
});

test("a file that is missing, or a folder, is named", () => {
  for (const [path, reason] of [["/nonexistent/sluice.yml", "there is no such file"], ["/tmp", "it is a folder"]] as const) {
    assert.throws(() => loadConfig(path), (error) => isAppError(error, "CONFIG_INVALID") && error.message.startsWith(`Cannot use configuration ${path}: ${reason};`));
  }
});

test("loadConfig() throws the first problem and carries the others", () => {
  const path = new URL("../../package.json", import.meta.url).pathname;
  assert.throws(() => loadConfig(path), (error) => isAppError(error, "CONFIG_INVALID") && configErrors(error).length > 3 && configErrors(error).every((one) => one.message.includes(path)));
});

test("whatever the file holds, the answer is a configuration or a list of problems", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), fc.string(), (noise, value) => {
    for (const text of [noise, `${MINIMAL}node: {name: ${JSON.stringify(value)}}`, `${MINIMAL}listen: ${JSON.stringify(value)}`, `${MINIMAL}${noise}`]) {
      const result = parseConfig(text, FILE, {});
      assert.ok("config" in result || result.problems.length > 0);
      if ("problems" in result) for (const problem of result.problems) assert.ok(problem.reason !== "" && problem.remedy !== "" && problem.line >= 0);
    }
  }), { numRuns: 100 });
});

test("durations and sizes read back what was written", () => {
  const bounds = { minMs: 0, maxMs: Number.MAX_SAFE_INTEGER };
  fc.assert(fc.property(fc.integer({ min: 0, max: 10 ** 10 }), (ms) => assert.deepEqual(parseDuration(formatDuration(ms), bounds), { value: ms })));
  fc.assert(fc.property(fc.integer({ min: 0, max: 1023 }), fc.constantFrom(1, 2 ** 10, 2 ** 20, 2 ** 30), (count, unit) => {
    assert.deepEqual(parseSize(formatSize(count * unit), { minBytes: 0, maxBytes: Number.MAX_SAFE_INTEGER }), { value: count * unit });
  }));
});

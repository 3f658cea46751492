/** Path rules: anchored globs on the path as an application reads it, and no path that could choose its rule. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { NO_RULE, ruleMatcher, type PathRule } from "../../../proxy/rules.ts";

/** Only where a path goes. */
const goesTo = (rules: readonly PathRule[]) => {
  const matcher = ruleMatcher(rules);
  return (target: string): string => matcher(target)?.to ?? "ambiguous";
};

const match = goesTo([
  { path: "/assets/*", to: "local" },
  { path: "/admin", to: "primary" },
  { path: "/admin/*", to: "primary" },
  { path: "/assets/x", to: "primary" },
  { path: "*.png", to: "local" },
  { path: "/café", to: "primary" },
  { path: "/a b/*", to: "primary" },
]);

test("a pattern covers the whole path, the first match wins, the query does not count", () => {
  assert.equal(match("/assets/app.css"), "local");
  assert.equal(match("/assets/x"), "local");
  assert.equal(match("/assets"), "none");
  assert.equal(match("/admin"), "primary");
  assert.equal(match("/admin?x=/assets/"), "primary");
  assert.equal(match("/admin/users/1?y"), "primary");
  assert.equal(match("/xadmin"), "none");
  assert.equal(match("/deep/er/logo.png"), "local");
  assert.equal(match("/logo.png2"), "none");
  assert.equal(match("/logoxpng"), "none");
  assert.equal(match("/"), "none");
});

test("a rule is written in plain characters and meets their encoded forms", () => {
  assert.equal(match("/caf%C3%A9"), "primary");
  assert.equal(match("/a%20b/c"), "primary");
  assert.equal(match("/%61dmin"), "primary");
  assert.equal(match("/admin/100%25"), "primary");
  assert.equal(match("/admin/caf%E9"), "primary");
  assert.equal(match("/x/%zz"), "none");
});

test("a path whose rule depends on who reads it is ambiguous", () => {
  for (const path of [
    "/assets/../admin", "/assets/..%2fadmin", "/assets/%2e%2e/admin", "/assets%2f..%2fadmin", "/admin%2fusers", "//admin", "/./admin", "/x/..;/admin",
    "/admin;v=1", "/assets/%252e%252e/admin/x", "/x%5c..%5cadmin", "/assets/..//admin/x", "/admin/..", "/x/../assets/y",
  ]) assert.equal(match(path), "ambiguous", path);
});

test("odd paths that fall under one rule in every reading pass", () => {
  for (const path of ["/notes//1", "/notes/../other", "/notes/a%2Fb", "/n;v=1/x", "/notes/./x"]) assert.equal(match(path), "none", path);
  assert.equal(match("/admin/a%2Fb"), "primary");
});

test("without rules nothing is examined", () => {
  assert.equal(ruleMatcher([])("/assets/..%2fadmin"), NO_RULE);
});

test("characters that mean something in regular expressions mean themselves", () => {
  const odd = goesTo([{ path: "/a+(b)[c]{d}^$.|?/*", to: "primary" }]);
  assert.equal(odd("/a+(b)[c]%7Bd%7D%5E$.%7C%3F/x"), "primary");
  assert.equal(odd("/aa(b)[c]{d}^$.|"), "none");
});

test("a rule says what counts beyond the place; what it leaves out is as without a rule", () => {
  const matcher = ruleMatcher([
    { path: "/reports/*", consistency: "eventual", databases: ["reports/*", "main.db"] }, { path: "/feed", cookie: false }, { path: "/account/*", consistency: "strong" }, { path: "/same/*" },
  ]);
  const reports = matcher("/reports/1")!;
  assert.deepEqual([reports.to, reports.cookie, reports.consistency], ["none", true, "eventual"]);
  assert.deepEqual(["main.db", "reports/a.db", "xmain.db", "other.db"].map((name) => reports.counts!(name)), [true, true, false, false]);
  assert.equal(matcher("/feed")!.cookie, false);
  assert.equal(matcher("/account/me")!.consistency, "strong");
  assert.equal(matcher("/same/x"), NO_RULE);
  assert.equal(matcher("/other"), NO_RULE);
  // Two rules that differ in anything are two readings; those that say the same are one.
  assert.equal(matcher("/account/..%2freports/1"), undefined);
  assert.equal(matcher("/same/..%2fother"), NO_RULE);
});

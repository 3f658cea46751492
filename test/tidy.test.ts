/**
 * Checks on the repository itself: what documents and tables say is what the code does.
 *
 * Each check also counts what it has looked at: one that has seen nothing has checked nothing.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { globSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { builtinModules } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { ERRORS } from "../proto/errors.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

/** The cells of the table rows below a heading of a Markdown text, head and rule left out. */
function tableBelow(text: string, heading: string): string[][] {
  const section = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  assert.ok(section !== undefined, `there is no section "${heading}"`);
  return section.split("\n").filter((line) => line.startsWith("|")).slice(2).map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
}

interface Edge { readonly file: string; readonly specifier: string }

/** Every import, export from, and dynamic import of a source file. AssemblyScript is another language. */
function importsOf(folder: string): { files: string[]; edges: Edge[] } {
  const files = globSync(`${folder}/**/*.ts`, { cwd: ROOT, exclude: (name) => name === "node_modules" }).filter((file) => !file.endsWith(".as.ts"));
  const edges = files.flatMap((file) => {
    const code = read(file).replace(/\/\*[^]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
    const specifiers = [...code.matchAll(/(?:^|\n)\s*(?:import|export)\b[^"';]*?\bfrom\s*"([^"]+)"|(?:^|\n)\s*import\s*"([^"]+)"|\bimport\(\s*"([^"]+)"/g)];
    return specifiers.map((match) => ({ file, specifier: match[1] ?? match[2] ?? match[3]! }));
  });
  return { files, edges };
}

const PRODUCT = "{node,proxy,proto}";

test("every folder imports only what the table in ARCHITECTURE.md allows it", () => {
  const rows = tableBelow(read("ARCHITECTURE.md"), "Who imports whom");
  const mayImport = new Map(rows.map(([folder, list]) => [folder!, new Set((list ?? "").split(",").map((name) => name.trim()).filter(Boolean))]));
  assert.ok(mayImport.size >= 10, `only ${mayImport.size} rows were read`);
  const folderOf = (file: string): string => [...mayImport.keys()].filter((folder) => file.startsWith(`${folder}/`)).sort((a, b) => b.length - a.length)[0] ?? "";
  const { files, edges } = importsOf(PRODUCT);
  const inner = edges.filter(({ specifier }) => specifier.startsWith("."));
  assert.ok(files.length > 40, `only ${files.length} files were seen`);
  assert.ok(inner.length > 100, `only ${inner.length} imports were seen`);
  const violations = inner.flatMap(({ file, specifier }) => {
    const target = join(dirname(file), specifier);
    const [from, to] = [folderOf(file), folderOf(target)];
    return to !== "" && (from === to || mayImport.get(from)?.has(to) === true) ? [] : [`${file} imports ${target}`];
  });
  assert.deepEqual(violations, []);
  for (const [folder, allowed] of mayImport) for (const name of allowed) assert.ok(mayImport.has(name), `${folder} may import ${name}, which has no row`);
});

test("every package that the product imports is a dependency, and every dependency is used", () => {
  const manifest = JSON.parse(read("package.json")) as { dependencies: Record<string, string>; devDependencies: Record<string, string> };
  const outside = new Set(importsOf(PRODUCT).edges.map(({ specifier }) => specifier).filter((name) => !name.startsWith(".") && !name.startsWith("node:")));
  const packages = new Set([...outside].map((name) => name.split("/").slice(0, name.startsWith("@") ? 2 : 1).join("/")));
  assert.ok(packages.size >= 5, `only ${packages.size} packages were seen`);
  for (const name of packages) {
    assert.ok(!builtinModules.includes(name), `write node:${name}`);
    assert.ok(name in manifest.dependencies, `${name} is imported but is no dependency`);
  }
});

test("package.json and package-lock.json name the same versions", () => {
  const manifest = JSON.parse(read("package.json")) as Record<string, unknown>;
  const lock = JSON.parse(read("package-lock.json")) as { packages: Record<string, Record<string, unknown>> };
  const root = lock.packages[""] ?? {};
  // npm lists optional packages a second time among the others when it writes the lock file from an installed tree.
  const required = Object.fromEntries(Object.entries(root["dependencies"] ?? {}).filter(([name]) => !(name in ((manifest["optionalDependencies"] ?? {}) as object))));
  assert.deepEqual({ ...root, dependencies: required }["dependencies"], manifest["dependencies"], "dependencies");
  for (const key of ["name", "version", "devDependencies", "optionalDependencies"]) assert.deepEqual(root[key], manifest[key], key);
  for (const name of Object.keys({ ...(manifest["dependencies"] as object), ...(manifest["devDependencies"] as object) })) assert.ok(`node_modules/${name}` in lock.packages, name);
});

test("proto/README.md lists exactly the errors of the table, in its order, with its columns", () => {
  const rows = tableBelow(read("proto/README.md"), "Errors");
  const table = Object.entries(ERRORS).map(([code, row]) => [code, row.grpc, String(row.http), row.errno]);
  assert.ok(table.length > 10);
  assert.deepEqual(rows, table);
  assert.deepEqual(Object.keys(ERRORS), Object.keys(ERRORS).toSorted(), "errors.ts is sorted by code");
});

test("every error of the table is raised somewhere", () => {
  const code = [...importsOf(PRODUCT).files].filter((file) => file !== "proto/errors.ts").map(read).join("\n");
  const unused = Object.keys(ERRORS).filter((name) => !code.includes(`"${name}"`));
  assert.deepEqual(unused, []);
});

test("proto/README.md explains exactly the messages of each .proto file, in its order", () => {
  for (const file of ["cluster.proto", "replication.proto"]) {
    const messages = [...read(`proto/${file}`).matchAll(/^message (\w+)/gm)].map((match) => match[1]!);
    assert.ok(messages.length >= 8, `only ${messages.length} messages in ${file}`);
    const rows = tableBelow(read("proto/README.md"), `Messages of ${file}`);
    assert.deepEqual(rows.map(([name]) => name), messages);
    for (const [name, meaning] of rows) assert.ok((meaning ?? "").length > 10, `${name} has no meaning`);
  }
});

test("proto/gen is what `make gen` writes", () => {
  const folder = mkdtempSync(join(tmpdir(), "gen-"));
  try {
    const flags = /proto-loader-gen-types ((?:[^\n]*\\\n)*[^\n]*)/.exec(read("Makefile"))?.[1]?.replaceAll("\\\n", " ").trim().split(/\s+/) ?? [];
    assert.ok(flags.some((flag) => flag === "--outDir=proto/gen"), `the flags in the Makefile were not found: ${flags.join(" ")}`);
    const args = flags.map((flag) => (flag.startsWith("--outDir=") ? `--outDir=${folder}` : flag));
    const { status, stderr } = spawnSync(process.execPath, [join(ROOT, "node_modules/.bin/proto-loader-gen-types"), ...args], { cwd: ROOT, encoding: "utf8" });
    assert.equal(status, 0, stderr);
    const [made, kept] = [filesBelow(folder), filesBelow(join(ROOT, "proto/gen"))];
    assert.ok(Object.keys(made).length > 10);
    assert.deepEqual(kept, made);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

function filesBelow(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map((entry) => join(entry.parentPath, entry.name)).sort();
  return Object.fromEntries(paths.map((path) => [relative(folder, path), readFileSync(path, "utf8")]));
}

test("every source file opens by saying what it is", () => {
  const files = importsOf("{node,proxy,proto,test,bench}").files.filter((file) => !file.startsWith("proto/gen/"));
  assert.ok(files.length > 60, `only ${files.length} files were seen`);
  assert.deepEqual(files.filter((file) => !/^\/\*\*|^\/\//.test(read(file))), []);
});

test("no file tells of the place where it was written", () => {
  // Written in two halves, so that this file does not hold them itself.
  const words = [["farm", "-studio"], ["/work", "/.library"], ["/work", "/main"], ["/work", "/shared"], ["shared", "/lab"], ["help", "er session"]].map((halves) => halves.join(""));
  const list = spawnSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { cwd: ROOT, encoding: "utf8" });
  assert.equal(list.status, 0, list.stderr);
  const files = list.stdout.split("\n").filter((file) => /\.(ts|js|mjs|json|ya?ml|md|proto|sh|txt|html|css|svg)$|^(Makefile|bin\/|\.ci\/)/.test(file) && !file.endsWith("package-lock.json"));
  assert.ok(files.length > 80, `only ${files.length} files were seen`);
  const found = files.flatMap((file) => {
    let text = "";
    try {
      text = read(file).toLowerCase();
    } catch (error) {
      // Removed from the tree, not yet from the index.
      assert.equal((error as NodeJS.ErrnoException).code, "ENOENT");
    }
    return words.filter((word) => text.includes(word)).map((word) => `${file}: ${word}`);
  });
  assert.deepEqual(found, []);
});

/**
 * A real fuse-native mount for a test: the product's serving process, and an engine process with trivial hooks.
 *
 * Always holds: dispose() unmounts, ends both processes and removes the folder, also after a failure. Where the host cannot mount with this
 * driver, `skipWithoutNative` says what is missing.
 */
import { fork, type ChildProcess } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Config } from "../../node/core/config.ts";
import { findObstacle, startMountServer, unmountNative, type MountServer } from "../../node/fuse-native/host.ts";
import type { HookCall } from "./fuse-mount.ts";
import type { NativeEngineOptions } from "./native-engine.ts";

const obstacle = findObstacle();
/** For `skip:` of a test; false where this host can mount with fuse-native. */
export const skipWithoutNative: string | false = obstacle === undefined ? false : `NOT TESTED HERE: no mount with fuse-native on this host: ${obstacle}`;
if (skipWithoutNative !== false) console.error(skipWithoutNative);

export class NativeMount {
  readonly folder: string;
  readonly mountPoint: string;
  readonly filesDir: string;
  readonly hooks: HookCall[] = [];
  readonly #options: Partial<NativeEngineOptions>;
  readonly #calls = new Map<number, (value: unknown) => void>();
  server: MountServer | undefined;
  #engine: ChildProcess | undefined;
  #nextCall = 1;

  static async start(options: Partial<NativeEngineOptions> = {}): Promise<NativeMount> {
    const mount = new NativeMount(options);
    try {
      const config = { data: mount.folder, fuse: { mount: mount.mountPoint, driver: "fuse-native" }, databases: [] } as unknown as Config;
      mount.server = await startMountServer(config, "ignore");
      await mount.startEngine();
    } catch (error) {
      await mount.dispose();
      throw error;
    }
    return mount;
  }

  private constructor(options: Partial<NativeEngineOptions>) {
    this.#options = options;
    this.folder = fs.mkdtempSync(join(tmpdir(), "sluice-native-"));
    [this.mountPoint, this.filesDir] = [join(this.folder, "mount"), join(this.folder, "files")];
    for (const folder of [this.mountPoint, this.filesDir, join(this.folder, "run")]) fs.mkdirSync(folder);
  }

  async startEngine(): Promise<void> {
    const options: NativeEngineOptions = {
      socket: join(this.folder, "run", "mount.sock"), mountPoint: this.mountPoint, filesDir: this.filesDir, role: "primary", gate: "open", virtual: {}, refuse: [], hookDelay: 0, ...this.#options,
    };
    const child = fork(new URL("native-engine.ts", import.meta.url), [JSON.stringify(options)], { execPath: process.execPath, execArgv: [], serialization: "advanced", stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.#engine = child;
    await new Promise<void>((resolve, reject) => {
      child.on("message", (message: { ready?: true; id?: number; value?: unknown; hook?: string; args?: unknown[] }) => {
        if (message.ready) resolve();
        if (message.hook !== undefined) this.hooks.push({ hook: message.hook, args: message.args ?? [] });
        if (message.id !== undefined) this.#calls.get(message.id)?.(message.value);
      });
      child.on("exit", (code, signal) => reject(new Error(`the engine ended: ${code ?? signal}`)));
    });
  }

  path(name: string): string {
    return join(this.mountPoint, name);
  }

  backing(name: string): string {
    return join(this.filesDir, name);
  }

  /** Calls a method of the engine's MountControl. */
  async call<T = void>(method: string, ...args: unknown[]): Promise<T> {
    const id = this.#nextCall++;
    const { promise, resolve } = Promise.withResolvers<unknown>();
    this.#calls.set(id, resolve);
    this.#engine?.send({ id, method, args });
    return (await promise) as T;
  }

  /** kill -9 of the engine. */
  async killEngine(): Promise<void> {
    const child = this.#engine;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  async dispose(): Promise<void> {
    await this.killEngine();
    try {
      unmountNative(this.mountPoint);
    } catch (error) {
      // Not mounted.
      if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
    }
    await this.server?.end();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

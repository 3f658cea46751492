/**
 * Whether a disk has room for what is about to be written to it, and which disk that is, in words for an operator.
 *
 * Always holds: what is asked for is what is certain to be written, never more, so that nothing is refused that would have gone well; what
 * happens to the space meanwhile shows as STORAGE_FULL.
 */
import fs from "node:fs";

export interface Disk {
  /** Device and place, as `df` shows them. */
  readonly name: string;
  readonly freeBytes: number;
  /** A copy of a whole file takes no blocks of its own at first. */
  readonly sharesBlocks: boolean;
}

/** statfs types of file systems on which it does: btrfs, xfs, bcachefs. */
const SHARING: ReadonlySet<number> = new Set([0x9123683e, 0x58465342, 0xca451a4e]);

/** The disk below an existing path. */
export function diskOf(path: string): Disk {
  const { bavail, bsize, type } = fs.statfsSync(path);
  return { name: diskName(fs.readFileSync("/proc/self/mountinfo", "utf8"), fs.realpathSync(path)), freeBytes: bavail * bsize, sharesBlocks: SHARING.has(type) };
}

/** What is mounted where the path lies: the last of those that reach deepest. Pure. */
export function diskName(mountinfo: string, path: string): string {
  let best = { at: "", source: "" };
  for (const line of mountinfo.split("\n")) {
    const [, , , , mountPoint, ...rest] = line.split(" ");
    const source = rest[rest.indexOf("-") + 2];
    if (mountPoint === undefined || source === undefined) continue;
    const at = mountPoint.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
    const holds = at === "/" || path === at || path.startsWith(`${at}/`);
    if (holds && at.length >= best.at.length) best = { at, source };
  }
  return best.at === "" ? path : `${best.source} at ${best.at}`;
}

/** What a repair writes: pure. `replaced`: bytes of the old files that are copied; `whole`: of the new database; `here`: of it that have come already. */
export function repairBytes(sizes: { readonly replaced: number; readonly whole: number; readonly here: number; readonly wal: number; readonly open: boolean }, sharesBlocks: boolean): number {
  const copies = sharesBlocks ? 0 : sizes.replaced;
  // Where programs have the database open, every page goes through the WAL, which is written over as far as it reaches.
  const wal = sizes.open ? Math.max(0, sizes.whole - sizes.wal) : 0;
  return copies + Math.max(0, sizes.whole - sizes.here) + wal;
}

/** Why there is not enough room; undefined when there is. Pure. */
export function whyNoRoom(disk: Disk, bytes: number): string | undefined {
  return disk.freeBytes >= bytes ? undefined : `${disk.name} has ${mebibytes(disk.freeBytes, Math.floor)} free and this needs ${mebibytes(bytes, Math.ceil)}`;
}

/** Rounded so that what is too little never reads as enough. */
const mebibytes = (bytes: number, round: (value: number) => number): string => `${(round(bytes / 2 ** 20 * 10) / 10).toFixed(1)} MiB`;

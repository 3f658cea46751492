/** Builders for LTX tests: headers, pages, whole files. */
import { CHECKSUM_FLAG, combine, pageChecksum } from "../../../node/core/checksums.ts";
import { LtxEncoder } from "../../../node/ltx/encoder.ts";
import type { LtxHeader } from "../../../node/ltx/header.ts";
import { lockPgno } from "../../../node/sqlite/database-header.ts";

export const PAGE_SIZES: readonly number[] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

export function headerOf(fields: Partial<LtxHeader> = {}): LtxHeader {
  const minTxid = fields.minTxid ?? 2;
  return {
    flags: 0, pageSize: 4096, commit: 10, minTxid, maxTxid: minTxid, timestamp: 1_700_000_000_000,
    preApplyChecksum: minTxid === 1 ? 0n : CHECKSUM_FLAG | 77n, walOffset: 32, walSize: 4120, walSalt1: 0xfedcba98, walSalt2: 7, nodeId: 0x8123456789abcdefn, ...fields,
  };
}

/** A page that differs with number and version: half text, half noise, or zeros for every fifth. */
export function pageOf(pgno: number, pageSize: number, version = 0): Buffer {
  const page = Buffer.alloc(pageSize);
  if (pgno % 5 === 4) return page;
  page.write(`page ${pgno} version ${version} `.repeat(pageSize / 32), "latin1");
  let x = (pgno * 2654435761 + version * 40503) >>> 0 || 1;
  for (let i = pageSize >> 1; i < pageSize; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    page[i] = x;
  }
  return page;
}

/** Encodes a file. The post-apply checksum is that of the pages unless given. */
export function encodeFile(header: LtxHeader, pages: ReadonlyMap<number, Buffer>, options: { compress?: boolean; postApply?: bigint } = {}): Buffer {
  const chunks: Buffer[] = [];
  const encoder = new LtxEncoder((chunk) => chunks.push(chunk), header, { compress: options.compress ?? true });
  let checksum = CHECKSUM_FLAG;
  for (const [pgno, page] of [...pages].sort(([a], [b]) => a - b)) {
    encoder.page(pgno, page);
    checksum = combine(checksum, pageChecksum(pgno, page));
  }
  encoder.finish(options.postApply ?? checksum);
  return Buffer.concat(chunks);
}

export function snapshotPages(commit: number, pageSize: number, version = 0): Map<number, Buffer> {
  const pages = new Map<number, Buffer>();
  for (let pgno = 1; pgno <= commit; pgno++) if (pgno !== lockPgno(pageSize)) pages.set(pgno, pageOf(pgno, pageSize, version));
  return pages;
}

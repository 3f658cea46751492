/**
 * The part of the FUSE kernel interface that Sluice speaks: struct layouts and constants, under the kernel header's own names.
 *
 * Always holds: each struct is a table of byte offsets, SIZE is the struct's size; test/fixtures/fuse-abi.txt holds the same facts and a
 * test compares the two. All numbers are little-endian: 64-bit x86 and arm Linux. Source: include/uapi/linux/fuse.h, version 7.45.
 */

export const FUSE_KERNEL_VERSION = 7;
export const FUSE_KERNEL_MINOR_VERSION = 45;
/** Node id of the root of a mount. */
export const FUSE_ROOT_ID = 1;
/** Opcode of the request that answers FUSE_NOTIFY_RETRIEVE. */
export const FUSE_NOTIFY_REPLY = 41;

/** Flags of INIT, first word. */
export const FUSE_ASYNC_READ = 1 << 0;
export const FUSE_BIG_WRITES = 1 << 5;
export const FUSE_PARALLEL_DIROPS = 1 << 18;
export const FUSE_MAX_PAGES = 1 << 22;
export const FUSE_HANDLE_KILLPRIV_V2 = 1 << 28;
export const FUSE_INIT_EXT = 1 << 30;
/** Flags of INIT, second word (bit 32 of the header is bit 0 here). */
export const FUSE2_PASSTHROUGH = 1 << 5;
export const FUSE2_HAS_RESEND = 1 << 7;

/** fuse_open_out.open_flags. */
export const FOPEN_DIRECT_IO = 1 << 0;
export const FOPEN_NOFLUSH = 1 << 5;
export const FOPEN_PASSTHROUGH = 1 << 7;

/** fuse_setattr_in.valid. */
export const FATTR_MODE = 1 << 0;
export const FATTR_UID = 1 << 1;
export const FATTR_GID = 1 << 2;
export const FATTR_SIZE = 1 << 3;
export const FATTR_ATIME = 1 << 4;
export const FATTR_MTIME = 1 << 5;
export const FATTR_ATIME_NOW = 1 << 7;
export const FATTR_MTIME_NOW = 1 << 8;
export const FATTR_KILL_SUIDGID = 1 << 11;

/** fuse_write_in.write_flags, fuse_fsync_in.fsync_flags, fuse_rename2_in.flags. */
export const FUSE_WRITE_KILL_SUIDGID = 1 << 2;
export const FUSE_FSYNC_FDATASYNC = 1 << 0;
export const RENAME_NOREPLACE = 1 << 0;

/** Bit 63 of `unique`, here of its upper word: the kernel repeats a request that an earlier server had read. */
export const FUSE_UNIQUE_RESEND_HIGH = 0x80000000;

/** Codes of unasked messages to the kernel. */
export const FUSE_NOTIFY_INVAL_INODE = 2;
export const FUSE_NOTIFY_INVAL_ENTRY = 3;
export const FUSE_NOTIFY_STORE = 4;
export const FUSE_NOTIFY_RETRIEVE = 5;
export const FUSE_NOTIFY_RESEND = 7;
export const FUSE_NOTIFY_INC_EPOCH = 8;
/** First minor version whose kernel knows FUSE_NOTIFY_INC_EPOCH. */
export const FUSE_INC_EPOCH_MINOR = 44;

export const fuse_attr = { SIZE: 88, ino: 0, size: 8, blocks: 16, atime: 24, mtime: 32, ctime: 40, atimensec: 48, mtimensec: 52, ctimensec: 56, mode: 60, nlink: 64, uid: 68, gid: 72, rdev: 76, blksize: 80, flags: 84 } as const;
export const fuse_kstatfs = { SIZE: 80, blocks: 0, bfree: 8, bavail: 16, files: 24, ffree: 32, bsize: 40, namelen: 44, frsize: 48 } as const;
export const fuse_entry_out = { SIZE: 128, nodeid: 0, generation: 8, entry_valid: 16, attr_valid: 24, entry_valid_nsec: 32, attr_valid_nsec: 36, attr: 40 } as const;
export const fuse_forget_in = { SIZE: 8, nlookup: 0 } as const;
export const fuse_forget_one = { SIZE: 16, nodeid: 0, nlookup: 8 } as const;
export const fuse_batch_forget_in = { SIZE: 8, count: 0 } as const;
export const fuse_getattr_in = { SIZE: 16, getattr_flags: 0, fh: 8 } as const;
export const fuse_attr_out = { SIZE: 104, attr_valid: 0, attr_valid_nsec: 8, attr: 16 } as const;
export const fuse_mknod_in = { SIZE: 16, mode: 0, rdev: 4, umask: 8 } as const;
export const fuse_mkdir_in = { SIZE: 8, mode: 0, umask: 4 } as const;
export const fuse_rename_in = { SIZE: 8, newdir: 0 } as const;
export const fuse_rename2_in = { SIZE: 16, newdir: 0, flags: 8 } as const;
export const fuse_setattr_in = { SIZE: 88, valid: 0, fh: 8, size: 16, lock_owner: 24, atime: 32, mtime: 40, ctime: 48, atimensec: 56, mtimensec: 60, ctimensec: 64, mode: 68, uid: 76, gid: 80 } as const;
export const fuse_open_in = { SIZE: 8, flags: 0, open_flags: 4 } as const;
export const fuse_create_in = { SIZE: 16, flags: 0, mode: 4, umask: 8, open_flags: 12 } as const;
export const fuse_open_out = { SIZE: 16, fh: 0, open_flags: 8, backing_id: 12 } as const;
export const fuse_release_in = { SIZE: 24, fh: 0, flags: 8, release_flags: 12, lock_owner: 16 } as const;
export const fuse_read_in = { SIZE: 40, fh: 0, offset: 8, size: 16, read_flags: 20, lock_owner: 24, flags: 32 } as const;
export const fuse_write_in = { SIZE: 40, fh: 0, offset: 8, size: 16, write_flags: 20, lock_owner: 24, flags: 32 } as const;
export const fuse_write_out = { SIZE: 8, size: 0 } as const;
export const fuse_fsync_in = { SIZE: 16, fh: 0, fsync_flags: 8 } as const;
export const fuse_init_in = { SIZE: 64, major: 0, minor: 4, max_readahead: 8, flags: 12, flags2: 16 } as const;
export const fuse_init_out = { SIZE: 64, major: 0, minor: 4, max_readahead: 8, flags: 12, max_background: 16, congestion_threshold: 18, max_write: 20, time_gran: 24, max_pages: 28, map_alignment: 30, flags2: 32, max_stack_depth: 36, request_timeout: 40 } as const;
export const fuse_interrupt_in = { SIZE: 8, unique: 0 } as const;
export const fuse_in_header = { SIZE: 40, len: 0, opcode: 4, unique: 8, nodeid: 16, uid: 24, gid: 28, pid: 32, total_extlen: 36 } as const;
export const fuse_out_header = { SIZE: 16, len: 0, error: 4, unique: 8 } as const;
export const fuse_dirent = { SIZE: 24, ino: 0, off: 8, namelen: 16, type: 20, name: 24 } as const;
export const fuse_notify_inval_inode_out = { SIZE: 24, ino: 0, off: 8, len: 16 } as const;
export const fuse_notify_inval_entry_out = { SIZE: 16, parent: 0, namelen: 8, flags: 12 } as const;
export const fuse_notify_store_out = { SIZE: 24, nodeid: 0, offset: 8, size: 16 } as const;
export const fuse_notify_retrieve_out = { SIZE: 32, notify_unique: 0, nodeid: 8, offset: 16, size: 24 } as const;
export const fuse_notify_retrieve_in = { SIZE: 40, offset: 8, size: 16 } as const;
export const fuse_backing_map = { SIZE: 16, fd: 0, flags: 4 } as const;

/** Every struct above, for the test that compares them with the fixture. */
export const STRUCTS = {
  fuse_attr, fuse_kstatfs, fuse_entry_out, fuse_forget_in, fuse_forget_one, fuse_batch_forget_in, fuse_getattr_in, fuse_attr_out,
  fuse_mknod_in, fuse_mkdir_in, fuse_rename_in, fuse_rename2_in, fuse_setattr_in, fuse_open_in, fuse_create_in, fuse_open_out,
  fuse_release_in, fuse_read_in, fuse_write_in, fuse_write_out, fuse_fsync_in, fuse_init_in, fuse_init_out, fuse_interrupt_in,
  fuse_in_header, fuse_out_header, fuse_dirent, fuse_notify_inval_inode_out, fuse_notify_inval_entry_out, fuse_notify_store_out, fuse_notify_retrieve_out,
  fuse_notify_retrieve_in, fuse_backing_map
} as const;

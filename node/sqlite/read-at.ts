/**
 * How the formats read a file without knowing about files.
 *
 * Fills `buffer` from byte `offset` of the file and returns how many bytes were there: fewer than the buffer has only at the end of the file.
 * `fs.readSync(fd, buffer, 0, buffer.length, offset)` is one.
 */
export type ReadAt = (buffer: Buffer, offset: number) => number;

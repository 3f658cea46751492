/**
 * How guardian and engine open files of their own mount.
 *
 * Always holds: the node's own descriptors carry a flag that means nothing for a regular file and that no SQLite uses. The server of the mount
 * sees it at open and at release, and does not take them for an application. It is a sign, no secret.
 */
import { constants } from "node:fs";

export const OWN_OPEN_FLAGS = constants.O_RDWR | constants.O_NONBLOCK;

export function isOwnOpen(flags: number): boolean {
  return (flags & constants.O_NONBLOCK) !== 0;
}

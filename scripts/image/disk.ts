/** A disk of the image: an erofs of a folder with its dm-verity tree behind it, which depends on the folder's files alone. */
import { rm } from 'node:fs/promises'
import { type Base, runFromBase } from './base.js'
import { appendVerityTree } from './verity.js'

export interface Disk {
  readonly source: string
  readonly file: string
  readonly uuid: string
  /** Time of every file, in seconds. */
  readonly epoch: number
}

/** Returns the measured argument for init, HASH,BLOCKS. */
export async function verityDisk(base: Base, { source, file, uuid, epoch }: Disk): Promise<string> {
  await rm(file, { force: true })
  // Without compression: what is on the disk is what is in the file, for whoever compares two of them.
  await runFromBase(base, 'usr/bin/mkfs.erofs', [
    `-T${epoch}`,
    `-U${uuid}`,
    '--all-root',
    '-Eforce-inode-extended',
    // No extended attributes: the file system that the build runs on may give every file some, as SELinux does.
    '-x-1',
    file,
    source,
  ])
  const { rootHash, dataBlocks } = await appendVerityTree(file)
  return `${rootHash.toString('hex')},${dataBlocks}`
}

/**
 * The initrd: a "newc" cpio archive (Linux Documentation/driver-api/early-userspace/buffer-format.rst), uncompressed, entries in
 * order of name, every owner root, every time the same, inodes counted from one. Folders and regular files only.
 */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'

const FOLDER = 0o040000
const FILE = 0o100000
const TRAILER = 'TRAILER!!!'

export async function cpioArchive(folder: string, epoch: number): Promise<Buffer> {
  const pieces: Buffer[] = []
  let inode = 1
  for (const path of await pathsUnder(folder)) {
    const info = await stat(join(folder, path))
    const bytes = info.isDirectory() ? Buffer.alloc(0) : await readFile(join(folder, path))
    const mode = (info.isDirectory() ? FOLDER : FILE) | (info.mode & 0o777)
    pieces.push(entry({ path, mode, inode: inode++, links: info.isDirectory() ? 2 : 1, epoch }, bytes))
  }
  pieces.push(entry({ path: TRAILER, mode: 0, inode: 0, links: 1, epoch: 0 }, Buffer.alloc(0)))
  return Buffer.concat(pieces)
}

interface Header {
  readonly path: string
  readonly mode: number
  readonly inode: number
  readonly links: number
  readonly epoch: number
}

function entry({ path, mode, inode, links, epoch }: Header, bytes: Buffer): Buffer {
  const name = Buffer.from(`${path}\0`)
  // In the format's order: inode, mode, uid, gid, links, time, size, device, device of a node, length of the name, checksum.
  const fields = [inode, mode, 0, 0, links, epoch, bytes.length, 0, 0, 0, 0, name.length, 0]
  const head = Buffer.from(`070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`)
  return Buffer.concat([padded(Buffer.concat([head, name])), padded(bytes)])
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)])
}

async function pathsUnder(folder: string, prefix = ''): Promise<string[]> {
  const names = (await readdir(join(folder, prefix))).sort()
  const out: string[] = []
  for (const name of names) {
    const path = prefix === '' ? name : `${prefix}/${name}`
    out.push(path)
    if ((await stat(join(folder, path))).isDirectory()) out.push(...(await pathsUnder(folder, path)))
  }
  return out
}

/** The disks of an image depend on what is in their folder, and on nothing that the build's machine adds to it. */
import { execFileSync } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { verityDisk } from '../../scripts/image/disk.js'
import { VERITY_BLOCK_BYTES, verityTree } from '../../scripts/image/verity.js'

const LOADER = 'usr/lib64/ld-linux-x86-64.so.2'
const PROGRAM = 'usr/bin/mkfs.erofs'
let folder: string
const file = (name: string): string => join(folder, name)
const disk = (name: string) => ({
  source: file('source'),
  file: file(name),
  uuid: '5b2005a0-0000-4000-8000-000000000001',
  epoch: 1_700_000_000,
})

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-image-disk-'))
  await mkdir(file('source'))
  await writeFile(join(file('source'), 'a-file'), 'its text')
})
afterAll(() => rm(folder, { recursive: true }))

async function baseWith(name: string, fill: (place: (path: string) => string) => Promise<unknown>) {
  const base = file(name)
  for (const path of ['usr/lib64', 'usr/bin']) await mkdir(join(base, path), { recursive: true })
  await fill((path) => join(base, path))
  return { id: name, folder: base }
}

describe('a disk', () => {
  it('is made without the extended attributes of the files it is made of, and ends with its tree', async () => {
    const base = await baseWith('stand-in', async (place) => {
      // In place of the loader, which is given libraries, program and the program's words; the last but one is the disk.
      const words = `shift 3; printf '%s\\n' "$@" > '${file('words')}'; while [ $# -gt 2 ]; do shift; done; printf disk > "$1"`
      await writeFile(place(LOADER), `#!/bin/sh\n${words}\n`)
      await chmod(place(LOADER), 0o755)
    })
    const argument = await verityDisk(base, disk('stand-in.img'))
    expect((await readFile(file('words'), 'utf8')).split('\n')).toContain('-x-1')
    const data = Buffer.concat([Buffer.from('disk'), Buffer.alloc(VERITY_BLOCK_BYTES - 4)])
    const { rootHash, tree } = verityTree(data)
    expect(argument).toBe(`${rootHash.toString('hex')},1`)
    expect(await readFile(file('stand-in.img'))).toEqual(Buffer.concat([data, tree]))
  })

  it('is the same when a file has got an extended attribute', async ({ skip }) => {
    const installed = (program: string): string => {
      try {
        return execFileSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).trim()
      } catch {
        return skip(`${program} is not installed`)
      }
    }
    const [mkfs, setfattr] = [installed('mkfs.erofs'), installed('setfattr')]
    const base = await baseWith('installed', async (place) => {
      await symlink(`/${LOADER.slice('usr/'.length)}`, place(LOADER))
      await symlink(mkfs, place(PROGRAM))
    })
    const before = await verityDisk(base, disk('before.img'))
    try {
      execFileSync(setfattr, ['-n', 'user.x', '-v', 'of this machine', join(file('source'), 'a-file')])
    } catch {
      skip('there are no extended attributes here')
    }
    expect(await verityDisk(base, disk('after.img'))).toBe(before)
  })
})

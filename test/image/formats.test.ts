/** The formats the image scripts write themselves, each held to another program's reading of it where that program is there. */
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ARTIFACTS } from '../../scripts/image/build.js'
import { firstDifference } from '../../scripts/image/compare.js'
import { cpioArchive } from '../../scripts/image/cpio.js'
import { CONFIGURATION_FILE } from '../../scripts/image/host-configuration.js'
import { inventoryOf } from '../../scripts/image/inventory.js'
import { checkInventory } from '../../scripts/image/inventory-rules.js'
import { IMAGE_SCHEMA, MANIFEST_FILE } from '../../scripts/image/manifest.js'
import { appendVerityTree, verityTree } from '../../scripts/image/verity.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-image-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const has = (program: string): boolean => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0
const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest()

describe('dm-verity tree', () => {
  it('of one block is one block of hashes, and the root is its hash', () => {
    const data = Buffer.alloc(4096, 7)
    const block = Buffer.concat([sha256(data), Buffer.alloc(4096 - 32)])
    expect(verityTree(data)).toEqual({ rootHash: sha256(block), dataBlocks: 1, tree: block })
  })

  it('puts the top level first', () => {
    const data = Buffer.alloc(129 * 4096, 1)
    const { tree, rootHash, dataBlocks } = verityTree(data)
    expect(dataBlocks).toBe(129)
    expect(tree.length).toBe(3 * 4096)
    expect(rootHash).toEqual(sha256(tree.subarray(0, 4096)))
    expect(tree.subarray(0, 32)).toEqual(sha256(tree.subarray(4096, 8192)))
  })

  it.each([0, 1, 4095, 4097])('refuses %d bytes', (length) => {
    expect(() => verityTree(Buffer.alloc(length))).toThrow(RangeError)
  })

  it.each([1, 4096, 4097, 128 * 4096, 300 * 4096 + 5])(
    'is the same over a file of %d bytes, filled up',
    async (length) => {
      const file = join(folder, `disk-${length}`)
      const bytes = Buffer.alloc(length, 7)
      await writeFile(file, bytes)
      const whole = Buffer.alloc(Math.ceil(length / 4096) * 4096)
      bytes.copy(whole)
      const { tree, ...expected } = verityTree(whole)
      expect(await appendVerityTree(file)).toEqual(expected)
      expect(Buffer.concat([whole, tree]).equals(await readFile(file))).toBe(true)
    },
  )

  it.skipIf(!has('veritysetup'))('is what veritysetup accepts (skipped where it is not installed)', async () => {
    const data = Buffer.alloc(300 * 4096, 3)
    const { tree, rootHash, dataBlocks } = verityTree(data)
    const file = join(folder, 'disk')
    await writeFile(file, Buffer.concat([data, tree]))
    const words = ['--no-superblock', '--salt=-', `--data-blocks=${dataBlocks}`, `--hash-offset=${data.length}`]
    const { status } = spawnSync('veritysetup', ['verify', ...words, file, file, rootHash.toString('hex')])
    expect(status).toBe(0)
  })
})

describe('initrd', () => {
  it('lists its files in order, owned by root, with the time it was given', async () => {
    const tree = join(folder, 'tree')
    await mkdir(join(tree, 'b'), { recursive: true })
    await writeFile(join(tree, 'b', 'inner'), 'abc')
    await writeFile(join(tree, 'a'), '')
    await chmod(join(tree, 'a'), 0o555)
    const archive = await cpioArchive(tree, 5)
    expect(archive.length % 4).toBe(0)
    const text = archive.toString('latin1')
    const names = [...text.matchAll(/070701[0-9a-f]{104}([^\0]+)\0/g)].map(([, name]) => name)
    expect(names).toEqual(['a', 'b', 'b/inner', 'TRAILER!!!'])
    expect(text.slice(6, 62)).toBe(`00000001${'0000816d'}${'0'.repeat(16)}00000001${'00000005'}00000000`)
    expect(await cpioArchive(tree, 5)).toEqual(archive)
    if (!has('cpio')) return
    expect(execFileSync('cpio', ['-t', '--quiet'], { input: archive }).toString()).toBe('a\nb\nb/inner\n')
  })
})

describe('comparison of two builds', () => {
  it('names the first file that differs, and where', async () => {
    const write = async (name: string, inventory: string, root: string, more = {}): Promise<string> => {
      const out = join(folder, name)
      await mkdir(out, { recursive: true })
      const files = [
        ...ARTIFACTS.filter((artifact) => !/^(inventory.txt|root.img)$/.test(artifact)),
        CONFIGURATION_FILE,
      ]
      for (const file of files) await writeFile(join(out, file), 'same')
      await writeFile(join(out, 'inventory.txt'), inventory)
      await writeFile(join(out, 'root.img'), root)
      await writeFile(join(out, MANIFEST_FILE), JSON.stringify({ schema: IMAGE_SCHEMA, ...more }))
      return out
    }
    const one = await write('one', '0444 1 aa /x\n0444 1 bb /y\n', 'disk')
    expect(await firstDifference(one, await write('same', '0444 1 aa /x\n0444 1 bb /y\n', 'disk'))).toBeUndefined()
    expect(await firstDifference(one, await write('mode', '0444 1 aa /x\n0400 1 bb /y\n', 'disc'))).toBe(
      'the first file that differs is /y: 0444 1 bb and 0400 1 bb',
    )
    expect(await firstDifference(one, await write('less', '0444 1 aa /x\n', 'disk'))).toContain(
      '/y, where the other has nothing',
    )
    expect(await firstDifference(one, await write('root', '0444 1 aa /x\n0444 1 bb /y\n', 'disc'))).toBe(
      'root.img differs from byte 3 on, of 4 and 4',
    )
    // Where the sources came from is no difference of what was built; anything else in the manifest is.
    const [inventory, disk] = ['0444 1 aa /x\n0444 1 bb /y\n', 'disk']
    const elsewhere = await write('elsewhere', inventory, disk, { source: { revision: 'a'.repeat(40), clean: false } })
    expect(await firstDifference(one, elsewhere)).toBeUndefined()
    expect(await firstDifference(one, await write('engine', inventory, disk, { engine: 'other' }))).toContain(
      'manifest.json',
    )
  })
})

describe('what an image may hold', () => {
  const line = (mode: string, path: string): string => `${mode} ${'1'.padStart(10)} ${'a'.repeat(64)} ${path}`

  it('is what is listed, and all of it', () => {
    expect(() => checkInventory(line('0444', '/x'), ['0444 /x'])).not.toThrow()
    expect(() => checkInventory(line('0444', '/x'), [])).toThrow(/not in/)
    expect(() => checkInventory(line('0444', '/x'), ['0444 /x', '0444 /y'])).toThrow(/expected 0444 \/y/)
  })

  it.each([
    ['4555', '/root/bin/node', /setuid/],
    ['2555', '/root/bin/node', /setgid/],
    ['0644', '/root/app/worker.mjs', /nobody may write/],
    ['0555', '/root/bin/sh', /no shell/],
    ['0555', '/root/usr/bin/apt-get', /package manager/],
    ['0555', '/root/usr/sbin/sshd', /no shell/],
  ])('never %s %s, even when listed', (mode, path, reason) => {
    expect(() => checkInventory(line(mode, path), [`${mode} ${path}`])).toThrow(reason)
  })

  it('names a link as no part of it', async () => {
    const tree = join(folder, 'linked')
    await mkdir(tree)
    execFileSync('ln', ['-s', '/etc/passwd', join(tree, 'link')])
    await expect(inventoryOf(tree)).rejects.toThrow('/link: expected a folder or a regular file')
  })
})

/** Which boots a set of images allows, and what is looked for in their files. The boots themselves are `npm run image:boot`. */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BOOT_SUITES, bootImage, bootSuites, suitesOf } from '../../scripts/image/boot.js'
import { createLane } from '../../scripts/image/lane.js'
import { IMAGE_SCHEMA, MANIFEST_FILE } from '../../scripts/image/manifest.js'
import { FLAVOURS } from '../../scripts/image/places.js'
import { fileIncludes } from '../../scripts/image/search.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-image-boot-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe('suites', () => {
  it('are those that need no flavour besides', () => {
    expect(suitesOf(FLAVOURS)).toEqual(BOOT_SUITES)
    expect(suitesOf(['test'])).toEqual(['test', 'sealed'])
    expect(suitesOf([])).toEqual([])
  })

  it('boot nothing in place of an image that was not built, and say which it was', async () => {
    const lines: string[] = []
    await bootSuites(
      createLane('a-lane', (line) => void lines.push(line)),
      ['sealed', 'plain'],
      new Map(),
    )
    expect(lines).toEqual([
      'skip  boots of plain: there is no developer image to boot\n',
      'skip  boots of sealed: there is no test image to boot\n',
    ])
  })
})

describe('an image that was built before', () => {
  const holds = (flavour: string) =>
    writeFile(join(folder, MANIFEST_FILE), JSON.stringify({ schema: IMAGE_SCHEMA, flavour }))

  it('is refused the suites that take another flavour besides, with those that it has', async () => {
    await holds('production')
    await expect(bootImage(folder, ['production', 'aml'])).rejects.toThrow(
      'expected production, firmware, tpm for a production image by itself, got aml',
    )
    await holds('gpu')
    await expect(bootImage(folder)).rejects.toThrow('expected no suite for a gpu image by itself')
    expect(await readdir(folder)).toEqual([MANIFEST_FILE])
  })

  it('is refused where there is none', async () => {
    await expect(bootImage(join(folder, 'nothing'))).rejects.toThrow('npm run image -- build --out')
  })
})

describe('a text in a file', () => {
  it('is found wherever it lies, across the ends of pieces too, and not where it is not', async () => {
    const file = join(folder, 'a-disk')
    for (let at = 0; at < 12; at++) {
      await writeFile(file, `${'.'.repeat(at)}canary${'.'.repeat(12 - at)}`)
      for (const pieceBytes of [1, 2, 5, 6, 7, 100]) expect(await fileIncludes(file, 'canary', pieceBytes)).toBe(true)
      expect(await fileIncludes(file, 'canaries', 5)).toBe(false)
    }
  })
})

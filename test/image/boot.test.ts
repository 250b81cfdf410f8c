/** Which boots a set of images allows, and what is looked for in their files. The boots themselves are `npm run image:boot`. */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BOOT_SUITES, bootImage, bootSuites, suitesOf } from '../../scripts/image/boot.js'
import { requireDefaultChoices } from '../../scripts/image/boot-test.js'
import { withOtherHash } from '../../scripts/image/boot-verity.js'
import { untilDeadlineOf, untilEndOf } from '../../scripts/image/guests.js'
import {
  type HostChoices,
  hostConfigurationFor,
  writeHostConfiguration,
} from '../../scripts/image/host-configuration.js'
import { createLane } from '../../scripts/image/lane.js'
import { IMAGE_SCHEMA, MANIFEST_FILE } from '../../scripts/image/manifest.js'
import { FLAVOURS } from '../../scripts/image/places.js'
import type { RunningGuest } from '../../scripts/image/qemu.js'
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

  it('is refused the boots of test where it was built, or measured, with other choices than they ask for', async () => {
    const [model, engine] = [{ id: 'demo', weights: '55'.repeat(32), manifest: '66'.repeat(32) }, 'an engine 1.0']
    const holdsTest = async (sealed: boolean, choices: HostChoices) => {
      const image = { model: { ...model, sealed }, engine }
      await writeFile(join(folder, MANIFEST_FILE), JSON.stringify({ schema: IMAGE_SCHEMA, flavour: 'test', ...image }))
      await writeHostConfiguration(folder, hostConfigurationFor(image, choices))
    }
    const key = new Uint8Array(32).fill(1)
    for (const choices of [{ padding: 'off' }, { isolation: 'session' }, { operatorKey: key }] as const) {
      await holdsTest(false, choices)
      for (const suites of [[], ['test']] as const)
        await expect(bootImage(folder, suites)).rejects.toThrow(
          `measure --image ${folder} --padding tick writes that one`,
        )
    }
    await holdsTest(true, { modelOwnerKey: key })
    await expect(bootImage(folder)).rejects.toThrow('a model in the clear, got a sealed one')
    await holdsTest(false, { padding: 'tick', isolation: 'request' })
    await expect(requireDefaultChoices(folder)).resolves.toBeUndefined()
  })

  it('is refused where there is none', async () => {
    await expect(bootImage(join(folder, 'nothing'))).rejects.toThrow('npm run image -- build --out')
  })
})

describe('a guest that must not run', () => {
  const guest = (end: { readonly late: boolean }, url = 'http://127.0.0.1:9'): RunningGuest => ({
    url,
    serialText: async () => 'its console',
    ended: () => url.endsWith(':9'),
    end: Promise.resolve(end),
    stop: async () => undefined,
  })
  let server: Server
  let answering: string
  beforeAll(async () => {
    server = createServer((_, response) => void response.end())
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    answering = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(() => new Promise((resolve) => server.close(resolve)))

  it('is held by its firmware only if it still ran at its deadline', async () => {
    await untilDeadlineOf(guest({ late: true }))
    await expect(untilDeadlineOf(guest({ late: false }))).rejects.toThrow('got its end: its console')
    await expect(untilDeadlineOf(guest({ late: true }, answering))).rejects.toThrow('a worker that answers')
  })

  it('is ended by the kernel only if it ended before its deadline', async () => {
    expect(await untilEndOf(guest({ late: false }))).toBe('its console')
    await expect(untilEndOf(guest({ late: true }))).rejects.toThrow('one that had to be killed')
    await expect(untilEndOf(guest({ late: false }, answering))).rejects.toThrow('a worker that answers')
  })

  it('gets another hash of the disk that is meant, and of no other', () => {
    const line = 'quiet subrosa.root=0abc,1 subrosa.model=fabc,2'
    expect(withOtherHash(line, 'root')).toBe('quiet subrosa.root=1abc,1 subrosa.model=fabc,2')
    expect(withOtherHash(line, 'model')).toBe('quiet subrosa.root=0abc,1 subrosa.model=0abc,2')
    expect(() => withOtherHash('quiet', 'model')).toThrow('subrosa.model=HASH on the command line')
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

/**
 * What a build and a measurement refuse, on an image whose parts are made here: the recipe, the archive, the kernels and mkfs.erofs
 * have stand-ins, everything else is the build's own. `npm run image:check` is the real one.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { appendFile, chmod, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { runFromBase } from '../../scripts/image/base.js'
import { ARTIFACTS, buildImage } from '../../scripts/image/build.js'
import { runImageCommand } from '../../scripts/image/cli.js'
import { buildTrees } from '../../scripts/image/container.js'
import { fetchBootCode } from '../../scripts/image/firmware.js'
import { allowedFiles, FILES_LIST } from '../../scripts/image/inventory-rules.js'
import { ownKernel } from '../../scripts/image/kernel.js'
import { loadLock } from '../../scripts/image/lock.js'
import { type ImageManifest, MANIFEST_FILE, readImageManifest } from '../../scripts/image/manifest.js'
import { measureImage } from '../../scripts/image/measurements.js'
import { repository } from '../../scripts/image/places.js'
import { sourceState } from '../../scripts/image/source-state.js'
import { parseFirmware } from '../../verifier/measure/firmware.js'
import { KNOWN_FIRMWARE, type KnownFirmware } from '../../verifier/measure/known-firmware.js'
import { computeMrTd } from '../../verifier/measure/mrtd.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { buildFirmware, buildPe } from '../measure/firmware-files.js'

vi.mock('../../scripts/image/base.js', async (original) => ({
  ...(await original<typeof import('../../scripts/image/base.js')>()),
  prepareBase: async () => ({ id: '0'.repeat(16), folder: '' }),
  runFromBase: vi.fn(),
}))
vi.mock('../../scripts/image/container.js', async (original) => ({
  ...(await original<typeof import('../../scripts/image/container.js')>()),
  buildTrees: vi.fn(),
}))
vi.mock('../../scripts/image/firmware.js', async (original) => ({
  ...(await original<typeof import('../../scripts/image/firmware.js')>()),
  fetchBootCode: vi.fn(),
}))
vi.mock('../../scripts/image/tools.js', async (original) => ({
  ...(await original<typeof import('../../scripts/image/tools.js')>()),
  ensureTools: vi.fn(),
}))
vi.mock('../../scripts/image/kernel.js', async (original) => ({
  ...(await original<typeof import('../../scripts/image/kernel.js')>()),
  ownKernel: vi.fn(),
}))

const OWN = '6.12.1-subrosa (subrosa@subrosa) #1'
const DEBIANS = '6.12.1+deb13-cloud-amd64 (debian-kernel@lists.debian.org) #1'

/** A bzImage that firmware takes as well: a PE file whose code begins at 0x200, with the setup header's fields in it. */
const bzImage = (release: string): Uint8Array => {
  const code = Buffer.alloc(0x200)
  code.write('HdrS', 0x002)
  code.writeUInt16LE(0x100, 0x00e)
  code.write(`${release}\0`, 0x100)
  return buildPe(code)
}
/** One byte in its code tells it from another. */
const snpFirmware = (byte: number): Uint8Array<ArrayBuffer> => {
  const sev = [
    [0x80d000, 0x1000, 2],
    [0x80e000, 0x1000, 3],
    [0x810000, 0x1000, 0x10],
  ] as const
  return buildFirmware({ sev, hashTableGpa: 0x810c00 }).fill(byte, 0, 1)
}
const tdxFirmware = buildFirmware({ tdx: [[0, 4096, 0xffffe000, 4096, 0, 1]] })
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

const [ENFORCING, IGNORING, UNKNOWN] = [snpFirmware(1), snpFirmware(2), snpFirmware(3)]
const known: readonly KnownFirmware[] = [
  { sha256Hex: sha256(ENFORCING), name: 'a firmware of this test', kernelHashes: 'enforced' },
  { sha256Hex: sha256(IGNORING), name: 'another firmware of this test', kernelHashes: 'ignored' },
]

let scratch: string
let built: string

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'subrosa-built-'))
  // Only an entry in the table, as somebody who had seen it refuse would make one, gets a firmware past the check under test.
  ;(KNOWN_FIRMWARE as KnownFirmware[]).push(...known)
  vi.mocked(buildTrees).mockImplementation(({ out }) => writeTrees(out))
  vi.mocked(ownKernel).mockImplementation(() => kernelFolder(OWN))
  vi.mocked(fetchBootCode).mockResolvedValue({
    snpFirmware: Buffer.from(ENFORCING),
    tdxFirmware: Buffer.from(tdxFirmware),
    stub: Buffer.from(buildPe(Buffer.from('a stub'))),
  })
  vi.mocked(runFromBase).mockImplementation(async (_base, _program, words) => {
    await writeFile(words.at(-2) ?? '', Buffer.alloc(8192, 'a disk'))
    return ''
  })
  built = await build('built')
})
afterAll(async () => {
  const table = KNOWN_FIRMWARE as KnownFirmware[]
  for (const entry of known) table.splice(table.indexOf(entry), 1)
  await rm(scratch, { recursive: true })
})

async function build(name: string): Promise<string> {
  const out = join(scratch, name)
  const quiet = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  try {
    await buildImage({ flavour: 'production', lock: await loadLock(), out })
  } finally {
    quiet.mockRestore()
  }
  return out
}

/** What the list allows, file by file, and nothing else. */
async function writeTrees(out: string): Promise<void> {
  const listed = (await readFile(FILES_LIST, 'utf8')).trim().split('\n')
  for (const [mode = '', path = ''] of allowedFiles(listed, [], 'production').map((entry) => entry.split(' '))) {
    const file = join(out, path)
    await mkdir(path.endsWith('/') ? file : dirname(file), { recursive: true })
    if (!path.endsWith('/')) await writeFile(file, path)
    await chmod(file, Number.parseInt(mode, 8))
  }
}

async function kernelFolder(release: string): Promise<string> {
  const folder = await mkdtemp(join(scratch, 'kernel-'))
  await writeFile(join(folder, 'vmlinuz'), bzImage(release))
  return folder
}

/** The image in a folder of its own, to be altered. */
async function copied(): Promise<string> {
  const folder = await mkdtemp(join(scratch, 'copy-'))
  await cp(built, folder, { recursive: true })
  return folder
}

async function amend(folder: string, change: (manifest: ImageManifest) => Partial<ImageManifest>): Promise<void> {
  const manifest = await readImageManifest(folder)
  await writeFile(join(folder, MANIFEST_FILE), JSON.stringify({ ...manifest, ...change(manifest) }))
}

/** Another file, as a build that took it would have listed it. */
async function exchange(folder: string, name: string, bytes: Uint8Array): Promise<void> {
  await writeFile(join(folder, name), bytes)
  await amend(folder, ({ artifacts }) => ({
    artifacts: artifacts.map((entry) => (entry.name === name ? { ...entry, sha256: sha256(bytes) } : entry)),
  }))
}

describe('a build', () => {
  it('of what is listed lists what came out', async () => {
    const { artifacts } = await readImageManifest(built)
    expect(artifacts.map(({ name }) => name)).toEqual([...ARTIFACTS])
    for (const { name, bytes, sha256: digest } of artifacts) {
      const file = await readFile(join(built, name))
      expect([name, file.length, sha256(file)]).toEqual([name, bytes, digest])
    }
  })

  it('ends at a file that nobody listed', async () => {
    vi.mocked(buildTrees).mockImplementationOnce(async ({ out }) => {
      await writeTrees(out)
      await writeFile(join(out, 'root', 'surprise'), '', { mode: 0o444 })
    })
    await expect(build('surprised')).rejects.toThrow(/0444 \/root\/surprise is not in/)
    expect(existsSync(join(scratch, 'surprised', MANIFEST_FILE))).toBe(false)
  })

  it('ends at a kernel that is not our own', async () => {
    vi.mocked(ownKernel).mockImplementationOnce(() => kernelFolder(DEBIANS))
    await expect(build('debian')).rejects.toThrow(/only our own kernel/)
    expect(existsSync(join(scratch, 'debian', MANIFEST_FILE))).toBe(false)
  })
})

describe('a measurement', () => {
  it('of an image as it was built has every shape, and the digests of what goes with it', async () => {
    const measured = await measureImage(built)
    expect(measured.snp).toHaveLength(18)
    expect(new Set(measured.snp.map(({ digest }) => digest)).size).toBe(18)
    expect(measured.tdx.map(({ boot }) => boot)).toEqual(['vmlinuz', 'uki.efi'])
    expect(measured.tdx[0]?.mrTd).toBe(toHex(computeMrTd(parseFirmware(tdxFirmware), 'single-pass')))
    const configuration = await readFile(join(built, 'host-configuration.cbor'))
    expect(measured.hostConfiguration.hostData).toBe(sha256(configuration))
  })

  it.each(ARTIFACTS)('is refused after one more byte in %s', async (name) => {
    const folder = await copied()
    await appendFile(join(folder, name), '\n')
    await expect(measureImage(folder)).rejects.toThrow(`${join(folder, name)}: expected SHA-256`)
  })

  it.each(ARTIFACTS)('is refused without %s', async (name) => {
    const folder = await copied()
    await rm(join(folder, name))
    await expect(measureImage(folder)).rejects.toThrow(`${join(folder, name)}: not there`)
  })

  it('is refused of a production image with a kernel that is not our own, even where the manifest has it', async () => {
    const folder = await copied()
    await exchange(folder, 'vmlinuz', bzImage(DEBIANS))
    await expect(measureImage(folder)).rejects.toThrow(/only our own kernel/)
    await amend(folder, () => ({ flavour: 'developer' }))
    expect((await measureImage(folder)).flavour).toBe('developer')
  })

  it.each([
    ['measure.firmware-ignores-hashes', 'is known to boot anything', IGNORING],
    ['measure.firmware-unlisted', 'nobody knows', UNKNOWN],
  ])('is refused, as %s, with a firmware that %s', async (code, _, firmware) => {
    const folder = await copied()
    await exchange(folder, 'OVMF.amdsev.fd', firmware)
    await expect(measureImage(folder)).rejects.toMatchObject({ code })
  })
})

const present = await sourceState(repository)

describe('subrosa image measure --format release', () => {
  let said: { readonly out: string[]; readonly err: string[] }

  async function release(source: ImageManifest['source']): Promise<number> {
    const folder = await copied()
    // Undefined is what a build outside of a checkout leaves out.
    await amend(folder, () => ({ source }) as Partial<ImageManifest>)
    said = { out: [], err: [] }
    const out = vi.spyOn(process.stdout, 'write').mockImplementation((text) => said.out.push(String(text)) > 0)
    const err = vi.spyOn(process.stderr, 'write').mockImplementation((text) => said.err.push(String(text)) > 0)
    try {
      return await runImageCommand(['node', 'image', 'measure', '--image', folder, '--format', 'release'])
    } finally {
      out.mockRestore()
      err.mockRestore()
    }
  }

  it.skipIf(present === undefined)('names the revision that was built (skipped outside of a checkout)', async () => {
    const revision = present?.revision ?? ''
    expect([await release({ revision, clean: true }), said.err]).toEqual([0, []])
    expect(JSON.parse(said.out.join(''))).toMatchObject({ schema: 'subrosa-release/1', source: { revision } })
  })

  it.each([
    ['outside of a checkout', undefined, /not built in a git checkout/],
    ['with changes', { revision: present?.revision ?? 'a'.repeat(40), clean: false }, /with what no revision has/],
    ['of another revision', { revision: 'b'.repeat(40), clean: true }, /the image was built of b{40}/],
  ])('prints no manifest of an image built %s', async (_, source, reason) => {
    expect(await release(source)).toBe(1)
    expect(said.err.join('')).toMatch(reason)
    expect(said.out).toEqual([])
  })
})

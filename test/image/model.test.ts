/** What an image holds beside the worker: any model package, in the clear or sealed, and the host configuration that goes with it. */
import { execFileSync } from 'node:child_process'
import {
  appendFile,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { sealPackage } from '../../enclave/cli-model.js'
import { configurationDigest, parseHostConfiguration } from '../../enclave/config.js'
import { loadModelPackage, modelClaims } from '../../enclave/inference/package.js'
import { loadSealedPackage } from '../../enclave/inference/sealed-package.js'
import { openHostConfiguration } from '../../enclave/launch-configuration.js'
import { defaultModelDirectory } from '../../enclave/serve.js'
import { forgetDescriptions } from '../../scripts/image/build.js'
import { runImageCommand } from '../../scripts/image/cli.js'
import {
  CONFIGURATION_FILE,
  hostConfigurationFor,
  readHostConfiguration,
  writeHostConfiguration,
} from '../../scripts/image/host-configuration.js'
import { IMAGE_SCHEMA, MANIFEST_FILE, MEASUREMENTS_FILE, readImageManifest } from '../../scripts/image/manifest.js'
import { measureImage } from '../../scripts/image/measurements.js'
import { copyModel } from '../../scripts/image/model-tree.js'
import { artifactFolder, howToBuild } from '../../scripts/image/places.js'
import { toBytes, toHex } from '../../verifier/protocol/bytes.js'

const EPOCH = 1_700_000_000
let folder: string
const file = (name: string): string => join(folder, name)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-image-model-'))
  await sealPackage(defaultModelDirectory(), file('sealed'), file('weights.key'))
})
afterAll(() => rm(folder, { recursive: true }))

describe('the model disk', () => {
  it('has the files that the manifest lists and nothing else, with modes and times that mean nothing', async () => {
    await cp(defaultModelDirectory(), file('untidy'), { recursive: true })
    await writeFile(join(file('untidy'), 'notes.txt'), 'not listed')
    const { held, manifest } = await copyModel(file('untidy'), file('open-copy'), EPOCH, false)
    const claims = modelClaims(await loadModelPackage(file('open-copy')))
    expect(held).toEqual({
      id: claims.id,
      weights: toHex(claims.weightsRoot),
      manifest: toHex(claims.manifestDigest),
      sealed: false,
    })
    const names = (await readdir(file('open-copy'), { recursive: true, withFileTypes: true })).filter((entry) =>
      entry.isFile(),
    )
    expect(names).toHaveLength(1 + manifest.files.length)
    const { mode, mtimeMs } = await stat(join(file('open-copy'), 'manifest.json'))
    expect([mode & 0o777, mtimeMs]).toEqual([0o444, EPOCH * 1000])
  })

  it('has a sealed package as it is, under the digests of the open one', async () => {
    const { held } = await copyModel(file('sealed'), file('sealed-copy'), EPOCH, true)
    const claims = modelClaims(await loadModelPackage(defaultModelDirectory()))
    expect(held).toMatchObject({
      weights: toHex(claims.weightsRoot),
      manifest: toHex(claims.manifestDigest),
      sealed: true,
    })
    const key = /AGE-SECRET-KEY-\S+/.exec(await readFile(file('weights.key'), 'utf8'))?.[0] ?? ''
    const opened = await (await loadSealedPackage(file('sealed-copy'))).open(key)
    expect(toHex(modelClaims(opened).weightsRoot)).toBe(held.weights)
  })

  it('takes a sealed package with its owner, and an open one without', async () => {
    await expect(copyModel(file('sealed'), file('a'), EPOCH, false)).rejects.toThrow(/sealed: name .*--model-owner/)
    await expect(copyModel(defaultModelDirectory(), file('b'), EPOCH, true)).rejects.toThrow(
      /not sealed, though an owner/,
    )
  })

  it('takes no package of which a file is missing or changed, and no folder without a manifest', async () => {
    await cp(defaultModelDirectory(), file('missing'), { recursive: true })
    const { manifest } = await loadModelPackage(defaultModelDirectory())
    const [first] = manifest.files.map(({ path }) => path)
    await rm(join(file('missing'), first ?? ''))
    await expect(copyModel(file('missing'), file('c'), EPOCH, false)).rejects.toThrow(`got no ${first}`)
    await cp(defaultModelDirectory(), file('changed'), { recursive: true })
    await appendFile(join(file('changed'), first ?? ''), 'x')
    await expect(copyModel(file('changed'), file('d'), EPOCH, false)).rejects.toMatchObject({ code: 'package.size' })
    await expect(copyModel(file('no-such-folder'), file('e'), EPOCH, false)).rejects.toMatchObject({
      code: 'package.missing',
    })
  })
})

describe('a package that somebody else made', () => {
  const secret = 'what only root may read'
  const sealedFile = 'model.onnx.age'
  let hostile: string

  beforeEach(async () => {
    hostile = await mkdtemp(file('hostile-'))
    await cp(file('sealed'), join(hostile, 'package'), { recursive: true })
    await writeFile(join(hostile, 'secret'), secret)
    await mkdir(join(hostile, 'tree'))
  })
  const placeOf = (name: string): string => join(hostile, 'package', name)
  const copied = (sealed = true) => copyModel(join(hostile, 'package'), join(hostile, 'tree'), EPOCH, sealed)
  const expectNothingOfHost = async (): Promise<void> => {
    const entries = await readdir(join(hostile, 'tree'), { recursive: true, withFileTypes: true })
    for (const entry of entries.filter((each) => each.isFile())) {
      expect(await readFile(join(entry.parentPath, entry.name), 'latin1')).not.toContain(secret)
    }
  }

  it.each([sealedFile, 'tokenizer.json', 'manifest.json'])(
    'cannot have a file of the host copied for %s',
    async (name) => {
      if (name === 'manifest.json') await rename(placeOf(name), join(hostile, 'secret'))
      await rm(placeOf(name), { force: true })
      await symlink(join(hostile, 'secret'), placeOf(name))
      await expect(copied()).rejects.toThrow(`${name}: expected a regular file of the package`)
      await expectNothingOfHost()
    },
  )

  it('cannot have one copied through a folder that is a link', async () => {
    const path = placeOf('manifest.json')
    const manifest = JSON.parse(await readFile(path, 'utf8')) as { files: { path: string; role: string }[] }
    const graph = manifest.files.find(({ role }) => role === 'graph')
    if (graph === undefined) throw new Error('no graph in the demonstration model')
    graph.path = 'a/model.onnx'
    manifest.files.sort((a, b) => (a.path < b.path ? -1 : 1))
    await writeFile(path, JSON.stringify(manifest))
    await mkdir(join(hostile, 'elsewhere'))
    await rename(placeOf(sealedFile), join(hostile, 'elsewhere', sealedFile))
    await symlink(join(hostile, 'elsewhere'), placeOf('a'))
    await expect(copied()).rejects.toThrow(`a/${sealedFile}: expected a regular file of the package`)
    await rm(placeOf('a'))
    await rename(join(hostile, 'elsewhere'), placeOf('a'))
    await rm(join(hostile, 'tree'), { recursive: true })
    await mkdir(join(hostile, 'tree'))
    expect((await copied()).held.sealed).toBe(true)
  })

  it('cannot have the build wait for a pipe', async () => {
    await rm(placeOf(sealedFile))
    execFileSync('mkfifo', [placeOf(sealedFile)])
    await expect(copied()).rejects.toThrow(`${sealedFile}: expected a regular file of the package`)
  })

  it('cannot fill the disk: a file is as long as the manifest says, or as its encryption makes that', async () => {
    await truncate(placeOf(sealedFile), 2 ** 40)
    await expect(copied()).rejects.toMatchObject({ code: 'package.size' })
    await rm(join(hostile, 'package'), { recursive: true })
    await cp(defaultModelDirectory(), join(hostile, 'package'), { recursive: true })
    await rm(join(hostile, 'tree'), { recursive: true })
    await mkdir(join(hostile, 'tree'))
    await truncate(placeOf('model.onnx'), 2 ** 40)
    await expect(copied(false)).rejects.toMatchObject({ code: 'package.size' })
  })

  it('is no sealed one where a file is not age’s', async () => {
    await writeFile(placeOf(sealedFile), secret)
    await expect(copied()).rejects.toThrow(`${sealedFile}: expected "age-encryption.org/v1`)
    await expectNothingOfHost()
  })
})

describe('the host configuration beside an image', () => {
  const model = { id: 'a-model', weights: '11'.repeat(32), manifest: '22'.repeat(32), sealed: false }
  const sealed = { ...model, sealed: true }
  const engine = 'an engine 1.0'
  const modelOwnerKey = toBytes(new Uint8Array(32).fill(3))
  const operatorKey = toBytes(new Uint8Array(32).fill(4))

  it('is of the image’s model and engine, with the defaults of a worker', () => {
    const { bytes, hostDataHex, mrConfigIdHex } = hostConfigurationFor({ model, engine })
    const parsed = parseHostConfiguration(bytes)
    expect([parsed.model.id, toHex(parsed.model.weightsRoot), parsed.engine]).toEqual([model.id, model.weights, engine])
    expect([parsed.padding, parsed.isolation, parsed.model.ownerKey, parsed.operatorKey]).toEqual([
      'tick',
      undefined,
      undefined,
      undefined,
    ])
    expect([hostDataHex, mrConfigIdHex]).toEqual([
      toHex(configurationDigest('snp', bytes)),
      toHex(configurationDigest('tdx', bytes)),
    ])
  })

  it('says everything a host may choose, as the booted worker then takes it', () => {
    const choices = { padding: 'off', isolation: 'session', modelOwnerKey, operatorKey } as const
    const { bytes } = hostConfigurationFor({ model: sealed, engine }, choices)
    expect(openHostConfiguration(bytes, { kind: 'snp', hostData: configurationDigest('snp', bytes) })).toEqual(choices)
  })

  it('names an owner where the model is sealed, and nowhere else', () => {
    expect(() => hostConfigurationFor({ model: sealed, engine })).toThrow(/--model-owner/)
    expect(() => hostConfigurationFor({ model, engine }, { modelOwnerKey })).toThrow(/in the clear/)
  })

  it('is read back for the image it was written for, and for no other', async () => {
    const written = hostConfigurationFor({ model: sealed, engine }, { modelOwnerKey })
    await writeHostConfiguration(folder, written)
    const { bytes, ...digests } = await readHostConfiguration(folder, { model: sealed, engine })
    expect({ ...digests, bytes: toHex(bytes) }).toEqual({ ...written, bytes: toHex(written.bytes) })
    const others = [
      { model, engine },
      { model: sealed, engine: 'another' },
      { model: { ...sealed, id: 'another' }, engine },
      { model: { ...sealed, weights: '33'.repeat(32) }, engine },
    ]
    for (const other of others) {
      await expect(readHostConfiguration(folder, other)).rejects.toThrow(/expected model and engine of the image/)
    }
    await writeFile(join(folder, CONFIGURATION_FILE), 'no configuration')
    await expect(readHostConfiguration(folder, { model, engine })).rejects.toThrow(/expected a host configuration/)
    await rm(join(folder, CONFIGURATION_FILE))
    await expect(readHostConfiguration(folder, { model, engine })).rejects.toThrow(/not there/)
  })
})

describe('a folder of an image', () => {
  const about = {
    schema: IMAGE_SCHEMA,
    flavour: 'production',
    model: { id: 'a-model', weights: '11'.repeat(32), manifest: '22'.repeat(32), sealed: false },
    engine: 'an engine 1.0',
    artifacts: [{ name: 'root.img', bytes: 1, sha256: '00'.repeat(32) }],
  }
  let image: string
  beforeEach(async () => {
    image = await mkdtemp(file('image-'))
    for (const name of [MEASUREMENTS_FILE, CONFIGURATION_FILE, 'root.img']) await writeFile(join(image, name), name)
    await writeFile(join(image, MANIFEST_FILE), JSON.stringify(about))
  })

  it('stays as it was when it cannot be measured for another configuration', async () => {
    const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
    try {
      expect(await runImageCommand(['node', 'image', 'measure', '--image', image, '--padding', 'off'])).toBe(1)
      expect(said.mock.calls.join('')).toContain('root.img: expected SHA-256 0000')
    } finally {
      said.mockRestore()
    }
    for (const name of [MEASUREMENTS_FILE, CONFIGURATION_FILE]) {
      expect(await readFile(join(image, name), 'utf8')).toBe(name)
    }
  })

  it('loses what describes it before a build replaces the first of its files', async () => {
    await forgetDescriptions(image)
    expect(await readdir(image)).toEqual(['root.img'])
    await forgetDescriptions(image)
  })
})

describe('a folder that holds no image of this version', () => {
  it('is refused with what to type', async () => {
    await expect(measureImage(file('nothing'))).rejects.toThrow(`npm run image -- build --out ${file('nothing')}`)
    expect(howToBuild(artifactFolder('developer'))).toBe('npm run image -- build --flavour developer builds it')
    await writeFile(file(MANIFEST_FILE), JSON.stringify({ schema: 'subrosa-image/1' }))
    await expect(readImageManifest(folder)).rejects.toThrow(`expected schema ${IMAGE_SCHEMA}, got subrosa-image/1`)
  })
})

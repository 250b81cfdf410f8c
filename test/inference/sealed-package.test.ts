/** Encrypted weights: what a key opens is held against the manifest before anything runs on it. */
import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Decrypter, generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { sealPackage } from '../../enclave/cli-model.js'
import { loadModelPackage, modelClaims } from '../../enclave/inference/package.js'
import { loadSealedPackage, sealFile } from '../../enclave/inference/sealed-package.js'
import { PACKAGE_DIRECTORY } from './model.js'

const hasCode = (code: string): object => expect.objectContaining({ code })

let made: string
let directory: string
let identity: string

beforeAll(async () => {
  made = await mkdtemp(join(tmpdir(), 'sealed-made-'))
  await sealPackage(PACKAGE_DIRECTORY, join(made, 'package'), join(made, 'key'))
  identity = (await readFile(join(made, 'key'), 'utf8')).split('\n')[1] ?? ''
  return () => rm(made, { recursive: true })
})

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sealed-'))
  await cp(join(made, 'package'), directory, { recursive: true })
})

afterEach(() => rm(directory, { recursive: true }))

describe('a sealed package', () => {
  it('has the claims of the open one, and its very bytes under the key (P-8.3)', async () => {
    const open = await loadModelPackage(PACKAGE_DIRECTORY)
    const sealed = await loadSealedPackage(directory)
    expect(modelClaims(sealed)).toEqual(modelClaims(open))
    expect(await sealed.open(identity)).toEqual(open)
  })

  it('holds graph and weights only as age files, for a post-quantum key that its owner alone can read', async () => {
    expect((await readdir(directory)).filter((name) => /onnx/.test(name))).toEqual(['model.onnx.age'])
    expect((await readFile(join(directory, 'model.onnx.age'))).toString('latin1')).toMatch(
      /^age-encryption.org\/v1\n-> mlkem768x25519 /,
    )
    expect(identity).toMatch(/^AGE-SECRET-KEY-PQ-1/)
    expect((await stat(join(made, 'key'))).mode & 0o777).toBe(0o600)
  })

  it('is no open package, and an open one is not sealed', async () => {
    await expect(loadModelPackage(directory)).rejects.toThrowError(hasCode('package.missing'))
    await expect(loadSealedPackage(PACKAGE_DIRECTORY)).rejects.toThrowError(hasCode('package.missing'))
  })

  it('stays shut under another key', async () => {
    const sealed = await loadSealedPackage(directory)
    await expect(sealed.open(await generateX25519Identity())).rejects.toThrowError(hasCode('package.sealed'))
  })

  it.each([
    ['one bit of it is flipped', (bytes: Buffer) => bytes.fill((bytes.at(-1) ?? 0) ^ 1, bytes.length - 1)],
    ['it is cut short', (bytes: Buffer) => bytes.subarray(0, -70_000)],
    ['it is empty', (bytes: Buffer) => bytes.subarray(0, 0)],
    ['it is something else', () => Buffer.from('not an age file')],
  ])('is refused when %s', async (_, change) => {
    const path = join(directory, 'model.onnx.age')
    await writeFile(path, change(await readFile(path)))
    await expect((await loadSealedPackage(directory)).open(identity)).rejects.toThrowError(hasCode('package.sealed'))
  })

  it('is refused when it is larger than what it should hold, unread', async () => {
    const path = join(directory, 'model.onnx.age')
    await writeFile(path, Buffer.concat([await readFile(path), Buffer.alloc(20_000)]))
    await expect((await loadSealedPackage(directory)).open(identity)).rejects.toThrowError(hasCode('package.size'))
  })

  it.each([
    ['other weights of the same length', 'package.digest', (bytes: Uint8Array) => bytes.fill(7, 100, 200)],
    ['shorter weights', 'package.size', (bytes: Uint8Array) => bytes.subarray(1)],
  ])('is refused when the right key opens it to %s', async (_, code, change) => {
    const path = join(directory, 'model.onnx.age')
    const decrypter = new Decrypter()
    decrypter.addIdentity(identity)
    const plaintext = await decrypter.decrypt(await readFile(path))
    await writeFile(path, await sealFile(change(plaintext), await identityToRecipient(identity)))
    await expect((await loadSealedPackage(directory)).open(identity)).rejects.toThrowError(hasCode(code))
  })
})

describe('sealing', () => {
  it('never writes over anything, and leaves nothing half done', async () => {
    await expect(sealPackage(PACKAGE_DIRECTORY, directory, join(made, 'other'))).rejects.toThrowError(
      hasCode('worker.option'),
    )
    const out = join(made, 'again')
    await expect(sealPackage(PACKAGE_DIRECTORY, out, join(made, 'key'))).rejects.toThrowError(hasCode('worker.option'))
    await expect(stat(out)).rejects.toThrowError(hasCode('ENOENT'))
  })
})

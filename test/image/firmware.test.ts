/**
 * The very files that a build takes from the packages of its lock, on a machine that has downloaded those for a build: a test downloads
 * nothing. The recorded digests are another implementation's, and were not compared with hardware; what Debian signed is independent.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { fetchDebs } from '../../scripts/image/archive.js'
import { unpackDeb } from '../../scripts/image/base.js'
import { type BootCode, fetchBootCode } from '../../scripts/image/firmware.js'
import { type DebSet, loadLock } from '../../scripts/image/lock.js'
import { cacheFolder } from '../../scripts/image/places.js'
import { authenticodeSha384 } from '../../verifier/measure/authenticode.js'
import { parseFirmware } from '../../verifier/measure/firmware.js'
import { requireEnforcement } from '../../verifier/measure/known-firmware.js'
import { computeMrTd } from '../../verifier/measure/mrtd.js'
import { parsePe } from '../../verifier/measure/pe.js'
import { sevFacts, snpLaunchDigest } from '../../verifier/measure/snp-digest.js'
import { vcpuSignature } from '../../verifier/measure/vmsa.js'
import { toBytes, toHex } from '../../verifier/protocol/bytes.js'

/** What went into the hash since it was last emptied. */
const hashed = vi.hoisted((): Uint8Array[] => [])
vi.mock('../../verifier/protocol/hash.js', async (original) => {
  const real = await original<typeof import('../../verifier/protocol/hash.js')>()
  const createSha384 = (): ReturnType<typeof real.createSha384> => {
    const stream = real.createSha384()
    const update = (piece: Uint8Array): void => {
      hashed.push(piece)
      stream.update(piece)
    }
    return { update, digest: () => stream.digest() }
  }
  return { ...real, createSha384 }
})

const lock = await loadLock()
const absent = (...sets: readonly DebSet[]): boolean =>
  sets.some((set) => lock.debs[set].some(({ sha256 }) => !existsSync(join(cacheFolder, 'debs', `${sha256}.deb`))))
const parsed = (file: Buffer) => parseFirmware(toBytes(new Uint8Array(file)))

describe.skipIf(absent('firmware', 'stub'))('the lock’s firmware (skipped where no build downloaded it)', () => {
  let bootCode: BootCode
  beforeAll(async () => {
    bootCode = await fetchBootCode(lock)
  })

  it('for SNP refuses other files than those measured, and has the recorded launch digest', () => {
    const file = parsed(bootCode.snpFirmware)
    expect(() => requireEnforcement(file, 'refused')).not.toThrow()
    const { measurement } = snpLaunchDigest({
      firmware: sevFacts(file),
      boot: { kernel: new Uint8Array(), commandLine: '' },
      hypervisor: 'qemu',
      vcpus: 4,
      signature: vcpuSignature('EPYC-Genoa'),
      guestFeatures: 1n,
    })
    expect(toHex(measurement)).toBe(
      'cddefe8c3416605d5ac29528986cda72d0711a2042d8ef482d61d7ff6c811e672fa17fdc5d706dc247939476d277bcc7',
    )
  })

  it('for TDX has the recorded MRTD, in either order of the VMM', () => {
    const file = parsed(bootCode.tdxFirmware)
    expect(toHex(computeMrTd(file, 'single-pass'))).toBe(
      'ab742989d480d040f178cf83c3ae0734f923dbddb7325b4a826e0d87c30cb299aff85beb23ad30a1c6f975a8d0ce3e7a',
    )
    expect(toHex(computeMrTd(file, 'two-pass'))).toBe(
      'd137701167ce1e42b0cce3e4e9d658f0caa19591aa5787014f2ff8a89057d81597e4fa7f0990813882525937e8191d1e',
    )
  })
})

describe.skipIf(absent('kernel'))('Debian’s kernel of the lock (skipped where no build downloaded it)', () => {
  it('is hashed over the bytes that Debian signed, no more and no fewer', async () => {
    const kernel = await debiansKernel()
    const signature = Buffer.from(kernel.subarray(kernel.length - parsePe(kernel).certificateBytes))
    hashed.length = 0
    const digest = authenticodeSha384(kernel)
    const signed = (algorithm: string) => createHash(algorithm).update(Buffer.concat(hashed)).digest()
    expect(Buffer.from(digest)).toEqual(signed('sha384'))
    // DigestInfo of the signature's SpcIndirectDataContent: SHA-256 without parameters, and 32 bytes.
    const digestInfo = Buffer.concat([Buffer.from('300d06096086480165030402010500' + '0420', 'hex'), signed('sha256')])
    expect(signature.includes(digestInfo)).toBe(true)
  })
})

async function debiansKernel(): Promise<Uint8Array> {
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-kernel-'))
  try {
    for (const file of await fetchDebs(lock.debs.kernel)) await unpackDeb(file, folder)
    const name = (await readdir(join(folder, 'boot'))).find((other) => other.startsWith('vmlinuz-')) ?? ''
    return new Uint8Array(await readFile(join(folder, 'boot', name)))
  } finally {
    await rm(folder, { recursive: true })
  }
}

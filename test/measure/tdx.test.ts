/** MRTD, RTMR1 and RTMR2 against values recorded before, one of them published; kernels and firmware made here, real ones where a folder has them. */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { authenticodeSha384 } from '../../verifier/measure/authenticode.js'
import { parseFirmware } from '../../verifier/measure/firmware.js'
import { computeMrTd } from '../../verifier/measure/mrtd.js'
import { measuredCommandLine, rtmr1, rtmr2 } from '../../verifier/measure/rtmr.js'
import { asLoadedByQemu } from '../../verifier/measure/setup-header.js'
import { concat, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { sha384 } from '../../verifier/protocol/hash.js'
import { buildPe } from './firmware-files.js'

const node384 = (...parts: Uint8Array[]) => {
  const hash = createHash('sha384')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

describe('MRTD', () => {
  const page = {
    fileOffset: 0,
    fileSize: 4096,
    gpa: 0xfffff000n,
    memorySize: 4096n,
    type: 'code',
    extend: true,
    acceptedLater: false,
  } as const
  const temporary = { ...page, fileSize: 0, gpa: 0x810000n, type: 'temporary', extend: false } as const
  const firmware = { bytes: new Uint8Array(4096), tdx: [page, temporary] }

  it('of one zero page and one temporary page is the recorded value', () => {
    expect(toHex(computeMrTd(firmware, 'single-pass'))).toBe(
      'a6a770378a7002c7c9b7ae9c095b7612b48846c630966153db88a308353e0b8336955d6fefabe6114582ae53ef030c5c',
    )
  })

  it('depends on the order only where a section has several pages', () => {
    expect(computeMrTd(firmware, 'two-pass')).toEqual(computeMrTd(firmware, 'single-pass'))
    const twice = {
      bytes: new Uint8Array(8192),
      tdx: [{ ...page, fileSize: 8192, gpa: 0xffffe000n, memorySize: 8192n }],
    }
    expect(computeMrTd(twice, 'two-pass')).not.toEqual(computeMrTd(twice, 'single-pass'))
  })

  it('leaves out what is accepted later, and covers every byte of what is measured', () => {
    const later = { bytes: firmware.bytes, tdx: [page, { ...temporary, acceptedLater: true }] }
    expect(computeMrTd(later, 'single-pass')).toEqual(computeMrTd({ ...firmware, tdx: [page] }, 'single-pass'))
    const altered = { ...firmware, bytes: new Uint8Array(4096).fill(1, 4095) }
    expect(computeMrTd(altered, 'single-pass')).not.toEqual(computeMrTd(firmware, 'single-pass'))
  })

  it('refuses sections that are not whole', () => {
    for (const broken of [
      { fileSize: 4095 },
      { memorySize: 4095n },
      { fileOffset: 1 },
      { gpa: 1n },
      { memorySize: 1n << 40n },
    ]) {
      const tdx = [{ ...page, ...broken }]
      expect(() => computeMrTd({ ...firmware, tdx }, 'single-pass')).toThrow(FormatError)
    }
    expect(() => computeMrTd({ bytes: firmware.bytes, tdx: undefined }, 'single-pass')).toThrow(/no TDX metadata/)
  })
})

describe('RTMR2', () => {
  it('of a published command line and an empty initrd', () => {
    expect(toHex(rtmr2({ commandLine: 'console=ttyS0', initrd: new Uint8Array() }, 'prefix'))).toBe(
      'f091d0602298967cfceb7d907b52ab79e53e5cc05aea092343d77c4d9ade4715b8ba9f80c10ff24d45c491ed948cc774',
    )
  })

  it.each([
    ['prefix', 'ff4dea141fdef2c1180c256dacf94df90299870812ecd99da5d3dd12e129b4bcb6bc59aa326ac918c12ed830f33222f4'],
    ['suffix', 'a770183e148eea885212b51a9c64c9ccdf8393f2c46720d93a8b2348a8a3ffd4c78f9977e95ab2d89518b095a0b164f2'],
  ] as const)('measures initrd=initrd as %s, as booted machines did', (placed, digest) => {
    const text = measuredCommandLine('console=ttyS0 quiet panic=-1 mitigations=off', true, placed)
    expect(toHex(sha384(new Uint8Array(Buffer.from(`${text}\0`, 'utf16le'))))).toBe(digest)
  })

  it('adds nothing to the command line without an initrd, and refuses a NUL', () => {
    expect(measuredCommandLine('quiet', false, 'prefix')).toBe('quiet')
    expect(() => rtmr2({ commandLine: 'quiet\0' }, 'prefix')).toThrow(FormatError)
  })
})

describe('Authenticode', () => {
  const code = utf8('the code of a kernel, as long as it needs to be')
  const plain = buildPe(code)

  it('is the hash of all but checksum, certificate entry and signatures', () => {
    const checksum = 0x40 + 24 + 64
    const entry = 0x40 + 24 + 144
    const parts = [plain.subarray(0, checksum), plain.subarray(checksum + 4, entry), plain.subarray(entry + 8)]
    expect(toHex(authenticodeSha384(plain))).toBe(node384(...parts))
    expect(toHex(authenticodeSha384(buildPe(code, { checksum: 7, signature: utf8('a signature') })))).toBe(
      node384(...parts),
    )
  })

  it('covers every byte of the code and what follows it', () => {
    expect(authenticodeSha384(buildPe(utf8('other code')))).not.toEqual(authenticodeSha384(plain))
    expect(authenticodeSha384(concat(plain, utf8('more')))).not.toEqual(authenticodeSha384(plain))
  })

  it('RTMR1 is the kernel and the fixed events of a direct boot', () => {
    const events = [
      Buffer.from(authenticodeSha384(plain)).toString('hex'),
      '77a0dab2312b4e1e57a84d865a21e5b2ee8d677a21012ada819d0a98988078d3d740f6346bfe0abaa938ca20439a8d71',
      '394341b7182cd227c5c6b07ef8000cdfd86136c4292b8e576573ad7ed9ae41019f5818b4b971c9effc60e1ad9f1289f0',
      '214b0bef1379756011344877743fdc2a5382bac6e70362d624ccf3f654407c1b4badf7d8f9295dd3dabdef65b27677e0',
      '0a2e01c85deae718a530ad8c6d20a84009babe6c8989269e950d8cf440c6e997695e64d455c4174a652cd080f6230b74',
    ]
    const register = events.reduce((at, event) => node384(Buffer.from(at + event, 'hex')), '00'.repeat(48))
    expect(toHex(rtmr1(plain))).toBe(register)
  })

  it('refuses what is no PE file, cut anywhere in its headers or code', () => {
    for (let at = 0; at < plain.length; at += 7)
      expect(() => authenticodeSha384(plain.subarray(0, at))).toThrow(FormatError)
    const overlong = buildPe(code, { signature: utf8('x') })
    new DataView(overlong.buffer).setUint32(0x40 + 24 + 148, overlong.length, true)
    expect(() => authenticodeSha384(overlong)).toThrow(/signature is longer/)
  })
})

it('QEMU’s patch touches nothing but the setup header', () => {
  const kernel = new Uint8Array(0x1000).fill(0x11)
  const view = new DataView(kernel.buffer)
  view.setUint32(0x202, 0x53726448, true)
  view.setUint16(0x206, 0x20f, true)
  const loaded = asLoadedByQemu(kernel, { memoryBytes: 1024 ** 3, initrdBytes: 40_656_513 })
  expect(new DataView(loaded.buffer).getUint32(0x218, true)).toBe(0x3d912000)
  const changed = [...loaded.keys()].filter((at) => loaded[at] !== kernel[at])
  expect(changed.every((at) => at >= 0x210 && at < 0x22c)).toBe(true)
  expect(() => asLoadedByQemu(new Uint8Array(0x1000), { memoryBytes: 1, initrdBytes: 0 })).toThrow(
    /no Linux setup header/,
  )
})

/** Real firmware and kernels, by SHA-256, anywhere under `SUBROSA_FIRMWARE`. They are large and belong to others. */
const folder = process.env['SUBROSA_FIRMWARE'] ?? ''
const files = existsSync(folder)
  ? new Map(
      readdirSync(folder, { recursive: true })
        .map((name) => join(folder, String(name)))
        .filter((path) => statSync(path).isFile() && statSync(path).size < 64 * 1024 * 1024)
        .map((path) => [createHash('sha256').update(readFileSync(path)).digest('hex'), path]),
    )
  : new Map<string, string>()
const real = (sha256: string) => new Uint8Array(readFileSync(files.get(sha256) ?? ''))

describe('recorded values of Debian’s builds other than those of the image’s lock', () => {
  const BUILDS = [
    [
      'a265075b4147a096109e501e76196df1ec8a18659c26f7401492c597ec88f312',
      'a7a1f751abc454f9cbab198ca8d2edb2821935df525c74182b5e776cb0929e8c59aefecce725b0d08a5e9d3d3183bd08',
      'b90b236113eb4c0d4df4ef590568c14e6028a3a31d7e8ac63dee9845df5008d3ebf82d4f5974e933798f65d7a279b9a9',
    ],
    [
      '14954040cc754ade0c625ac3470ea46d4c14318b5b1396de4ef77090203d76db',
      'bdc6fb145880f06f30c8b346b8dce2a99d9351b56892df22f80fcf6574caa9f9c31df8e8576d53b4d0cd1c3f28910e11',
      '456f07902150d008bb913c3e1e84e9297f735a6c83cd2a957a1f0a8bbedb06df188e3837ae48d32c73d473d097dc0db2',
    ],
  ] as const
  for (const [sha256, single, two] of BUILDS) {
    it.skipIf(!files.has(sha256))(`MRTD of ${sha256.slice(0, 8)} (skipped without SUBROSA_FIRMWARE)`, () => {
      const firmware = parseFirmware(real(sha256))
      expect(toHex(computeMrTd(firmware, 'single-pass'))).toBe(single)
      expect(toHex(computeMrTd(firmware, 'two-pass'))).toBe(two)
    })
  }

  const kernel = 'fadf27c4528461030ddff1d20e6622f76e1e007f7c64796f5ad9b71e37267a6f'
  it.skipIf(!files.has(kernel))('kernel, as on disk and as patched (skipped without SUBROSA_FIRMWARE)', () => {
    const bytes = real(kernel)
    expect(toHex(authenticodeSha384(bytes))).toBe(
      '1cb4acc80763825edf91bcdadba215a788ad2ed8c950a6c45a7243033ca9134d16dcfc6c4de536619940f8edaf50ab09',
    )
    const loaded = asLoadedByQemu(bytes, { memoryBytes: 1024 ** 3, initrdBytes: 40_656_513 })
    expect(toHex(authenticodeSha384(loaded))).toBe(
      '808990ae165060442c009a454d3b7c38daa3386a2771d64a76dd7ddf76a408865e603cd1eaa811e4751ccbddd90c02f5',
    )
  })
})

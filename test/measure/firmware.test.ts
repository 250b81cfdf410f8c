/** The firmware reader: what it finds, and that hostile files are refused and nothing else happens. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseFirmware } from '../../verifier/measure/firmware.js'
import { requireEnforcement } from '../../verifier/measure/known-firmware.js'
import { sevFacts } from '../../verifier/measure/snp-digest.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { buildFirmware } from './firmware-files.js'

const SEV = [
  [0x800000, 0x1000, 1],
  [0x80d000, 0x1000, 2],
  [0x80e000, 0x1000, 3],
  [0x810000, 0x1000, 0x10],
  [0x811000, 0, 4],
] as const
const whole = () => buildFirmware({ sev: SEV, tdx: [[0, 4096, 0xffffe000, 4096, 0, 1]], hashTableGpa: 0x810c00 })

describe('a whole file', () => {
  it('is read in file order', () => {
    const { sev, tdx } = parseFirmware(whole())
    expect(sev?.sections.map(({ type }) => type)).toEqual([
      'prevalidated',
      'secrets',
      'cpuid',
      'kernel-hashes',
      'calling-area',
    ])
    expect([sev?.resetEip, sev?.hashTableGpa]).toEqual([0x80b004, 0x810c00])
    expect(tdx).toMatchObject([{ type: 'code', extend: true, acceptedLater: false, gpa: 0xffffe000n }])
  })

  it('without tables has neither', () => {
    const plain = parseFirmware(new Uint8Array(4096))
    expect(plain).toMatchObject({ sev: undefined, tdx: undefined })
    expect(() => sevFacts(plain)).toThrow(/no SEV-SNP metadata/)
  })

  it('says by address 0 that it does no kernel hashing', () => {
    expect(parseFirmware(buildFirmware({ sev: SEV })).sev?.hashTableGpa).toBeUndefined()
  })
})

describe('refused', () => {
  it.each<[string, () => Uint8Array<ArrayBuffer>]>([
    ['half a page', () => new Uint8Array(4095)],
    ['nothing', () => new Uint8Array()],
    ['another metadata version', () => buildFirmware({ sev: SEV, version: 2 })],
    ['an unknown SEV section', () => buildFirmware({ sev: [[0x800000, 0x1000, 9]] })],
    [
      'overlapping sections',
      () =>
        buildFirmware({
          sev: [
            [0x800000, 0x2000, 1],
            [0x801000, 0x1000, 2],
          ],
        }),
    ],
    ['half a section', () => buildFirmware({ sev: [[0x800000, 0x800, 1]] })],
    [
      'too many sections',
      () => buildFirmware({ sev: Array.from({ length: 65 }, (_, i) => [0x800000 + i * 4096, 4096, 1] as const) }),
    ],
    ['an unknown TDX section', () => buildFirmware({ tdx: [[0, 4096, 0, 4096, 7, 0]] })],
    ['unknown TDX attributes', () => buildFirmware({ tdx: [[0, 4096, 0, 4096, 0, 4]] })],
    ['a TDX section outside the file', () => buildFirmware({ tdx: [[4096, 8192, 0, 8192, 0, 1]] })],
    ['a measured TDX section that is not full', () => buildFirmware({ tdx: [[0, 4096, 0, 8192, 0, 1]] })],
    [
      'an entry that is there twice',
      () => buildFirmware({ sev: SEV, extraEntry: '00f771de-1a7e-4fcb-890e-68c77e2fb44e' }),
    ],
  ])('%s', (_name, build) => {
    expect(() => parseFirmware(build())).toThrow(FormatError)
  })

  it('a file with any bytes changed is read or refused by a FormatError, never anything else', () => {
    const file = whole()
    // The tables are the interesting part: 0x100 on, 0x800 on and the end.
    const places = fc.oneof(
      fc.integer({ min: 0x100, max: 0x180 }),
      fc.integer({ min: 0x800, max: 0x840 }),
      fc.integer({ min: 8000, max: 8191 }),
    )
    fc.assert(
      fc.property(
        fc.array(fc.tuple(places, fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 6 }),
        (edits) => {
          const bytes = new Uint8Array(file)
          for (const [at, value] of edits) bytes[at] = value
          try {
            parseFirmware(bytes)
          } catch (error) {
            expect(error).toBeInstanceOf(FormatError)
          }
        },
      ),
      { numRuns: 2000 },
    )
  })
})

describe('firmware that boots anything', () => {
  const known = (sha256Hex: string) => ({ ...parseFirmware(whole()), sha256Hex })

  it('is refused by name, whatever the caller says', () => {
    const generic = known('6a3e8f438ad7269f5dfd884647587b88391fb23965bb3aa7902b519438dba129')
    for (const unlisted of ['allowed', 'refused'] as const) {
      expect(() => requireEnforcement(generic, unlisted)).toThrow(/ovmf-generic .* ignores it/)
    }
  })

  it('is refused while nobody knows it, unless the caller vouches for it', () => {
    const unknown = known('00'.repeat(32))
    expect(() => requireEnforcement(unknown, 'refused')).toThrow(/not known to enforce/)
    expect(() => requireEnforcement(unknown, 'allowed')).not.toThrow()
    const amdsev = known('3e4fd0b3fe3b2dbe481c3d9e99418a034174f26cbe1f55aa212b0f18c12d2d6f')
    expect(() => requireEnforcement(amdsev, 'refused')).not.toThrow()
  })
})

/**
 * Launch digests against published ones: the rows of virtee/sev-snp-measure's test suite (Apache-2.0) for two firmwares
 * written down as text, and Debian's AmdSev build likewise. No firmware file is needed.
 */
import { describe, expect, it } from 'vitest'
import type { SevSection, SevSectionType } from '../../verifier/measure/firmware.js'
import { kernelHashTable } from '../../verifier/measure/kernel-hashes.js'
import { type SevFirmwareFacts, snpLaunchDigest } from '../../verifier/measure/snp-digest.js'
import { type Hypervisor, vcpuSignature, vmsaPage } from '../../verifier/measure/vmsa.js'
import { fromHex, toHex } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'

const TYPES: Record<string, SevSectionType> = {
  '1': 'prevalidated',
  '2': 'secrets',
  '3': 'cpuid',
  '4': 'calling-area',
  '10': 'kernel-hashes',
}
/** `gpa,size,type` in hexadecimal, as the sources write sections. */
function firmware(hash: string, hashTableGpa: number | undefined, rows: string): SevFirmwareFacts {
  const sections = rows.split(' ').map((row): SevSection => {
    const [gpa = '', size = '', type = ''] = row.split(',')
    return {
      gpa: Number.parseInt(gpa, 16),
      size: Number.parseInt(size, 16),
      type: TYPES[type] ?? expect.fail(`type ${type}`),
    }
  })
  return { resetEip: 0x80b004, hashTableGpa, sections, firmwareHash: fromHex(hash) }
}

const A = firmware(
  '086e2e9149ebf45abdc3445fba5b2da8270bdbb04094d7a2c37faaa4b24af3aa16aff8c374c2a55c467a50da6d466b74',
  0x810c00,
  '800000,9000,1 80a000,3000,1 80d000,1000,2 80e000,1000,3 80f000,1000,4 810000,1000,10 811000,f000,1',
)
const X = firmware(
  'b91e6fec73d2bcc57ad5fd400a426ce02731c22ea92bc894ce675e7c9921a822977d6cf025b85f8ef4f264bff8839d20',
  undefined,
  '800000,9000,1 80a000,3000,1 80d000,1000,2 80e000,1000,3 80f000,1000,4 810000,10000,1',
)
const DEBIAN = firmware(
  '9d0dd8be18c86e3fe3bf0038ed75ebf5340bee69fd2632c8ff9409964575960ae1f7e84be387d2e3467bc3508d1e4806',
  0x810c00,
  '800000,9000,1 80a000,3000,1 80d000,1000,2 80e000,1000,3 80f000,1000,4 811000,1f000,1 810000,1000,10',
)
const empty = (commandLine = '') => ({ kernel: new Uint8Array(), commandLine })
const FIRMWARE = { A, X, DEBIAN }

type Row = readonly [keyof typeof FIRMWARE, Hypervisor, number, string, bigint, string | null, string]
const EPYC = 'EPYC'
const GENOA = 'EPYC-Genoa'
/** A null command line means no kernel at all. */
const ROWS: readonly Row[] = [
  [
    'A',
    'qemu',
    1,
    EPYC,
    0x21n,
    '',
    '329c8ce0972ae52343b64d34a434a86f245dfd74f5ed7aae15d22efc78fb9683632b9b50e4e1d7fa41179ef98a7ef198',
  ],
  [
    'A',
    'qemu',
    1,
    EPYC,
    0x1n,
    '',
    'ddc5224521617a536ee7ce9dd6224d1b58a8d4fda1c741f3ac99fc4bfa04ba6e9fc98646d4a07a9079397fa3852819b5',
  ],
  [
    'A',
    'qemu',
    1,
    EPYC,
    0x21n,
    'console=ttyS0 loglevel=7',
    '803f691094946e42068aaa3a8f9e26a5c89f36f7b73ecfb28c653360fe4b3aba7e534442e7e1e17895dfe778d0228977',
  ],
  [
    'A',
    'qemu',
    1,
    EPYC,
    0x1n,
    'console=ttyS0 loglevel=7',
    '6d287813eb5222d770f75005c664e34c204f385ce832cc2ce7d0d6f354454362f390ef83a92046c042e706363b4b08fa',
  ],
  [
    'A',
    'qemu',
    4,
    EPYC,
    0x21n,
    '',
    '4953b1fb416fa874980e8442b3706d345926d5f38879134e00813c5d7abcbe78eafe7b422907be0b4698e2414a631942',
  ],
  [
    'A',
    'qemu',
    4,
    EPYC,
    0x1n,
    '',
    '5061fffb019493a903613d56d54b94912a1a2f9e4502385f5c194616753720a92441310ba6c4933de877c36e23046ad5',
  ],
  [
    'A',
    'qemu',
    1,
    EPYC,
    0x21n,
    null,
    'e1e1ca029dd7973ab9513295be68198472dcd4fc834bd9af9b63f6e8a1674dbf281a9278a4a2ebe0eed9f22adbcd0e2b',
  ],
  [
    'A',
    'qemu',
    1,
    EPYC,
    0x1n,
    null,
    '19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d',
  ],
  [
    'X',
    'qemu',
    1,
    EPYC,
    0x21n,
    null,
    '28797ae0afaba4005a81e629acebfb59e6687949d6be44007cd5506823b0dd66f146aaae26ff291eed7b493d8a64c385',
  ],
  [
    'X',
    'qemu',
    1,
    EPYC,
    0x1n,
    null,
    'da0296de8193586a5512078dcd719eccecbd87e2b825ad4148c44f665dc87df21e5b49e21523a9ad993afdb6a30b4005',
  ],
  [
    'A',
    'ec2',
    1,
    EPYC,
    0x21n,
    '',
    '0ce9ccc06bab55eebe8abc234f3df6514883977a68a591b71052498ab52b2f1aa415db338033946ef93aa8278c0d67fb',
  ],
  [
    'A',
    'ec2',
    1,
    EPYC,
    0x1n,
    '',
    '0883bd0eeb716e65b7b977a321c278d1e51b33b5c655fab985443bbcc65c086b9c15e8a0bd8811050dec7e24964e5056',
  ],
  [
    'A',
    'gce',
    1,
    EPYC,
    0x1n,
    '',
    '5da7106cf14cf46b1725ebab123eb9e53bd46a1e9f400cd0c08e7827b04b688ea8b4e403c8404efed4397ea5d5d0722e',
  ],
  [
    'A',
    'gce',
    4,
    EPYC,
    0x1n,
    '',
    '5c5debf100fc339f90276e761ee1f1658d08922c3b20e2a2e6c7a6c3370b2452a15a00eae11886a93d6fd1e7ab81e29d',
  ],
  [
    'DEBIAN',
    'qemu',
    1,
    EPYC,
    0x1n,
    '',
    'dc90224373ef87b56b4da4964a5fbefb3a0cd401f4ff04571c272c491ccd04bdbd91bc2e10665b1f155bb91db7956b74',
  ],
  [
    'DEBIAN',
    'qemu',
    1,
    EPYC,
    0x21n,
    '',
    'e0c8ac2127778b0ab34a75738b46453ea400a278d1552d4722220c0a4cbc621837b643d66a3b6790e44146923f664eff',
  ],
  [
    'DEBIAN',
    'qemu',
    4,
    GENOA,
    0x1n,
    '',
    'cddefe8c3416605d5ac29528986cda72d0711a2042d8ef482d61d7ff6c811e672fa17fdc5d706dc247939476d277bcc7',
  ],
  [
    'DEBIAN',
    'qemu',
    1,
    EPYC,
    0x1n,
    null,
    'd74bd3ea40b240c3228edc5177ce6193561ebff633dbd0be76d6c143b876d65102425c0e2e8a930857c48daa5eacda58',
  ],
  [
    'DEBIAN',
    'qemu',
    4,
    GENOA,
    0x1n,
    null,
    'd505c9acd20a52ed0afd3e763d3b7b1bdd695d54d588a3e9d7957b803b457602332d5911781485b552cbbed90a20f235',
  ],
]

const base = { firmware: A, hypervisor: 'qemu', vcpus: 1, signature: vcpuSignature(EPYC), guestFeatures: 1n } as const

describe('published launch digests', () => {
  it.each(ROWS)(
    'firmware %s, %s, %i vCPUs, %s, features %s, command line %j',
    (name, hypervisor, vcpus, type, guestFeatures, commandLine, digest) => {
      const boot = commandLine === null ? {} : { boot: empty(commandLine) }
      const signature = vcpuSignature(type)
      const { measurement } = snpLaunchDigest({
        firmware: FIRMWARE[name],
        hypervisor,
        vcpus,
        signature,
        guestFeatures,
        ...boot,
      })
      expect(toHex(measurement)).toBe(digest)
    },
  )

  it('the value before the vCPUs is the same for every shape', () => {
    const one = snpLaunchDigest({ ...base, firmware: DEBIAN, boot: empty() })
    const many = snpLaunchDigest({ ...base, firmware: DEBIAN, boot: empty(), vcpus: 64, guestFeatures: 0x21n })
    expect(toHex(one.beforeVcpus)).toBe(
      '3987091d948f07c80cd129e0365edd320b8726b23bf3abdaf581e2615f9b74821a000cb9808f41cdc82f208e2e4f2bb4',
    )
    expect(many.beforeVcpus).toEqual(one.beforeVcpus)
    expect(many.measurement).not.toEqual(one.measurement)
  })
})

describe('the kernel-hash table', () => {
  it('of nothing is the published 176 bytes', () => {
    expect(toHex(kernelHashTable(empty()))).toBe(
      '06d63894224fc94cb479a793d411fd21a800d82dd09720bd944caa78e7714d36ab2a32006e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d31f7ba442f3ad74b9af141e29169781d3200e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8553794e74dd2ab7f42b835d5b172d2045b3200e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8550000000000000000',
    )
  })

  it('differs with kernel, initrd and command line, and only with them', () => {
    const same = { kernel: new Uint8Array([1]), initrd: new Uint8Array([2]), commandLine: 'quiet' }
    const tables = [
      same,
      { ...same, kernel: new Uint8Array([3]) },
      { ...same, initrd: new Uint8Array([3]) },
      { ...same, commandLine: 'quiet ' },
    ].map((boot) => toHex(kernelHashTable(boot)))
    expect(new Set(tables).size).toBe(4)
    expect(toHex(kernelHashTable({ ...same }))).toBe(tables[0])
  })

  it('refuses a command line that the guest would read only the front of', () => {
    expect(() => kernelHashTable(empty('quiet\0init=/bin/sh'))).toThrow(FormatError)
  })
})

describe('what cannot be measured is refused', () => {
  it('a kernel under firmware without kernel hashing', () => {
    expect(() => snpLaunchDigest({ ...base, firmware: X, boot: empty() })).toThrow(/no place for kernel hashes/)
    const noAddress = { ...A, hashTableGpa: undefined }
    expect(() => snpLaunchDigest({ ...base, firmware: noAddress, boot: empty() })).toThrow(/no place for kernel hashes/)
  })

  it('a table outside its own page', () => {
    for (const hashTableGpa of [0x80f000, 0x810fff, 0x811000]) {
      const astray = { ...A, hashTableGpa }
      expect(() => snpLaunchDigest({ ...base, firmware: astray, boot: empty() })).toThrow(/not inside its own page/)
    }
  })

  it.each([
    [
      'overlapping sections',
      [
        { gpa: 0x800000, size: 0x2000, type: 'secrets' },
        { gpa: 0x801000, size: 0x1000, type: 'cpuid' },
      ],
    ],
    ['half a page', [{ gpa: 0x800000, size: 0x800, type: 'secrets' }]],
    ['an address between pages', [{ gpa: 0x800010, size: 0x1000, type: 'secrets' }]],
    [
      'two hash pages',
      [
        { gpa: 0x800000, size: 0x1000, type: 'kernel-hashes' },
        { gpa: 0x801000, size: 0x1000, type: 'kernel-hashes' },
      ],
    ],
    ['memory beyond 4 GiB', [{ gpa: 0xfffff000, size: 0x2000, type: 'secrets' }]],
  ] satisfies [string, SevSection[]][])('%s', (_name, sections) => {
    expect(() => snpLaunchDigest({ ...base, firmware: { ...A, sections } })).toThrow(FormatError)
  })

  it.each([0, -1, 1.5, 513, Number.NaN])('%s vCPUs', (vcpus) => {
    expect(() => snpLaunchDigest({ ...base, vcpus })).toThrow(/vCPUs/)
  })

  it('an unknown vCPU model; versions of a model have its signature', () => {
    expect(() => vcpuSignature('Opteron')).toThrow(/expected one of EPYC/)
    expect(vcpuSignature('EPYC-Milan-v3')).toBe(0x00a00f11)
    expect(vcpuSignature('EPYC-Turin')).toBe(0x00b00f00)
    expect(vcpuSignature('EPYC-Rome')).toBe(0x00830f10)
  })
})

it('a VMSA page is one page and starts where it is told', () => {
  const page = vmsaPage({ hypervisor: 'qemu', eip: 0x80b004, signature: 0xa10f10, guestFeatures: 1n })
  expect(page).toHaveLength(4096)
  const view = new DataView(page.buffer)
  expect([view.getUint32(0x18, true), view.getUint32(0x178, true)]).toEqual([0x800000, 0xb004])
})

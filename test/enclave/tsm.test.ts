import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { WorkerError } from '../../enclave/errors.js'
import { certificatesOf, certificateTable } from '../../enclave/platforms/certificate-table.js'
import { detectPlatform } from '../../enclave/platforms/detect.js'
import type { KernelFiles } from '../../enclave/platforms/kernel-files.js'
import type { Platform } from '../../enclave/platforms/platform.js'
import { openTsm } from '../../enclave/platforms/tsm.js'
import { type Bytes, fromHex, utf8 } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'

const HOST_DATA = new Uint8Array(32).fill(5)

interface FakeOptions {
  readonly provider?: string
  readonly auxblob?: Bytes
  /** Extra writes by someone else, by attempt. */
  readonly interference?: readonly number[]
  /** Report data to answer with instead of what was asked for. */
  readonly wrongReportData?: boolean
  readonly outblob?: (inblob: Bytes) => Bytes
  readonly missing?: boolean
}

/** configfs as far as it can be told apart from the real one by file operations. */
function fakeConfigfs(
  options: FakeOptions = {},
): KernelFiles & { readonly entries: Map<string, Bytes>; attempts: number } {
  const entries = new Map<string, Bytes>()
  const { provider = 'sev_guest' } = options
  const fake = {
    entries,
    attempts: 0,
    async makeFolder(path: string) {
      if (options.missing === true) throw Object.assign(new Error('no'), { code: 'ENOENT' })
      fake.attempts += 1
      entries.set(path, new Uint8Array(0))
    },
    async removeFolder(path: string) {
      entries.delete(path)
    },
    async write(path: string, bytes: Bytes) {
      expect(path.endsWith('/inblob')).toBe(true)
      entries.set(path.slice(0, -'/inblob'.length), bytes)
    },
    async read(path: string): Promise<Bytes> {
      const [, entry = '', file] = /^(.*)\/([^/]+)$/.exec(path) ?? []
      const inblob = entries.get(entry)
      if (inblob === undefined) throw Object.assign(new Error('no'), { code: 'ENOENT' })
      const extra = inblob.length > 0 ? (options.interference?.[fake.attempts - 1] ?? 0) : 0
      if (file === 'provider') return utf8(`${provider}\n`)
      if (file === 'generation') return utf8(`${inblob.length > 0 ? 1 + extra : 0}\n`)
      if (file === 'auxblob') return options.auxblob ?? new Uint8Array(0)
      if (options.outblob !== undefined) return options.outblob(inblob)
      const report = new Uint8Array(1184)
      report[0] = 5
      report.set(options.wrongReportData === true ? new Uint8Array(64) : inblob, 0x50)
      report.set(HOST_DATA, 0xc0)
      return report
    },
  }
  return fake
}

function detect(files: KernelFiles): Promise<Platform> {
  return detectPlatform({ sources: [() => openTsm({ files, sleep: async () => undefined })] })
}

describe('configfs-tsm', () => {
  it('reads host data and reports of an SNP guest, and leaves no entry behind', async () => {
    const files = fakeConfigfs()
    const platform = await detect(files)
    expect(platform).toMatchObject({ kind: 'snp', simulated: false, hostData: HOST_DATA })
    const reportData = crypto.getRandomValues(new Uint8Array(64))
    expect((await platform.attest(reportData)).slice(0x50, 0x90)).toEqual(reportData)
    expect(files.entries.size).toBe(0)
  })

  it.each([
    [4, 568, 232],
    [5, 574, 238],
  ])('reads TDX quotes of version %i', async (version, reportDataAt, configIdAt) => {
    const platform = await detect(
      fakeConfigfs({
        provider: 'tdx_guest',
        outblob: (inblob) => {
          const quote = new Uint8Array(700)
          quote[0] = version
          quote.set(inblob, reportDataAt)
          quote.fill(3, configIdAt, configIdAt + 48)
          return quote
        },
      }),
    )
    expect(platform).toMatchObject({ kind: 'tdx', hostData: new Uint8Array(48).fill(3) })
    expect(await platform.endorsements()).toEqual([])
  })

  it('starts over when somebody else wrote to its entry', async () => {
    const files = fakeConfigfs({ interference: [0, 1, 0] })
    await detect(files)
    // The first entry asks what there is.
    expect(files.attempts).toBe(3)
  })

  it('gives up on a machine that answers for other report data', async () => {
    await expect(detect(fakeConfigfs({ wrongReportData: true }))).rejects.toMatchObject({
      code: 'worker.platform',
    })
  })

  it('takes an empty quote for a failure', async () => {
    const files = fakeConfigfs({ provider: 'tdx_guest', outblob: () => new Uint8Array(0) })
    await expect(detect(files)).rejects.toMatchObject({ code: 'worker.platform' })
    expect(files.entries.size).toBe(0)
  })

  it('says what to do on a machine without a TEE', async () => {
    const refused = detect(fakeConfigfs({ missing: true }))
    await expect(refused).rejects.toMatchObject({ code: 'worker.no-tee' })
    await expect(refused).rejects.toThrow(/--simulated/)
  })

  it('asks one interface after the other, and says what each lacked', async () => {
    const absent = async (): Promise<never> => {
      throw new WorkerError('worker.no-tee', 'no /dev/sev-guest')
    }
    const refused = detectPlatform({ sources: [() => openTsm({ files: fakeConfigfs({ missing: true }) }), absent] })
    await expect(refused).rejects.toThrow(/no configfs-tsm.*; no \/dev\/sev-guest/)
    const broken = async (): Promise<never> => {
      throw new WorkerError('worker.platform', 'broken')
    }
    await expect(detectPlatform({ sources: [absent, broken, absent] })).rejects.toMatchObject({ message: 'broken' })
  })

  it('makes one report at a time, and none while one hangs', async () => {
    let running = 0
    let hang: (() => void) | undefined
    const source = {
      name: 'slow',
      kind: 'snp' as const,
      async make() {
        expect(running++).toBe(0)
        await new Promise<void>((resolve) => {
          hang = resolve
          if (calls++ < 3) setImmediate(resolve)
        })
        running--
        return { evidence: new Uint8Array(), hostData: HOST_DATA, certificates: [] }
      },
    }
    let calls = 0
    const platform = await detectPlatform({ sources: [async () => source], timeoutMs: 2000 })
    await Promise.all([platform.attest(new Uint8Array(64)), platform.attest(new Uint8Array(64))])
    await expect(platform.attest(new Uint8Array(64))).rejects.toThrow(/no report within/)
    await expect(platform.attest(new Uint8Array(64))).rejects.toThrow(/earlier request/)
    hang?.()
    await new Promise(setImmediate)
    calls = 0
    await platform.attest(new Uint8Array(64))
  })

  it('refuses report data of any other length', async () => {
    const platform = await detect(fakeConfigfs())
    await expect(platform.attest(new Uint8Array(63))).rejects.toThrow(RangeError)
  })
})

describe('certificate table', () => {
  const table = (offset: number, length: number): Bytes => {
    const out = new Uint8Array(56)
    out.set(fromHex('63da758de6644564adc5f4b93be8accd'))
    new DataView(out.buffer).setUint32(16, offset, true)
    new DataView(out.buffer).setUint32(20, length, true)
    out[48] = 0x30
    return out
  }

  it('staples what it knows and refuses entries past the end', () => {
    expect(certificateTable(new Uint8Array(0))).toEqual([])
    expect(certificateTable(table(48, 8))).toEqual([
      { type: 'application/pkix-cert', bytes: Uint8Array.of(0x30, 0, 0, 0, 0, 0, 0, 0) },
    ])
    expect(() => certificateTable(table(48, 9))).toThrow(FormatError)
    expect(() => certificateTable(new Uint8Array(23))).toThrow(FormatError)
    expect(() => certificateTable(table(16, 8))).toThrow(FormatError)
  })

  it('staples nothing of a table it cannot read, whatever the host wrote', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(Array.isArray(certificatesOf(new Uint8Array(bytes)))).toBe(true)
      }),
    )
  })
})

/**
 * The worker's own code against a stand-in for the kernel of a confidential guest (fake-guest.c), which replays recorded
 * evidence: real system calls, real ioctl, no injected interface.
 */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { toHex } from '../../verifier/protocol/bytes.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'
import { compile, inGuest, withoutCompiler } from './native.js'

interface Made {
  readonly kind: string
  readonly evidence: string
  readonly certificates: readonly { readonly type: string; readonly bytes: string }[]
  readonly error?: string
  readonly message?: string
}

const reason = withoutCompiler ? ' (no C compiler here)' : ' (captured evidence is not here)'
const absent = withoutCompiler || withoutVectors
const SNP = 'genoa-v3-tsm-outblob-report.bin'
const TABLE = 'genoa-v3-tsm-auxblob-cert-table.bin'
const TDX = 'v4-b0c06f-uptodate-quote.bin'

const hexOf = (folder: string, name: string): string => toHex(new Uint8Array(readFileSync(vectorPath(folder, name))))

function snpGuest(more: Readonly<Record<string, string>> = {}): Record<string, string> {
  return {
    LD_PRELOAD: compile('fake-guest.c'),
    FAKE_TSM: 'sev_guest',
    FAKE_OUTBLOB: vectorPath('snp', SNP),
    FAKE_AUXBLOB: vectorPath('snp', TABLE),
    ...more,
  }
}

function tdxGuest(more: Readonly<Record<string, string>> = {}): Record<string, string> {
  return {
    LD_PRELOAD: compile('fake-guest.c'),
    FAKE_TSM: 'tdx_guest',
    FAKE_OUTBLOB: vectorPath('tdx', TDX),
    ...more,
  }
}

function sevGuestDevice(more: Readonly<Record<string, string>> = {}): Record<string, string> {
  return {
    LD_PRELOAD: compile('fake-guest.c'),
    FAKE_SEV_GUEST: vectorPath('snp', SNP),
    FAKE_CERTIFICATES: vectorPath('snp', TABLE),
    ...more,
  }
}

/** Opens a source and has it make evidence over these report data. */
const make = (opener: string, reportDataHex: string): string => `
  const source = await (await load('enclave/platforms/${opener === 'openTsm' ? 'tsm' : 'sev-guest'}.js')).${opener}({ sleep: async () => undefined })
  const made = await source.make(new Uint8Array(Buffer.from('${reportDataHex}', 'hex')))
  return { kind: source.kind, ...made }`

describe.skipIf(absent)(`configfs-tsm of the kernel${absent ? reason : ''}`, () => {
  const reportData = (): string => hexOf('snp', SNP).slice(0x50 * 2, 0x90 * 2)

  it('returns a recorded SNP report and its certificates, PEM turned into DER', async () => {
    const made = await inGuest<Made>(make('openTsm', reportData()), snpGuest())
    expect(made).toMatchObject({ kind: 'snp', evidence: hexOf('snp', SNP) })
    expect(made.certificates.map(({ type }) => type)).toEqual(Array(3).fill('application/pkix-cert'))
    for (const { bytes } of made.certificates) expect(bytes.startsWith('3082')).toBe(true)
  })

  it('returns a recorded TDX quote', async () => {
    const quote = hexOf('tdx', TDX)
    const made = await inGuest<Made>(make('openTsm', quote.slice(568 * 2, 632 * 2)), tdxGuest())
    expect(made).toMatchObject({ kind: 'tdx', evidence: quote, certificates: [] })
  })

  it('gives up on a report that was recorded for somebody else', async () => {
    const made = await inGuest<Made>(make('openTsm', '07'.repeat(64)), snpGuest())
    expect(made).toMatchObject({ error: 'worker.platform' })
    expect(made.message).toMatch(/no report for the report data asked for/)
  })

  it('tries again after a busy driver', async () => {
    const made = await inGuest<Made>(make('openTsm', reportData()), snpGuest({ FAKE_FAULT: 'busy' }))
    expect(made.kind).toBe('snp')
  })

  it.each([
    ['interference', /no report for the report data asked for/],
    ['lost-write', /the driver refuses the privilege level or the request \(EINVAL\)/],
    ['empty', /empty/],
    ['wiped', /restart it \(ENOTTY\)/],
  ])('names the reason when it fails: %s', async (fault, message) => {
    const made = await inGuest<Made>(make('openTsm', reportData()), snpGuest({ FAKE_FAULT: fault }))
    expect(made).toMatchObject({ error: 'worker.platform' })
    expect(made.message).toMatch(message)
  })

  it('names a quoting service that does not answer, and one that is not there', async () => {
    const late = await inGuest<Made>(make('openTsm', '00'.repeat(64)), tdxGuest({ FAKE_FAULT: 'timeout' }))
    expect(late.message).toMatch(/did not answer in 30 s \(ETIMEDOUT\)/)
    const none = await inGuest<Made>(make('openTsm', '00'.repeat(64)), tdxGuest({ FAKE_FAULT: 'empty' }))
    expect(none.message).toMatch(/nothing on the host makes quotes/)
  })

  it('refuses report data of another length as the kernel does', async () => {
    const made = await inGuest<Made>(make('openTsm', '00'.repeat(63)), snpGuest())
    expect(made.message).toMatch(/EINVAL/)
  })

  it('tells a kernel without the interface from one without a provider', async () => {
    const none = await inGuest<Made>(make('openTsm', reportData()), snpGuest({ FAKE_TSM: '' }))
    expect(none).toMatchObject({ error: 'worker.no-tee' })
    expect(none.message).toMatch(/configfs is not mounted/)
    const unprovided = await inGuest<Made>(make('openTsm', reportData()), snpGuest({ FAKE_TSM: 'none' }))
    expect(unprovided).toMatchObject({ error: 'worker.no-tee' })
    expect(unprovided.message).toMatch(/no provider/)
  })
})

describe.skipIf(absent)(`/dev/sev-guest${absent ? reason : ''}`, () => {
  const reportData = (): string => hexOf('snp', SNP).slice(0x50 * 2, 0x90 * 2)

  it('returns a recorded report and the host’s table, asking again with the room it takes', async () => {
    const made = await inGuest<Made>(make('openSevGuest', reportData()), sevGuestDevice())
    expect(made).toMatchObject({ kind: 'snp', evidence: hexOf('snp', SNP) })
    expect(made.certificates).toHaveLength(3)
  })

  it('asks for the report alone where the table is larger than the driver takes', async () => {
    const made = await inGuest<Made>(make('openSevGuest', reportData()), sevGuestDevice({ FAKE_FAULT: 'large-table' }))
    expect(made).toMatchObject({ evidence: hexOf('snp', SNP), certificates: [] })
  })

  it('waits while the host throttles', async () => {
    const made = await inGuest<Made>(make('openSevGuest', reportData()), sevGuestDevice({ FAKE_FAULT: 'throttle' }))
    expect(made.kind).toBe('snp')
  })

  it.each([
    ['invalid-param', /the firmware answered INVALID_PARAM/],
    ['wiped', /the message key was wiped/],
    ['status', /refused to make a report: INVALID_KEY/],
  ])('names the error: %s', async (fault, message) => {
    const made = await inGuest<Made>(make('openSevGuest', reportData()), sevGuestDevice({ FAKE_FAULT: fault }))
    expect(made).toMatchObject({ error: 'worker.platform' })
    expect(made.message).toMatch(message)
  })

  it('gives up on a report that was recorded for somebody else, and on a machine without the device', async () => {
    const other = await inGuest<Made>(make('openSevGuest', '07'.repeat(64)), sevGuestDevice())
    expect(other.message).toMatch(/not for the report data asked for/)
    const none = await inGuest<Made>(make('openSevGuest', reportData()), { LD_PRELOAD: compile('fake-guest.c') })
    expect(none).toMatchObject({ error: 'worker.no-tee' })
  })
})

describe.skipIf(absent)(`the platform of the machine${absent ? reason : ''}`, () => {
  interface Detected {
    readonly name: string
    readonly kind: string
    readonly hostData: string
    readonly reportData: string
    readonly eventLogBytes: number
    readonly error?: string
    readonly message?: string
  }
  const detect = `
    const platform = await (await load('enclave/platforms/detect.js')).detectPlatform()
    const evidence = await platform.attest(new Uint8Array(64).fill(7))
    const at = platform.kind === 'snp' ? 0x50 : 568
    return { name: platform.name, kind: platform.kind, hostData: platform.hostData,
      reportData: evidence.slice(at, at + 64), eventLogBytes: platform.eventLog?.length ?? 0 }`
  const ECHO = { FAKE_REPORT_DATA: 'echo' }

  it('prefers configfs-tsm, falls back to the device, and refuses where there is neither', async () => {
    const both = await inGuest<Detected>(detect, { ...sevGuestDevice(), ...snpGuest(), ...ECHO })
    expect(both).toMatchObject({ name: 'configfs-tsm', kind: 'snp', reportData: '07'.repeat(64) })
    expect(both.hostData).toBe(hexOf('snp', SNP).slice(0xc0 * 2, 0xe0 * 2))
    const device = await inGuest<Detected>(detect, { ...sevGuestDevice(), ...ECHO })
    expect(device).toMatchObject({ name: 'sev-guest', kind: 'snp', reportData: '07'.repeat(64) })
    const neither = await inGuest<Detected>(detect, { LD_PRELOAD: compile('fake-guest.c') })
    expect(neither).toMatchObject({ error: 'worker.no-tee' })
    expect(neither.message).toMatch(/configfs.*sev-guest.*tpmrm0/)
  })

  it('carries the event log of a TDX guest without its padding', async () => {
    const log = await inGuest<Detected>(detect, {
      ...tdxGuest(),
      ...ECHO,
      FAKE_CCEL: vectorPath('tdx', 'ccel-ovmf-64k.bin'),
    })
    expect(log).toMatchObject({ kind: 'tdx', reportData: '07'.repeat(64) })
    expect(log.eventLogBytes).toBeGreaterThan(1000)
    expect(log.eventLogBytes).toBeLessThan(65_536)
    const none = await inGuest<Detected>(detect, { ...tdxGuest(), ...ECHO, FAKE_CCEL: '/nonexistent' })
    expect(none.eventLogBytes).toBe(0)
  })

  it('does not take a replay of recorded evidence for a machine', async () => {
    const replay = await inGuest<Detected>(detect, snpGuest())
    expect(replay).toMatchObject({ error: 'worker.platform' })
  })
})

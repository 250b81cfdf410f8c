/**
 * End to end with recorded evidence: the worker's own code takes it from a stand-in kernel and a stand-in GPU library, the
 * attester puts it into a bundle, and the verifier says of each part what it says of the recording alone. Recorded evidence
 * was made for other report data and another nonce, so the two bindings fail, and nothing else does.
 */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { createAttester } from '../../enclave/attester.js'
import { createKeyLadder } from '../../enclave/keys.js'
import type { Platform } from '../../enclave/platforms/platform.js'
import { type VerifyOptions, verifyEvidence } from '../../verifier/appraise.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { resolvePolicy } from '../../verifier/policy.js'
import { type Bytes, fromHex, toHex } from '../../verifier/protocol/bytes.js'
import { STATEMENT } from '../support/samples.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'
import { compile, inGuest, withoutCompiler } from './native.js'

const reason = withoutCompiler ? ' (no C compiler here)' : ' (captured evidence is not here)'
const absent = withoutCompiler || withoutVectors
const GPU = 'hopper-550-90-07'
const GPU_NONCE = '931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb'

interface Case {
  readonly kind: 'snp' | 'tdx'
  readonly evidence: string
  readonly table?: string
  readonly reportDataAt: number
  readonly at: string
  readonly endorsements: readonly string[]
  /** What fails of the recordings alone: no instant suits the quote’s collateral and the GPU’s manifests both. */
  readonly alone: readonly string[]
}

const CASES: readonly Case[] = [
  {
    kind: 'snp',
    evidence: 'genoa-v3-tsm-outblob-report.bin',
    table: 'genoa-v3-tsm-auxblob-cert-table.bin',
    reportDataAt: 0x50,
    at: '2026-05-25T00:00:00Z',
    endorsements: [],
    alone: [],
  },
  {
    kind: 'tdx',
    evidence: 'v4-b0c06f-uptodate-quote.bin',
    reportDataAt: 568,
    at: '2025-06-25T00:00:00Z',
    endorsements: ['tdx/v4-b0c06f-uptodate-collateral-2025-06.json'],
    alone: ['gpu.vbios-rim.window'],
  },
]

const bytesOf = (...path: readonly string[]): Bytes => new Uint8Array(readFileSync(vectorPath(...path)))

/** What a guest with this evidence and one recorded GPU hands the attester. */
async function guestOf({ kind, evidence, table, reportDataAt }: Case) {
  const reportData = toHex(bytesOf(kind, evidence).slice(reportDataAt, reportDataAt + 64))
  return inGuest<{
    readonly evidence: string
    readonly hostData: string
    readonly certificates: readonly { readonly type: 'application/pkix-cert'; readonly bytes: string }[]
    readonly gpu: string
  }>(
    `const source = await (await load('enclave/platforms/tsm.js')).openTsm()
     const made = await source.make(new Uint8Array(Buffer.from('${reportData}', 'hex')))
     const nvml = await (await load('enclave/platforms/nvml.js')).openNvml({ library: process.env.FAKE_NVML })
     const gpu = await nvml.evidence(0, new Uint8Array(Buffer.from('${GPU_NONCE}', 'hex')))
     return { ...made, gpu }`,
    {
      LD_PRELOAD: compile('fake-guest.c'),
      FAKE_TSM: kind === 'snp' ? 'sev_guest' : 'tdx_guest',
      FAKE_OUTBLOB: vectorPath(kind, evidence),
      FAKE_AUXBLOB: vectorPath(kind, table ?? 'README.md'),
      FAKE_NVML: compile('fake-nvml.c'),
      FAKE_NVML_DEVICES: vectorPath('nvidia', GPU),
    },
  )
}

const failing = ({ checks }: { readonly checks: readonly { readonly id: string; readonly status: string }[] }) =>
  checks.filter(({ status }) => status === 'fail').map(({ id }) => id)

describe.skipIf(absent)(`a bundle of recorded evidence${absent ? reason : ''}`, () => {
  it.each(CASES)('$kind: every check but the two bindings says what it says of the recording', async (recorded) => {
    const guest = await guestOf(recorded)
    const now = new Date(recorded.at)
    const gpu = fromHex(guest.gpu)
    const options: VerifyOptions = {
      now,
      endorsements: sortEndorsements(
        [...recorded.endorsements, `nvidia/${GPU}/driver-rim.xml`, `nvidia/${GPU}/vbios-rim.xml`].map((name) => ({
          name,
          bytes: bytesOf(name),
        })),
      ),
      policy: resolvePolicy({
        schema: 'subrosa-policy/1',
        measurements: 'any',
        model: 'any',
        revocation: 'available',
        snp: { tcbFloor: 'none' },
      }),
    }
    const platform: Platform = {
      name: 'recorded',
      kind: recorded.kind,
      simulated: false,
      hostData: fromHex(guest.hostData),
      attest: async () => fromHex(guest.evidence),
      attestDevices: async () => ({ gpus: [gpu], switches: [] }),
      endorsements: async () => guest.certificates.map(({ type, bytes }) => ({ type, bytes: fromHex(bytes) })),
    }
    const seconds = (): number => now.getTime() / 1000
    const { bootId: _, keys: __, ...statement } = STATEMENT
    const keys = await createKeyLadder({
      now: seconds,
      statement: { ...statement, configDigest: platform.hostData },
    })
    const attester = createAttester({ platform, keys, now: seconds, windowMs: 0 })
    const nonce = new Uint8Array(32).fill(9)
    const bundle = await attester.bundle(nonce)

    const whole = await verifyEvidence(bundle, { ...options, nonce })
    expect(failing(whole)).toEqual(['binding.report-data', 'gpu.nonce.match', ...recorded.alone])
    expect(whole.verdict).toBe('rejected')

    const certificates = sortEndorsements(
      guest.certificates.map(({ bytes }, i) => ({ name: `certificate ${i}`, bytes: fromHex(bytes) })),
    )
    const pool = {
      ...options.endorsements,
      certificates: [...(options.endorsements?.certificates ?? []), ...certificates.certificates],
    } as NonNullable<VerifyOptions['endorsements']>
    const alone = [
      await verifyEvidence(fromHex(guest.evidence), { ...options, endorsements: pool }),
      await verifyEvidence(gpu, options),
    ]
    expect(alone[0]?.verdict).toBe('accepted')
    expect(alone.flatMap(failing)).toEqual(recorded.alone)
    for (const { id, status } of alone.flatMap(({ checks }) => checks)) {
      const again = whole.checks.find((check) => check.id === id)
      if (again !== undefined && id !== 'gpu.nonce.match') expect([id, again.status]).toEqual([id, status])
    }
    attester.close()
    keys.close()
  })
})

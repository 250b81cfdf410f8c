/**
 * Agreement with an independent verifier, `@phala/dcap-qvl`: on every shared quote that it can read, either both accept or
 * neither does, or the difference is in a table here with its reason. Skipped, by name, without the evidence.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { sortEndorsements } from '../../verifier/endorsements.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { STRICT_TDX_POLICY } from '../../verifier/tdx/policy.js'
import { tally } from '../support/tally.js'
import { vectorPath, vectorsFolder, withoutVectors } from '../support/vectors.js'
import { filesUnder, prepareCase, readCases, readConformance, run, type TdxCase } from './cases.js'
import { askDcapQvl, type Collateral, type DcapQvlVerdict, verdictOf } from './dcap-qvl.js'

/** Why the verdicts differ, and what it says: its error, or the status it accepts. */
const REASONS = {
  unmatched: {
    why: 'the policy accepts Unmatched by name; it takes a platform without a TCB level for an error',
    says: /^No matching TCB level found$/,
  },
  module: {
    why: 'TEE_TCB_SVN[1] names a TDX module with an identity of its own, by which components 0 and 1 are judged; it holds them to the platform’s levels and knows no module identities',
    says: /^(OutOfDate|No matching TCB level found)$/,
  },
  serviceTd: { why: 'the policy names the service TD; it refuses every one', says: /^Invalid mr service td$/ },
  authData: {
    why: 'the QE authentication data are empty; it hashes exactly 32 bytes whatever their length',
    says: /^QE report hash mismatch$/,
  },
  envelope: {
    why: 'the envelope beside the quote is another machine’s; it looks at the quote alone',
    says: /^UpToDate$/,
  },
} as const

const DIFFERENCES: Readonly<Record<string, keyof typeof REASONS>> = {
  'tdx/v5-td15-90c06f-tcb-unmatched/accepted-by-name': 'unmatched',
  'tdx/v4-50806f-spr-nonzero-trailing/unmatched-and-sept-ve-accepted': 'unmatched',
  'tdx/conformance/300-tdx-v4-happy': 'unmatched',
  'tdx/v4-00806f05-gcp-cos113': 'module',
  'tdx/v4-00806f05-gcp-cos113/event-log': 'module',
  'tdx/v4-00806f05-gcp-cos113/event-log-unpadded': 'module',
  'tdx/v4-00806f05-azure-dcesv5-outofdate/envelope': 'module',
  'tdx/azure-tdx-vtpm-evidence/out-of-date-accepted': 'module',
  'tdx/azure-tdx-vtpm-evidence/nonce': 'module',
  'tdx/v5-td15-90c06f-alibaba-servicetd/evaluation-17': 'serviceTd',
  'tdx/conformance/350-tcb-uptodate': 'authData',
  'tdx/conformance/360-tcb-swhardening-needed': 'authData',
  'tdx/conformance/361-tcb-configuration-needed': 'authData',
  'tdx/conformance/390-public-api-tcb-uptodate': 'authData',
  'tdx/v4-90c06f-azure-dcesv6/envelope-of-another': 'envelope',
}

/** What it cannot read; we refuse each of them too. */
const UNREAD = [
  'tdx/tdreport-1024',
  'tdx/conformance/310-wrong-quote-version',
  'tdx/conformance/311-wrong-tee-type-sgx',
  'tdx/conformance/314-truncated-quote',
  'tdx/conformance/315-wrong-signed-data-size',
]

async function bothOn(
  vectors: string,
  c: TdxCase,
): Promise<{ readonly ours: string; readonly theirs: DcapQvlVerdict }> {
  const input = prepareCase(vectors, c)
  const carried = c.conformance === undefined ? [] : readConformance(join(vectors, c.conformance)).files
  const theirs = askDcapQvl({
    evidence: input.quote,
    files: [...carried, ...c.endorsements.flatMap((path) => filesUnder(join(vectors, path)))],
    anchors: input.anchors,
    at: input.now,
    statuses: ['UpToDate', ...input.policy.acceptedStatuses],
  })
  return { ours: (await run(input)).verdict, theirs }
}

describe.skipIf(withoutVectors)('against @phala/dcap-qvl (skipped without SUBROSA_VECTORS)', () => {
  const vectors = vectorsFolder ?? ''
  const cases = readCases()
  const counted = tally('tdx.differential', cases.length)

  it.each(cases)(
    '%s',
    counted(async (name, c) => {
      const { ours, theirs } = await bothOn(vectors, c)
      expect(theirs.verdict === 'unread', theirs.reason).toBe(UNREAD.includes(name))
      if (theirs.verdict === 'unread') {
        expect(ours).not.toBe('accepted')
        return
      }
      const difference = DIFFERENCES[name]
      const agree = (ours === 'accepted') === (theirs.verdict === 'accepted')
      expect({ agree, theirs }).toMatchObject({ agree: difference === undefined })
      if (difference !== undefined) expect(theirs.reason, REASONS[difference].why).toMatch(REASONS[difference].says)
    }),
  )

  it('lists no difference of a case that is gone', () => {
    const names = cases.map(([name]) => name)
    expect([...Object.keys(DIFFERENCES), ...UNREAD].filter((name) => !names.includes(name))).toEqual([])
  })
})

const AT = new Date('2025-06-25T00:00:00Z')

/** What is done to the PCK CRL of a captured set, in hex; undefined leaves the member out. */
const CRL_FAULTS: Readonly<Record<string, (set: Collateral) => string | undefined>> = {
  absent: () => undefined,
  garbage: () => Buffer.from('garbage').toString('hex'),
  empty: () => '',
  altered: ({ pck_crl: crl }) => String(crl).replace(/.$/, (digit) => (digit === '0' ? '1' : '0')),
  expired: () => readFileSync(vectorPath('tdx/collateral-50806f-2023-06-pck-platform.crl')).toString('hex'),
  'wrong issuer': () => {
    const processor = readFileSync(vectorPath('tdx/wrong-tee-sgx-v3-collateral-2025-06.json'), 'utf8')
    return String((JSON.parse(processor) as Collateral).pck_crl)
  },
}

async function withFault(fault: string): Promise<readonly [ours: string, theirs: string]> {
  const read = (name: string): Bytes => new Uint8Array(readFileSync(vectorPath('tdx', name)))
  const quote = read('v4-b0c06f-uptodate-quote.bin')
  const good = JSON.parse(Buffer.from(read('v4-b0c06f-uptodate-collateral-2025-06.json')).toString()) as Collateral
  const { pck_crl: before, ...others } = good
  const damaged = fault === 'none' ? String(before) : CRL_FAULTS[fault]?.(good)
  const set = damaged === undefined ? others : { ...others, pck_crl: damaged }
  const { verdict, firstFailing } = await run({
    quote,
    endorsements: sortEndorsements([{ name: 'set', bytes: new TextEncoder().encode(JSON.stringify(set)) }]),
    anchors: [],
    now: AT,
    revocation: 'required',
    policy: STRICT_TDX_POLICY,
  })
  const theirs = verdictOf(quote, set as Collateral, { at: AT, statuses: ['UpToDate'] })
  return [firstFailing === null ? verdict : `${verdict}: ${firstFailing}`, theirs.verdict]
}

describe.skipIf(withoutVectors)('a PCK CRL that is not as it should be (skipped without SUBROSA_VECTORS)', () => {
  it('is never accepted by us, and by it in every case but one', async () => {
    const outcomes: Record<string, readonly string[]> = {}
    for (const fault of ['none', ...Object.keys(CRL_FAULTS)]) outcomes[fault] = await withFault(fault)
    expect(outcomes).toEqual({
      none: ['accepted', 'accepted'],
      absent: ['unavailable: tdx.crl.pck-issuer', 'rejected'],
      garbage: ['unavailable: tdx.crl.pck-issuer', 'accepted'],
      empty: ['unavailable: tdx.crl.pck-issuer', 'accepted'],
      altered: ['rejected: tdx.crl.pck-signature', 'accepted'],
      expired: ['rejected: tdx.crl.pck-window', 'accepted'],
      'wrong issuer': ['rejected: tdx.crl.pck-issuer', 'accepted'],
    })
  })
})

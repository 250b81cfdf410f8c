/** Readers of hostile bytes: a value or a FormatError, never anything else; and the edges each of them promises. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createIntelHierarchy, SIMULATED_EPOCH } from '../../scripts/simulated/intel.js'
import { encodeSgxExtension } from '../../scripts/simulated/intel-extensions.js'
import { buildTcbInfo, signCollateral } from '../../scripts/simulated/tdx-collateral.js'
import { buildCcelTable, buildEventLog, simulatedBootEvents } from '../../scripts/simulated/tdx-event-log.js'
import { buildTdxQuote, certificationData, tdxQuoteOffsets } from '../../scripts/simulated/tdx-quote.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { type Bytes, concat, toBytes, utf8 } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { readCertificateChain } from '../../verifier/tdx/certification-data.js'
import { parseCollateral } from '../../verifier/tdx/collateral.js'
import { collateralParts } from '../../verifier/tdx/collateral-set.js'
import { parseCcelTable, parseEventLog, replayDigests } from '../../verifier/tdx/event-log.js'
import { readTdxEvidence } from '../../verifier/tdx/evidence.js'
import { readHclTdxEnvelope } from '../../verifier/tdx/hcl.js'
import { readJsonMembers } from '../../verifier/tdx/json-range.js'
import { readPckClaims, SGX_EXTENSION_OID } from '../../verifier/tdx/pck.js'
import { describeTdxQuote, parseQuoteHeader, parseTdxQuote } from '../../verifier/tdx/quote.js'
import { type Certificate, parseCertificate } from '../../verifier/x509.js'
import { run } from './cases.js'
import { bentInput, hclEnvelope, runBent } from './world.js'

const RUNS = 400
const intel = createIntelHierarchy()
const pck = intel.issuePck()
const signer = intel.keys.tcbSigning.privateKey
const quote = toBytes(buildTdxQuote({ version: 5, pckPrivateKey: pck.privateKey, pckChain: intel.pckChain(pck) }))
const log = toBytes(buildEventLog(simulatedBootEvents()).bytes)
const info = buildTcbInfo({ issueDate: SIMULATED_EPOCH }, signer)
const sgx = encodeSgxExtension(pck.sgx)

/** A certificate whose SGX extension holds these bytes; nothing else of it is read. */
function withExtension(value: Bytes): Certificate {
  const certificate = parseCertificate(pck.der)
  return { ...certificate, extensions: new Map([[SGX_EXTENSION_OID, { der: value, critical: false, value }]]) }
}

const READERS: readonly (readonly [name: string, valid: Bytes, read: (bytes: Bytes) => unknown])[] = [
  ['quote', quote, parseTdxQuote],
  ['quote header', quote, parseQuoteHeader],
  ['PCK chain', intel.pckChain(pck), readCertificateChain],
  ['PCK extension', sgx, (bytes) => readPckClaims(withExtension(bytes))],
  ['collateral', info, parseCollateral],
  [
    'collateral set',
    utf8(JSON.stringify({ tcb_info: '{}', tcb_info_signature: '00', pck_crl: 'zz' })),
    collateralParts,
  ],
  ['event log', log, parseEventLog],
  ['JSON event log', jsonLog(), parseEventLog],
  ['CCEL table', toBytes(buildCcelTable(65536)), parseCcelTable],
  ['evidence container', utf8(JSON.stringify({ quote: '00', event_log: '[]' })), readTdxEvidence],
  ['agent evidence', utf8(JSON.stringify({ quote: 'AAAA', cc_eventlog: 'AAAA' })), readTdxEvidence],
  ['HCL envelope', hclEnvelope(utf8('{}')), readHclTdxEnvelope],
]

describe.each(READERS)('%s', (_name, valid, read) => {
  const onlyFormatErrors = (bytes: Uint8Array): void => {
    try {
      read(toBytes(bytes))
    } catch (error) {
      if (!(error instanceof FormatError)) throw error
    }
  }

  it('reads what it should', () => {
    expect(() => read(valid)).not.toThrow()
  })

  it('returns or throws a FormatError on any bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 2048 }), onlyFormatErrors), { numRuns: RUNS })
    fc.assert(
      fc.property(fc.string({ maxLength: 512 }), (text) => onlyFormatErrors(utf8(`{${text}}`))),
      { numRuns: RUNS },
    )
  })

  it('returns or throws a FormatError on valid bytes cut, overwritten or spliced', () => {
    const edits = fc.array(fc.tuple(fc.nat(valid.length), fc.nat(255)), { maxLength: 8 })
    fc.assert(
      fc.property(
        edits,
        fc.nat(valid.length),
        fc.nat(valid.length),
        fc.uint8Array({ maxLength: 64 }),
        (list, from, to, extra) => {
          const bytes = valid.slice()
          for (const [at, value] of list) bytes[at] = value
          onlyFormatErrors(bytes)
          onlyFormatErrors(bytes.slice(0, from))
          onlyFormatErrors(concat(bytes.slice(0, from), extra, bytes.slice(to)))
        },
      ),
      { numRuns: RUNS },
    )
  })
})

describe('the whole recipe', () => {
  it('never throws and never accepts, whatever the quote, the endorsements and the log are', async () => {
    const input = bentInput()
    const noise = fc.uint8Array({ maxLength: 6000 })
    await fc.assert(
      fc.asyncProperty(noise, noise, fc.nat(input.quote.length), async (bytes, other, cut) => {
        const spliced = concat(input.quote.slice(0, cut), bytes)
        const endorsements = sortEndorsements([{ name: 'noise', bytes: other }])
        for (const bent of [spliced, toBytes(bytes)]) {
          const { verdict } = await run({ ...input, quote: bent, endorsements, eventLog: toBytes(other) })
          expect(verdict).not.toBe('accepted')
        }
      }),
      { numRuns: 60 },
    )
  })
})

describe('quotes', () => {
  const offsets = tdxQuoteOffsets(5)

  it('ignores and counts what follows the signature data, zero or not', async () => {
    const padded = concat(quote, new Uint8Array(300), utf8('anything'))
    expect(parseTdxQuote(padded).trailingBytes).toBe(308)
    const { verdict } = await runBent({ mangle: (bytes) => concat(bytes, utf8('unsigned')) })
    expect(verdict).toBe('accepted')
  })

  it('refuses more than 64 KiB before looking at anything', () => {
    expect(() => parseTdxQuote(concat(quote, new Uint8Array(64 * 1024)))).toThrow(FormatError)
  })

  it('refuses sizes that do not add up', () => {
    const grown = quote.slice()
    grown[offsets.signatureDataBytes] = (grown[offsets.signatureDataBytes] ?? 0) + 1
    expect(() => parseTdxQuote(grown)).toThrow(FormatError)
    const body = quote.slice()
    body[50] = (body[50] ?? 0) ^ 0xc0
    expect(() => parseTdxQuote(body)).toThrow(FormatError)
  })

  it('takes auth data of any length', async () => {
    for (const length of [0, 1, 32, 500]) {
      const { verdict } = await runBent({ quote: { authData: new Uint8Array(length).fill(5) } })
      expect(verdict).toBe('accepted')
    }
  })

  it('refuses every other certification data by name', async () => {
    for (const type of [1, 2, 3, 4, 7] as const) {
      const { failing, checks } = await runBent({ quoteWith: (leaf) => ({ inner: certificationData(type, leaf) }) })
      expect(failing).toEqual(['tdx.quote.certification'])
      expect(checks.find(({ id }) => id === 'tdx.quote.certification')?.reason).toContain(`${type} (`)
    }
    expect((await runBent({ quote: { certificationType: 5 } })).failing).toEqual(['tdx.quote.certification'])
  })

  it('refuses every broken relation for its own reason', async () => {
    const rows = [
      ['binding', 'tdx.qe.binding'],
      ['binding-tail', 'tdx.qe.binding'],
      ['qe-signature', 'tdx.qe.signature'],
      ['qe-report-altered', 'tdx.qe.signature'],
      ['quote-signature', 'tdx.quote.signature'],
      ['body-altered', 'tdx.quote.signature'],
      ['header-altered', 'tdx.quote.signature'],
      ['attestation-key', 'tdx.quote.signature'],
    ] as const
    for (const [broken, id] of rows)
      expect([broken, (await runBent({ quote: { broken: [broken] } })).firstFailing]).toEqual([broken, id])
  })

  it('refuses chains that are short, long, doubled or out of order', async () => {
    const first = async (order: readonly ('leaf' | 'intermediate' | 'root')[]): Promise<string | null> =>
      (await runBent({ chain: { order } })).firstFailing
    expect(await first(['leaf'])).toBe('tdx.pck.parse')
    expect(await first(['leaf', 'intermediate', 'root', 'root'])).toBe('tdx.pck.parse')
    expect(await first(['leaf', 'leaf', 'root'])).toBe('tdx.pck.roles')
    expect(await first(['intermediate', 'leaf', 'root'])).toBe('tdx.pck.roles')
    expect(await first(['root', 'intermediate', 'leaf'])).toBe('tdx.pck.root')
  })

  it('describes itself as JSON', () => {
    const described = describeTdxQuote(parseTdxQuote(quote))
    expect(JSON.parse(JSON.stringify(described))).toEqual(described)
    expect(described['certificationType']).toBe('6 (QE report)')
  })
})

describe('the PCK extension', () => {
  it.each(['1', '2', '3', '4', '2.1', '2.16', '2.17', '2.18'])('needs member %s once', async (member) => {
    const omitted = await runBent({ pck: { sgxEdits: [{ member, omit: true }] } })
    expect(omitted.failing).toEqual(['tdx.pck.extension'])
    const doubled = await runBent({ pck: { sgxEdits: [{ member, duplicate: true }] } })
    expect(doubled.failing).toEqual(['tdx.pck.extension'])
  })

  it('refuses members it does not know, other types and other lengths', async () => {
    const edits = [
      { member: '8', value: new Uint8Array([4, 1, 0]) },
      { member: '3', value: new Uint8Array([4, 3, 0, 0, 0]) },
      { member: '4', value: new Uint8Array([2, 1, 0]) },
      { member: '5', value: new Uint8Array([10, 1, 3]) },
      { member: '2.3', value: new Uint8Array([2, 3, 1, 0, 0]) },
      { member: '2.4', value: new Uint8Array([2, 1, 0xff]) },
      { member: '7.1', value: new Uint8Array([1, 1, 1]) },
    ]
    for (const edit of edits) {
      const { failing } = await runBent({ pck: { sgxEdits: [edit] } })
      expect([edit.member, failing[0]?.startsWith('tdx.pck.')]).toEqual([edit.member, true])
    }
  })
})

describe('collateral', () => {
  const firstOf = async (hooks: Parameters<typeof buildTcbInfo>[2]): Promise<readonly string[]> =>
    (await runBent({ tcbInfoHooks: hooks ?? {} })).failing

  it('is verified over the bytes as served, whatever they look like', async () => {
    const spaced = await firstOf({ editSigned: (text) => text.replace('{', '{ \n') })
    expect(spaced).toEqual([])
    const reserialised = await firstOf({ editUnsigned: (text) => text.replace('{', '{ ') })
    expect(reserialised).toEqual(['tdx.collateral.tcb-info-signature'])
    const escaped = await firstOf({ editSigned: (text) => text.replace('{', '{"note":"}\\"{",') })
    expect(escaped).toEqual([])
  })

  it('refuses members that appear twice, at any depth, and anything after the document', async () => {
    const id = ['tdx.collateral.tcb-info']
    expect(await firstOf({ editSigned: (text) => text.replace('"id":"TDX"', '"id":"SGX","id":"TDX"') })).toEqual(id)
    expect(await firstOf({ editSigned: (text) => text.replace('"id":"TDX"', '"\\u0069d":"SGX","id":"TDX"') })).toEqual(
      id,
    )
    expect(await firstOf({ editSigned: (text) => text.replace('"pcesvn"', '"pcesvn":0,"pcesvn"') })).toEqual(id)
    expect(await firstOf({ editDocument: (text) => `${text}{}` })).toEqual(id)
    expect(await firstOf({ editDocument: (text) => text.replace('{', '{"tcbInfo":{},') })).toEqual(id)
    expect(await firstOf({ editDocument: (text) => text.replace('{', '{"other":{},') })).toEqual(id)
    expect(await firstOf({ editDocument: (text) => `${text}\n ` })).toEqual([])
  })

  it('takes one spelling of the signature only', async () => {
    expect(await firstOf({ signatureText: '' })).toEqual(['tdx.collateral.tcb-info'])
    expect(await firstOf({ signatureText: 'AB'.repeat(64) })).toEqual(['tdx.collateral.tcb-info'])
    expect(await firstOf({ signatureText: '00'.repeat(64) })).toEqual(['tdx.collateral.tcb-info-signature'])
  })

  it('refuses versions, types and shapes it does not know', async () => {
    const id = ['tdx.collateral.tcb-info']
    expect((await runBent({ tcbInfo: { version: 2 } })).failing).toEqual(id)
    expect((await runBent({ tcbInfo: { tcbType: 1 } })).failing).toEqual(id)
    expect(await firstOf({ editSigned: (text) => text.replace('"svn":5', '"svn":-5') })).toEqual(id)
    expect(await firstOf({ editSigned: (text) => text.replace('{"svn":0},', '') })).toEqual(id)
    expect((await runBent({ qeIdentity: { version: 1 } })).failing).toEqual(['tdx.collateral.qe-identity'])
  })

  it('is not signed by whoever else has a certificate', async () => {
    const { failing } = await runBent({ files: (hierarchy) => ({ signer: hierarchy.platform.der }) })
    expect(failing).toEqual([])
    expect((await runBent({ files: (hierarchy) => ({ signer: hierarchy.platform.der }) })).verdict).toBe('unavailable')
    const other = createIntelHierarchy()
    const foreign = await runBent({ files: () => ({ signer: other.tcbSigning.der }) })
    expect(foreign.failing).toEqual(['tdx.collateral.signer'])
  })

  it('is missing, not wrong, when none was handed over', async () => {
    const { verdict, firstFailing } = await runBent({ files: () => ({ tcbInfo: null }) })
    expect([verdict, firstFailing]).toEqual(['unavailable', 'tdx.collateral.tcb-info'])
    const identity = await runBent({ files: () => ({ qeIdentity: null }) })
    expect([identity.verdict, identity.firstFailing]).toEqual(['unavailable', 'tdx.collateral.qe-identity'])
  })

  it('is held to the higher of two minimum evaluation numbers', async () => {
    const id = ['tdx.collateral.evaluation-number']
    expect((await runBent({ input: { minTcbEvaluationDataNumber: 21 } })).failing).toEqual(id)
    expect((await runBent({ policy: { minTcbEvaluationDataNumber: 21 } })).failing).toEqual(id)
    expect((await runBent({ policy: { minTcbEvaluationDataNumber: 20 } })).failing).toEqual([])
  })

  it('finds the exact bytes of a member, and bounds what it reads', () => {
    const members = readJsonMembers(utf8('{"é" : [1, {"}":"\\\\"} ] ,"b":-1.5e3}'), 'test')
    expect(new TextDecoder().decode(members.get('é')?.bytes)).toBe('[1, {"}":"\\\\"} ]')
    expect(members.get('b')?.value).toBe(-1500)
    expect(() => readJsonMembers(utf8(`{"a":${'['.repeat(5000)}`), 'test')).toThrow(FormatError)
    expect(() => readJsonMembers(utf8(`{"a":"${'x'.repeat(1024 * 1024)}"}`), 'test')).toThrow(FormatError)
    expect(() => readJsonMembers(utf8('{"a":01}'), 'test')).toThrow(FormatError)
    expect(() => readJsonMembers(utf8('{"a":1,}'), 'test')).toThrow(FormatError)
  })

  it('comes apart from a set into what Intel serves', () => {
    const inner = '{"id":"TDX"}'
    const set = utf8(
      JSON.stringify({ tcb_info: inner, tcb_info_signature: 'ab', root_ca_crl: '3000', pck_crl: 'no hex' }),
    )
    const parts = collateralParts(set) ?? []
    expect(parts.map(({ name }) => name)).toEqual(['tcb_info', 'root_ca_crl', 'pck_crl'])
    expect(new TextDecoder().decode(parts[0]?.bytes)).toBe(`{"tcbInfo":${inner},"signature":"ab"}`)
    const whole = signCollateral('tcbInfo', inner, signer)
    expect(collateralParts(toBytes(whole))).toBeUndefined()
    const chain = utf8(encodeURIComponent(intel.tcbSigningChainPem()))
    expect(sortEndorsements([{ name: 'header', bytes: chain }]).certificates).toHaveLength(2)
  })
})

describe('event logs', () => {
  it('replay to the registers they were made for, padded or not', () => {
    const built = buildEventLog(simulatedBootEvents())
    expect(parseEventLog(log).rtmrs.map((rtmr) => [...rtmr])).toEqual(built.rtmrs.map((rtmr) => [...rtmr]))
    const padded = concat(log, new Uint8Array(100).fill(0xff))
    expect(parseEventLog(padded).events).toHaveLength(parseEventLog(log).events.length)
    expect(() => parseEventLog(concat(log, utf8('\0\0\0\0x')))).toThrow(FormatError)
  })

  it('name the register that disagrees and the first event a policy does not explain', async () => {
    const digests = parseEventLog(log)
      .events.filter(({ register, type }) => register === 1 && type !== 3)
      .map(({ digest }) => Buffer.from(digest).toString('hex'))
    expect((await runBent({ policy: { rtmr1: { events: digests } } })).verdict).toBe('accepted')
    const fewer = await runBent({ policy: { rtmr1: { events: digests.slice(0, -1) } } })
    expect(fewer.failing).toEqual(['tdx.policy.rtmr1'])
    expect(fewer.checks.find(({ id }) => id === 'tdx.policy.rtmr1')?.reason).toContain(
      `first unexplained: event ${digests.length - 1}`,
    )
    const more = await runBent({ policy: { rtmr1: { events: [...digests, 'ab'.repeat(48)] } } })
    expect(more.checks.find(({ id }) => id === 'tdx.policy.rtmr1')?.reason).toContain('the log ends before')
    const swapped = [digests[1] ?? '', digests[0] ?? '', ...digests.slice(2)]
    expect((await runBent({ policy: { rtmr1: { events: swapped } } })).failing).toEqual(['tdx.policy.rtmr1'])
    expect(Buffer.from(replayDigests([])).equals(Buffer.alloc(48))).toBe(true)
  })

  it('are optional unless the policy says otherwise', async () => {
    const { eventLog: _, ...withoutLog } = bentInput()
    const { verdict, checks } = await run(withoutLog)
    expect(verdict).toBe('accepted')
    const logChecks = checks.filter(({ id }) => id.startsWith('tdx.event-log.'))
    expect(logChecks.map(({ reason }) => reason?.slice(0, 26))).toEqual(Array(3).fill('waived: eventLog: optional'))
    const required = { ...withoutLog, policy: bentInput({ policy: { eventLog: 'required' } }).policy }
    expect((await run(required)).verdict).toBe('unavailable')
  })
})

function jsonLog(): Bytes {
  const event = { imr: 3, event_type: 4, digest: '00'.repeat(48), event: '', event_payload: '00' }
  return utf8(JSON.stringify([event, event]))
}

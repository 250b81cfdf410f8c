/** Descriptors and directories (PROTOCOL.md §15): for each check a case in which it is the only failure, and bytes nobody meant. */
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { DESCRIPTOR_CHECKS, LISTING_CHECKS } from '../../verifier/directory/checks.js'
import { collectDescriptors } from '../../verifier/directory/collect.js'
import { MAX_DESCRIPTOR_BYTES, parseDescriptorPayload } from '../../verifier/directory/descriptor.js'
import { MAX_DESCRIPTORS, MAX_DIRECTORY_BYTES, parseDirectory } from '../../verifier/directory/document.js'
import { priceHeld, verifyListing } from '../../verifier/directory/listing.js'
import { verifyDescriptors } from '../../verifier/directory/verify.js'
import { toBase64Url, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { verifyAttestation } from '../support/command.js'
import { violations } from '../support/json-schema.js'
import { filled, STATEMENT } from '../support/samples.js'
import { createProvider, DAY, ENDPOINT, type Provider } from './providers.js'

const NOW = new Date('2026-06-01T12:00:00Z')
const SECONDS = NOW.getTime() / 1000

let provider: Provider
let other: Provider
let good: string
beforeAll(async () => {
  provider = await createProvider(NOW)
  other = await createProvider(NOW)
  good = await provider.descriptor()
})

const failing = async (jws: string, ...rest: string[]): Promise<string[]> =>
  ((await verifyDescriptors([jws, ...rest], NOW))[0]?.checks ?? [])
    .filter(({ status }) => status === 'fail')
    .map(({ id }) => id)
const endpoint = (change: object) => provider.descriptor({ endpoints: [{ ...ENDPOINT, ...change }] })

describe('a descriptor in order', () => {
  it('is accepted, and says what its provider said', async () => {
    const [result] = await verifyDescriptors([good], NOW)
    expect(result).toMatchObject({ verdict: 'accepted', jws: good, payload: provider.payload() })
    expect(result?.checks.map(({ id, status }) => [id, status])).toEqual(
      DESCRIPTOR_CHECKS.map(({ id }) => [id, 'pass']),
    )
  })

  it('needs neither a name nor a price', async () => {
    const bare = await provider.descriptor({ name: undefined, endpoints: [{ ...ENDPOINT, price: null }] })
    expect(await verifyDescriptors([bare], NOW)).toMatchObject([{ verdict: 'accepted' }])
  })

  it('is accepted up to the instant it ends, and from a little before it begins', async () => {
    const at = async (seconds: number) => (await verifyDescriptors([good], new Date(seconds * 1000)))[0]?.verdict
    const { iat, exp } = provider.payload() as { iat: number; exp: number }
    expect([await at(exp - 1), await at(exp), await at(iat - 120), await at(iat - 121)]).toEqual([
      'accepted',
      'rejected',
      'accepted',
      'rejected',
    ])
  })
})

type Made = () => Promise<string | readonly string[]>
const NEGATIVES: readonly [check: string, name: string, make: Made][] = [
  ['descriptor.parse', 'it is another kind of token (P-15.1)', () => provider.sign(provider.payload(), { typ: 'JWT' })],
  ['descriptor.parse', 'its header says more', () => provider.sign(provider.payload(), { kid: 'me' })],
  ['descriptor.parse', 'it has four parts', async () => `${good}.x`],
  ['descriptor.parse', 'its payload is a list', () => provider.sign([])],
  ['descriptor.parse', 'a member is unknown', () => provider.sign({ ...provider.payload(), trusted: true })],
  ['descriptor.parse', 'a member is missing', () => provider.descriptor({ seq: undefined })],
  ['descriptor.parse', 'its schema is another', () => provider.descriptor({ schema: 'subrosa-descriptor/2' })],
  ['descriptor.parse', 'its number is no integer', () => provider.descriptor({ seq: 1.5 })],
  ['descriptor.parse', 'its number is too large to count with', () => provider.descriptor({ seq: 2 ** 53 })],
  ['descriptor.parse', 'its key is not 32 bytes', () => provider.descriptor({ provider: 'AA' })],
  ['descriptor.parse', 'its key has another spelling', () => provider.descriptor({ provider: `${'A'.repeat(42)}B` })],
  ['descriptor.parse', 'it lists nothing', () => provider.descriptor({ endpoints: [] })],
  ['descriptor.parse', 'it lists one twice', () => provider.descriptor({ endpoints: [ENDPOINT, ENDPOINT] })],
  [
    'descriptor.parse',
    'it lists too many',
    () =>
      provider.descriptor({
        endpoints: Array.from({ length: 33 }, (_, i) => ({ ...ENDPOINT, url: `https://gpu${i}.example.net/` })),
      }),
  ],
  ['descriptor.parse', 'it is too long', () => provider.descriptor({ name: 'x'.repeat(MAX_DESCRIPTOR_BYTES) })],
  ['descriptor.parse', 'its name moves a cursor', () => provider.descriptor({ name: '\u001b[2J' })],
  ['descriptor.parse', 'a URL has another scheme', () => endpoint({ url: 'file:///etc/passwd' })],
  ['descriptor.parse', 'a URL has credentials', () => endpoint({ url: 'https://a:b@gpu7.example.net/' })],
  ['descriptor.parse', 'a URL has a query', () => endpoint({ url: 'https://gpu7.example.net/?x' })],
  ['descriptor.parse', 'a URL has another spelling', () => endpoint({ url: 'https://GPU7.example.net/' })],
  ['descriptor.parse', 'a URL hides an address', () => endpoint({ url: 'https://0x7f000001/' })],
  ['descriptor.parse', 'a region is none', () => endpoint({ region: 'EU' })],
  ['descriptor.parse', 'a model has no digest', () => endpoint({ model: { ...ENDPOINT.model, weights: 'any' } })],
  ['descriptor.parse', 'a model has no name', () => endpoint({ model: { ...ENDPOINT.model, id: '' } })],
  [
    'descriptor.parse',
    'a price is no decimal number',
    () => endpoint({ price: { ...ENDPOINT.price, inputPerMillion: '1e-3' } }),
  ],
  [
    'descriptor.parse',
    'a price is below nothing',
    () => endpoint({ price: { ...ENDPOINT.price, inputPerMillion: '-1' } }),
  ],
  ['descriptor.parse', 'a price has no currency', () => endpoint({ price: { ...ENDPOINT.price, currency: '' } })],
  ['descriptor.signature', 'another key signed it (P-15.2)', () => other.sign(provider.payload())],
  ['descriptor.signature', 'its payload was altered', async () => altered(1)],
  ['descriptor.signature', 'its signature was altered', async () => altered(2)],
  ['descriptor.window', 'it is over (P-15.3)', () => provider.descriptor({ iat: SECONDS - DAY, exp: SECONDS })],
  ['descriptor.window', 'it has not begun', () => provider.descriptor({ iat: SECONDS + 200, exp: SECONDS + DAY })],
  ['descriptor.window', 'it would last too long', () => provider.descriptor({ iat: SECONDS, exp: SECONDS + 32 * DAY })],
  [
    'descriptor.window',
    'it ends before it begins',
    () => provider.descriptor({ iat: SECONDS + 60, exp: SECONDS + 30 }),
  ],
  ['descriptor.newest', 'a newer one is at hand (P-15.4)', async () => [good, await provider.descriptor({ seq: 8 })]],
  [
    'descriptor.newest',
    'a newer one is at hand, though over',
    async () => [good, await provider.descriptor({ seq: 8, iat: SECONDS - DAY, exp: SECONDS - 1 })],
  ],
  [
    'descriptor.newest',
    'another one has its number',
    async () => [good, await provider.descriptor({ name: 'Somebody else' })],
  ],
]

/** The good descriptor with one character in the middle of a part changed for another of the alphabet. */
function altered(part: 1 | 2): string {
  const parts = good.split('.')
  if (part === 1) parts[1] = toBase64Url(utf8(JSON.stringify(provider.payload({ seq: 6 }))))
  else {
    const signature = parts[2] ?? ''
    parts[2] = `${signature.slice(0, 40)}${signature[40] === 'A' ? 'B' : 'A'}${signature.slice(41)}`
  }
  return parts.join('.')
}

describe('each check on descriptors', () => {
  it.each(NEGATIVES)('%s fails alone when %s', async (check, _, make) => {
    const made = await make()
    const [first = '', ...rest] = typeof made === 'string' ? [made] : made
    expect(await failing(first, ...rest)).toEqual([check])
  })

  it('has such a case', () => {
    expect([...new Set(NEGATIVES.map(([check]) => check))]).toEqual(DESCRIPTOR_CHECKS.map(({ id }) => id))
  })
})

describe('of several', () => {
  it('each provider’s newest is kept, once, whatever the order', async () => {
    const newer = await provider.descriptor({ seq: 8 })
    const others = await other.descriptor()
    for (const list of [
      [good, newer, others, newer],
      [others, newer, newer, good],
    ]) {
      const kept = (await verifyDescriptors(list, NOW)).filter(({ verdict }) => verdict === 'accepted')
      expect(kept.map(({ jws }) => jws).sort()).toEqual([newer, others].sort())
    }
  })

  it('a forged one does not take the place of a true one', async () => {
    const forged = await other.sign(provider.payload({ seq: 9 }))
    expect((await verifyDescriptors([forged, good], NOW)).map(({ verdict }) => verdict)).toEqual([
      'rejected',
      'accepted',
    ])
  })

  it('one that is over is remembered, and no older one comes back (P-15.4)', async () => {
    const over = await provider.descriptor({ seq: 8, iat: SECONDS - DAY, exp: SECONDS - 1 })
    const forged = await other.sign(provider.payload({ seq: 9 }))
    const read = (descriptors: readonly string[], floors?: ReadonlyMap<string, number>) =>
      collectDescriptors([{ source: 'a list', descriptors }], NOW, floors)
    const first = await read([good, over, forged])
    expect([first.kept, [...first.newest]]).toEqual([[], [[provider.key, 8]]])
    expect((await read([good], first.newest)).leftOut).toMatchObject([{ check: 'descriptor.newest' }])
    expect((await read([await provider.descriptor({ seq: 8 })], first.newest)).kept).toHaveLength(1)
  })

  it('none goes back behind what was seen before', async () => {
    const held = async (seq: number) =>
      (await verifyDescriptors([good], NOW, new Map([[provider.key, seq]])))[0]?.verdict
    expect([await held(7), await held(8)]).toEqual(['accepted', 'rejected'])
  })
})

describe('bytes nobody meant', () => {
  it('never throw and are never accepted', async () => {
    const parts = good.split('.')
    const words = fc.oneof(
      fc.string(),
      fc.constantFrom(...parts),
      fc.base64String(),
      fc.json().map((j) => toBase64Url(utf8(j))),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(words, { maxLength: 5 }), async (list) => {
        const jws = list.join('.')
        const [result] = await verifyDescriptors([jws], NOW)
        expect(result?.verdict === 'accepted').toBe(jws === good)
      }),
    )
  })

  it('in any one place of a good descriptor are noticed', async () => {
    const position = fc.integer({ min: 0, max: good.length - 1 })
    await fc.assert(
      fc.asyncProperty(position, fc.integer({ min: 0, max: 127 }), async (at, code) => {
        const changed = good.slice(0, at) + String.fromCharCode(code) + good.slice(at + 1)
        fc.pre(changed !== good)
        expect((await verifyDescriptors([changed], NOW))[0]?.verdict).not.toBe('accepted')
      }),
    )
  })

  it('as payloads are read or refused, and nothing else, as the published schema says', async () => {
    const { stdout } = await verifyAttestation('schema', 'descriptor')
    const schema = JSON.parse(stdout) as Record<string, unknown>
    expect(violations(provider.payload(), schema)).toEqual([])
    const members = ['provider', 'name', 'seq', 'iat', 'exp', 'endpoints', '__proto__']
    fc.assert(
      fc.property(fc.constantFrom(...members), fc.jsonValue(), (member, value) => {
        const payload = JSON.parse(JSON.stringify(provider.payload({ [member]: value }))) as unknown
        let read = true
        try {
          parseDescriptorPayload(payload)
        } catch (error) {
          read = false
          expect(error).toBeInstanceOf(FormatError)
        }
        // What the schema refuses is never read.
        if (violations(payload, schema).length > 0) expect(read).toBe(false)
      }),
    )
  })
})

describe('a directory', () => {
  const document = (value: unknown) => utf8(JSON.stringify(value))
  const schema = 'subrosa-directory/1'

  it('is a list of descriptors, whatever they are', async () => {
    const whole = { schema, descriptors: [good, 'anything'] }
    expect(parseDirectory(document(whole))).toEqual(whole)
    const { stdout } = await verifyAttestation('schema', 'directory')
    expect(violations(whole, JSON.parse(stdout) as Record<string, unknown>)).toEqual([])
  })

  it.each<[string, () => Uint8Array]>([
    ['too many descriptors (P-15.5)', () => document({ schema, descriptors: Array(MAX_DESCRIPTORS + 1).fill('x') })],
    ['one that is too long', () => document({ schema, descriptors: ['x'.repeat(MAX_DESCRIPTOR_BYTES + 1)] })],
    ['too many bytes', () => utf8(`{"schema":"${schema}","descriptors":[]${' '.repeat(MAX_DIRECTORY_BYTES)}}`)],
    ['another schema', () => document({ schema: 'subrosa-directory/2', descriptors: [] })],
    ['no schema', () => document([good])],
    ['a member of its own', () => document({ schema, descriptors: [], trusted: true })],
    ['something that is no text', () => document({ schema, descriptors: [1] })],
    ['no JSON', () => utf8('subrosa')],
    ['no UTF-8', () => new Uint8Array([0x22, 0xff, 0x22])],
    ['a tower of brackets', () => utf8('['.repeat(1_000_000))],
  ])('is refused with %s', (_, make) => {
    expect(() => parseDirectory(make())).toThrow(expect.objectContaining({ code: 'directory.format' }))
  })

  it('is read or refused, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), fc.json().map(utf8)), (bytes) => {
        try {
          parseDirectory(bytes)
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError)
        }
      }),
    )
  })
})

describe('a verified worker', () => {
  const MODEL = {
    id: STATEMENT.model.id,
    manifest: toHex(STATEMENT.model.manifestDigest),
    weights: toHex(STATEMENT.model.weightsRoot),
  }
  const listing = {
    provider: toBase64Url(STATEMENT.operatorKey ?? filled(0)),
    endpoint: { ...ENDPOINT, model: MODEL },
  }
  const { operatorKey: _, ...without } = STATEMENT
  const wrong = (change: object): string[] =>
    verifyListing({ ...listing, ...change }, STATEMENT)
      .checks.filter(({ status }) => status === 'fail')
      .map(({ id }) => id)

  it('that is what its provider lists passes', () => {
    expect(verifyListing(listing, STATEMENT).verdict).toBe('accepted')
    expect(verifyListing({ ...listing, provider: other.key }, without).verdict).toBe('accepted')
  })

  const CASES: readonly [string, string, () => string[]][] = [
    [
      'listing.model',
      'it serves other weights (P-15.6)',
      () => wrong({ endpoint: ENDPOINT_OF({ weights: '05'.repeat(32) }) }),
    ],
    [
      'listing.model',
      'it serves another package of them',
      () => wrong({ endpoint: ENDPOINT_OF({ manifest: '05'.repeat(32) }) }),
    ],
    ['listing.model', 'it serves them under another name', () => wrong({ endpoint: ENDPOINT_OF({ id: 'other' }) })],
    ['listing.operator', 'its configuration names another operator (P-15.7)', () => wrong({ provider: other.key })],
  ]
  const ENDPOINT_OF = (model: object) => ({ ...listing.endpoint, model: { ...listing.endpoint.model, ...model } })

  it.each(CASES)('fails %s alone when %s', (check, _name, made) => expect(made()).toEqual([check]))

  it('has a case for each check', () => {
    expect([...new Set(CASES.map(([check]) => check))]).toEqual(LISTING_CHECKS.map(({ id }) => id))
  })

  it.each([
    ['no price on the receipt', null, 'unstated'],
    ['exactly the listed price', { amount: '0.00075', currency: 'USD' }, 'held'],
    ['less', { amount: '0', currency: 'USD' }, 'held'],
    ['a billionth more', { amount: '0.000750001', currency: 'USD' }, 'above'],
    ['another currency', { amount: '0', currency: 'EUR' }, 'above'],
    ['no number', { amount: 'cheap', currency: 'USD' }, 'above'],
  ] as const)('whose receipt has %s: %s → %s', (_name, price, outcome) => {
    const usage = { prompt_tokens: 1000, completion_tokens: 1000, total_tokens: 2000 }
    expect(priceHeld({ price, usage }, ENDPOINT.price)).toBe(outcome)
    expect(priceHeld({ price, usage }, null)).toBe('unstated')
  })
})

/** Receipt checks (PROTOCOL.md §10): for each, a receipt in which it is the only failure. */
import { CompactSign } from 'jose'
import { beforeAll, describe, expect, it } from 'vitest'
import { type Bytes, toBase64Url, utf8 } from '../verifier/protocol/bytes.js'
import { hmacSha256 } from '../verifier/protocol/hash.js'
import { RECEIPT_TYPE, type ReceiptPayload } from '../verifier/protocol/receipt.js'
import { RECEIPT_CHECKS, type ReceiptContext, verifyReceipt } from '../verifier/receipt.js'
import { filled } from './support/samples.js'

const REQUEST = utf8('{"messages":[]}')
const ANSWER = utf8('{"choices":[]}')
const b64 = (value: number) => toBase64Url(filled(value))

let keys: CryptoKeyPair
let context: ReceiptContext

const PAYLOAD: ReceiptPayload = {
  jti: 'AAAAAAAAAAAAAAAAAAAAAA',
  iat: 1_790_000_000,
  stmt: b64(1),
  key: b64(3),
  req: { commit: toBase64Url(hmacSha256(filled(4), REQUEST)) },
  res: { commit: toBase64Url(hmacSha256(filled(5), ANSWER)), chunks: 1, final: true },
  model: { id: 'subrosa-demo', weights: b64(2), tokenizer: b64(6), template: b64(7) },
  sampling: { temperature: 0 },
  seed: 1,
  determinism: 'batch-invariant',
  usage: { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 },
  price: null,
  session: null,
  seq: null,
  prev: null,
}

beforeAll(async () => {
  keys = (await crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify'])) as CryptoKeyPair
  context = {
    receiptKey: new Uint8Array(await crypto.subtle.exportKey('raw', keys.publicKey)),
    statementDigest: filled(1),
    weightsRoot: filled(2),
    opening: {
      keyDigest: filled(3),
      requestSalt: filled(4),
      requestBody: REQUEST,
      responseSalt: filled(5),
      responseBody: ANSWER,
    },
  }
})

const sign = (payload: unknown, header: Record<string, unknown> = {}): Promise<string> =>
  new CompactSign(utf8(JSON.stringify(payload)) as Bytes)
    .setProtectedHeader({ alg: 'EdDSA', typ: RECEIPT_TYPE, ...header })
    .sign(keys.privateKey)

const failing = async (jws: string, held: ReceiptContext = context): Promise<string[]> =>
  (await verifyReceipt(jws, held)).checks.filter(({ status }) => status === 'fail').map(({ id }) => id)

const NEGATIVES: readonly [check: string, name: string, change: () => Promise<[string, ReceiptContext?]>][] = [
  ['receipt.parse', 'it is another kind of token', async () => [await sign(PAYLOAD, { typ: 'JWT' })]],
  ['receipt.parse', 'a member is missing', async () => [await sign({ ...PAYLOAD, usage: undefined })]],
  [
    'receipt.signature',
    'another key signed it',
    async () => [await sign(PAYLOAD), { ...context, receiptKey: filled(9) }],
  ],
  ['receipt.statement', 'it names another statement', async () => [await sign({ ...PAYLOAD, stmt: b64(9) })]],
  [
    'receipt.statement',
    'it names another model',
    async () => [await sign({ ...PAYLOAD, model: { ...PAYLOAD.model, weights: b64(9) } })],
  ],
  ['receipt.key', 'it names another key configuration', async () => [await sign({ ...PAYLOAD, key: b64(9) })]],
  [
    'receipt.request',
    'it commits to another question',
    async () => [await sign({ ...PAYLOAD, req: { commit: b64(9) } })],
  ],
  [
    'receipt.response',
    'it commits to another answer',
    async () => [await sign({ ...PAYLOAD, res: { ...PAYLOAD.res, commit: b64(9) } })],
  ],
  [
    'receipt.response',
    'it says that the answer was cut short',
    async () => [await sign({ ...PAYLOAD, res: { ...PAYLOAD.res, final: false } })],
  ],
]

describe('a receipt', () => {
  it('holds as signed', async () => {
    const result = await verifyReceipt(await sign(PAYLOAD), context)
    expect(result.checks.filter(({ status }) => status !== 'pass')).toEqual([])
    expect(result.payload).toEqual(PAYLOAD)
  })

  it.each(NEGATIVES)('%s alone fails when %s', async (check, _, change) => {
    const [jws, held] = await change()
    expect(await failing(jws, held)).toEqual([check])
  })

  it('has a negative for each of its checks', () => {
    const covered = new Set(NEGATIVES.map(([check]) => check))
    expect(RECEIPT_CHECKS.map(({ id }) => id).filter((id) => !covered.has(id) && id.startsWith('receipt.'))).toEqual([])
  })

  it('leaves commitments unopened without the opening, and says so', async () => {
    const { opening: _, ...closed } = context
    const result = await verifyReceipt(await sign(PAYLOAD), closed)
    expect(result.verdict).toBe('accepted')
    expect(result.checks.find(({ id }) => id === 'receipt.response')?.reason).toMatch(/^waived: /)
  })

  it('never throws, whatever the token', async () => {
    for (const jws of ['', '.', '..', 'a.b.c', `${'x'.repeat(20_000)}.y.z`, await sign([1]), await sign('text')]) {
      expect((await verifyReceipt(jws, context)).verdict).toBe('malformed')
    }
  })
})

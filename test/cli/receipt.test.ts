/** `verify-attestation receipt`: signature, tie to the bundle, commitments, and the chain of a session. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CompactSign } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseBundle } from '../../verifier/protocol/bundle.js'
import { type Bytes, toBase64Url, utf8 } from '../../verifier/protocol/bytes.js'
import { hmacSha256, sha256 } from '../../verifier/protocol/hash.js'
import { RECEIPT_TYPE, type ReceiptPayload } from '../../verifier/protocol/receipt.js'
import { parseClaims } from '../../verifier/protocol/statement.js'
import { createWorld, makeBundle, type World } from '../support/bundle-world.js'
import { verifyAttestation } from '../support/command.js'
import { filled } from '../support/samples.js'

let folder: string
let world: World
let receiptKey: CryptoKeyPair
let statementDigest: Bytes
const file = (name: string) => join(folder, name)

const OPENING = {
  key: filled(31),
  requestSalt: filled(32),
  request: utf8('{"messages":[]}'),
  responseSalt: filled(33),
  response: utf8('Tokyo'),
}
const opening = (change: Partial<typeof OPENING> = {}) =>
  JSON.stringify({
    schema: 'subrosa-receipt-opening/1',
    ...Object.fromEntries(Object.entries({ ...OPENING, ...change }).map(([k, bytes]) => [k, toBase64Url(bytes)])),
  })

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-receipt-'))
  world = await createWorld()
  receiptKey = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair
  const receipt = new Uint8Array(await crypto.subtle.exportKey('raw', receiptKey.publicKey))
  const bundle = await makeBundle(world, {
    statement: (statement) => ({ ...statement, keys: { ...statement.keys, receipt } }),
  })
  statementDigest = parseClaims(parseBundle(bundle).claims).statementDigest
  await writeFile(file('worker.bundle'), bundle)
  await writeFile(file('policy.json'), JSON.stringify(world.policy))
  await writeFile(file('opening.json'), opening())
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function receipt(change: Partial<ReceiptPayload> = {}, key = receiptKey.privateKey): Promise<string> {
  const payload: ReceiptPayload = {
    jti: 'AAAA',
    iat: world.now.getTime() / 1000,
    stmt: toBase64Url(statementDigest),
    key: toBase64Url(OPENING.key),
    req: { commit: toBase64Url(hmacSha256(OPENING.requestSalt, OPENING.request)) },
    res: { commit: toBase64Url(hmacSha256(OPENING.responseSalt, OPENING.response)), chunks: 1, final: true },
    model: { id: 'subrosa-demo', weights: toBase64Url(filled(4)), tokenizer: 'x', template: 'x' },
    sampling: {},
    seed: 1,
    determinism: 'single',
    usage: { prompt_tokens: 3, completion_tokens: 1, total_tokens: 4 },
    price: null,
    session: null,
    seq: null,
    prev: null,
    ...change,
  }
  return new CompactSign(utf8(JSON.stringify(payload)))
    .setProtectedHeader({ alg: 'EdDSA', typ: RECEIPT_TYPE })
    .sign(key)
}

const common = () => ['--bundle', file('worker.bundle'), '--policy', file('policy.json'), '--offline']
async function run(receipts: readonly string[], ...more: string[]) {
  const names = receipts.map((_, i) => file(`${i}.receipt`))
  await Promise.all(receipts.map((jws, i) => writeFile(names[i]!, `${jws}\n`)))
  return verifyAttestation('receipt', ...names, ...common(), '--at', world.now.toISOString(), ...more)
}

describe('one receipt', () => {
  it('is accepted when the attested worker signed it, and says what was not opened', async () => {
    const { status, stdout } = await run([await receipt()])
    expect(stdout).toMatch(/^ACCEPTED {2}receipt \S+0\.receipt, of SIMULATED OR PRIVATE hardware\n/)
    expect(stdout).toContain('- receipt.request  waived: the opening was not given')
    expect(status).toBe(0)
  })

  it('opens its commitments with the opening', async () => {
    const { status, stdout } = await run([await receipt()], '--opening', file('opening.json'), '--format', 'json')
    const printed = JSON.parse(stdout) as { receipts: { checks: { status: string }[] }[]; bundle: { verdict: string } }
    expect(printed.receipts[0]!.checks.map((check) => check.status)).toEqual(Array(6).fill('pass'))
    expect(printed.bundle.verdict).toBe('accepted')
    expect(status).toBe(0)
  })

  it.each<[string, Partial<typeof OPENING>, string]>([
    ['question', { request: utf8('another') }, 'receipt.request'],
    ['answer', { response: utf8('Kyoto') }, 'receipt.response'],
    ['key', { key: filled(1) }, 'receipt.key'],
  ])('is rejected when the opening has another %s', async (_, change, check) => {
    await writeFile(file('other.json'), opening(change))
    const { status, stdout } = await run([await receipt()], '--opening', file('other.json'))
    expect(stdout).toMatch(/^REJECTED/)
    expect(stdout).toContain(`x ${check}`)
    expect(status).toBe(1)
  })

  it('is rejected when another key signed it, or it names another statement or model', async () => {
    const other = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair
    expect((await run([await receipt({}, other.privateKey)])).stdout).toContain('x receipt.signature')
    const statement = await run([await receipt({ stmt: toBase64Url(sha256(filled(1))) })])
    expect(statement.stdout).toContain('x receipt.statement')
    expect(statement.status).toBe(1)
    const weights = toBase64Url(filled(5))
    const model = { id: 'subrosa-demo', weights, tokenizer: 'x', template: 'x' }
    expect((await run([await receipt({ model })])).stdout).toContain('x receipt.statement')
  })

  it('is malformed when it is no receipt', async () => {
    const { status, stdout } = await run(['hello'])
    expect(stdout).toMatch(/^MALFORMED/)
    expect(status).toBe(3)
  })

  it('is not looked at when the bundle is not accepted', async () => {
    const { status, stdout, stderr } = await run([await receipt()], '--model-digest', 'cd'.repeat(32))
    expect(stdout).toContain('x model.digest')
    expect(stderr).toContain('no receipt was looked at')
    expect(status).toBe(1)
    const json = await run([await receipt()], '--model-digest', 'cd'.repeat(32), '--format', 'json')
    expect(JSON.parse(json.stdout)).toMatchObject({ verdict: 'rejected', exitCode: 1, receipts: [] })
  })
})

describe('a chain of receipts', () => {
  async function chain(length: number): Promise<string[]> {
    const out: string[] = []
    for (let seq = 0; seq < length; seq++) {
      const before = out.at(-1)
      const prev = before === undefined ? null : toBase64Url(sha256(utf8(before)))
      out.push(await receipt({ session: 'S', seq, prev, jti: `${seq}` }))
    }
    return out
  }

  it('is accepted in order, from the first or from the middle', async () => {
    const all = await chain(4)
    const whole = await run(all)
    expect(whole.stdout.match(/^ACCEPTED/gm)).toHaveLength(4)
    expect(whole.stdout).not.toContain('receipt.chain')
    expect(whole.status).toBe(0)
    const tail = await run(all.slice(2))
    expect(tail.stdout).toContain('- receipt.chain  waived: it is the first one given')
    expect(tail.status).toBe(0)
  })

  it.each<[string, (all: string[]) => string[]]>([
    ['one is left out', (all) => [all[0]!, all[2]!]],
    ['two change places', (all) => [all[1]!, all[0]!]],
    ['one is repeated', (all) => [all[0]!, all[0]!]],
  ])('is rejected when %s', async (_, bend) => {
    const { status, stdout } = await run(bend(await chain(3)))
    expect(stdout).toContain('x receipt.chain')
    expect(status).toBe(1)
  })

  it('is rejected when one is replaced, or comes from another session', async () => {
    const [first] = await chain(1)
    const forged = await receipt({ session: 'S', seq: 1, prev: toBase64Url(filled(1)) })
    expect((await run([first!, forged])).stdout).toContain('it names another receipt as the one before')
    const stranger = await receipt({ session: 'T', seq: 1, prev: toBase64Url(sha256(utf8(first!))) })
    const { status, stdout } = await run([first!, stranger])
    expect(stdout).toContain('it is of another session')
    expect(status).toBe(1)
  })

  it('of no session is waived, aloud', async () => {
    const { status, stdout } = await run([await receipt(), await receipt({ jti: 'B' })])
    expect(stdout).toContain('- receipt.chain  waived: neither is of a session')
    expect(status).toBe(0)
  })

  it('may stand in one file, a line each', async () => {
    const { status, stdout } = await run([(await chain(2)).join('\n')])
    expect(stdout.match(/^ACCEPTED/gm)).toHaveLength(2)
    expect(status).toBe(0)
  })
})

describe('misuse', () => {
  it.each<[string, () => Promise<string[]>, RegExp]>([
    ['no bundle', async () => ['receipt', file('0.receipt')], /--bundle <file>.* not specified/],
    ['no file', async () => ['receipt', ...common()], /missing required argument/],
    [
      'a worker for a bundle',
      async () => ['receipt', file('0.receipt'), '--bundle', 'http://127.0.0.1:1'],
      /expected a saved bundle/,
    ],
    [
      'an opening for several',
      async () => ['receipt', file('0.receipt'), file('0.receipt'), ...common(), '--opening', file('opening.json')],
      /--opening belongs to one receipt/,
    ],
    [
      'an opening of another shape',
      async () => ['receipt', file('0.receipt'), ...common(), '--opening', file('policy.json')],
      /cannot read opening/,
    ],
    ['an empty file', async () => ['receipt', '/dev/null', ...common()], /no receipt in/],
  ])('%s', async (_, argv, message) => {
    await writeFile(file('0.receipt'), await receipt())
    const { status, stdout, stderr } = await verifyAttestation(...(await argv()))
    expect(stdout).toBe('')
    expect(stderr).toMatch(message)
    expect(status).toBe(2)
  })
})

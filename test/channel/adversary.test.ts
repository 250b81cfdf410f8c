/**
 * The host in the middle (PROTOCOL.md §7): it has every byte of both directions, may cut, drop, repeat, reorder, splice,
 * swap, replay and rewrite, and never gets anything accepted that the other end did not send. Every refusal is typed.
 */
import { describe, expect, it } from 'vitest'
import { fetchLine } from '../../client/lines.js'
import { createTransport } from '../../client/transport.js'
import { GatewayRefusedError, InvalidResponseError, TruncatedResponseError } from '../../client/transport-errors.js'
import { createGateway } from '../../enclave/channel.js'
import { outerOf } from '../../enclave/channel-web.js'
import { encodeRequest } from '../../verifier/protocol/bhttp.js'
import { type Bytes, concat, toBytes, utf8 } from '../../verifier/protocol/bytes.js'
import { parseSignedKeyConfigurations } from '../../verifier/protocol/key-configuration.js'
import { type SealedRequest, sealRequest } from '../../verifier/protocol/ohttp.js'
import { streamOf, toReadable } from '../../verifier/protocol/streams.js'
import { decodeVarint, varintLength } from '../../verifier/protocol/varint.js'
import { chatRequest, fetchBundle, HELLO, type TestWorker, testWorker } from '../enclave/stub.js'
import { collect, cut, failureOf } from '../protocol/pieces.js'
import { createPair, NOW, type Pair, post, textOf } from './pair.js'

const REQUEST_PREFIX = 7 + 32
const RESPONSE_NONCE = 32

/** An encapsulated message taken apart: what precedes its chunks, then each chunk with its length, the final one last. */
function recordsOf(message: Uint8Array, prefix: number): Uint8Array[] {
  const records = [message.slice(0, prefix)]
  for (let at = prefix; at < message.length; ) {
    const size = varintLength(message[at] ?? 0)
    const length = decodeVarint(message.slice(at, at + size))
    const end = length === 0 ? message.length : at + size + length
    records.push(message.slice(at, end))
    at = end
  }
  return records
}

function spliced(records: readonly Uint8Array[], at: number, drop: number, ...put: Uint8Array[]): Uint8Array[] {
  return [...records.slice(0, at), ...put, ...records.slice(at + drop)]
}

/** One bit changed. */
function flipped(bytes: Uint8Array, at: number): Bytes {
  const out = new Uint8Array(bytes)
  out[at] = (out[at] ?? 0) ^ (1 << (at % 8))
  return out
}

type Surgery = readonly [name: string, records: readonly Uint8Array[]]

/** Everything that can be done to the chunks of a message, given those of another one under other keys. */
function surgeries(mine: readonly Uint8Array[], other: readonly Uint8Array[]): Surgery[] {
  const out: Surgery[] = []
  const last = mine.length - 1
  for (let i = 0; i <= last; i++) {
    const record = mine[i]!
    out.push([`drop ${i}`, spliced(mine, i, 1)])
    out.push([`repeat ${i}`, spliced(mine, i, 0, record)])
    if (i > 0) out.push([`cut to ${i} records`, mine.slice(0, i)])
    if (i < last && i > 0) out.push([`final after ${i}`, [...mine.slice(0, i), mine[last]!]])
    for (let j = i + 1; j <= last; j++)
      out.push([`swap ${i} and ${j}`, spliced(spliced(mine, i, 1, mine[j]!), j, 1, record)])
    if (other[i] !== undefined) {
      out.push([`splice in the other's ${i}`, spliced(mine, i, 1, other[i]!)])
      out.push([`go on with the other's from ${i}`, [...mine.slice(0, i), ...other.slice(i)]])
      if (i > 0) out.push([`insert the other's ${i}`, spliced(mine, i, 0, other[i]!)])
    }
  }
  const final = mine[last]!
  out.push(['bytes after the end', [...mine, new Uint8Array(1)]])
  out.push(['nothing at all', []])
  out.push([
    'a final chunk called an ordinary one',
    [...mine.slice(0, last), concat(new Uint8Array([16]), final.slice(1))],
  ])
  out.push(['an ordinary chunk called final', [...mine.slice(0, last), concat(new Uint8Array([0]), mine[1]!.slice(2))]])
  out.push(['an empty chunk', [...mine.slice(0, last), new Uint8Array([16, ...new Uint8Array(16)]), final]])
  return out
}

describe('a response in the hands of an adversary', () => {
  const pieces = ['first-', 'secnd-', 'third-', 'forth-']
  const answering = (words: readonly string[]) =>
    createPair(() => new Response(toReadable(streamOf(...words.map(utf8)))))

  /** The error of an exchange whose response was replaced, and what the caller had been given until then. */
  async function replaced(pair: Pair, change: (whole: Bytes) => Promise<Uint8Array> | Uint8Array) {
    const seen = { text: '' }
    pair.wire.tamper = async (response) => {
      const changed = await change(new Uint8Array(await response.arrayBuffer()))
      return new Response(toBytes(changed), response)
    }
    const error = await failureOf(async () => {
      const { response, trailers } = await pair.transport(post('x'))
      for await (const piece of response.body ?? []) seen.text += new TextDecoder().decode(piece)
      await trailers
    })
    return { error, text: seen.text }
  }

  it('any record dropped, repeated, reordered, spliced or cut off is refused, and what was delivered was true', async () => {
    const pair = await answering(pieces)
    const donor = await answering(pieces)
    const stolen: { records: Uint8Array[] } = { records: [] }
    await replaced(donor, (whole) => {
      stolen.records = recordsOf(whole, RESPONSE_NONCE)
      return whole
    })
    const count = await (async () => {
      const seen = { length: 0 }
      await replaced(pair, (whole) => {
        seen.length = surgeries(recordsOf(whole, RESPONSE_NONCE), stolen.records).length
        return whole
      })
      return seen.length
    })()
    expect(count).toBeGreaterThan(60)
    for (let i = 0; i < count; i++) {
      const did = { name: '' }
      const { error, text } = await replaced(pair, (whole) => {
        const [name, records] = surgeries(recordsOf(whole, RESPONSE_NONCE), stolen.records)[i]!
        did.name = name
        return concat(...records)
      })
      const typed = error instanceof InvalidResponseError || error instanceof TruncatedResponseError
      expect(`${did.name}: ${typed}`).toBe(`${did.name}: true`)
      expect(pieces.join('').startsWith(text)).toBe(true)
    }
  })

  it('any byte changed is refused', async () => {
    const pair = await answering(['short'])
    const whole = { length: 0 }
    await replaced(pair, (bytes) => {
      whole.length = bytes.length
      return bytes
    })
    for (let at = 0; at < whole.length; at += at < 120 ? 1 : 13) {
      const { error } = await replaced(pair, (bytes) => flipped(bytes, at))
      expect(error instanceof InvalidResponseError || error instanceof TruncatedResponseError).toBe(true)
    }
  })

  it('swapped with the answer to another request made at the same moment, both are refused', async () => {
    const pair = await createPair(async (request) => new Response(`answer to ${textOf(request)}`))
    const held: { body: Bytes; give: (body: Bytes) => void }[] = []
    pair.wire.tamper = async (response) => {
      const body = new Uint8Array(await response.arrayBuffer())
      const swapped = new Promise<Bytes>((give) => held.push({ body, give }))
      if (held.length === 2) {
        held[0]?.give(held[1]!.body)
        held[1]?.give(held[0]!.body)
      }
      return new Response(await swapped, response)
    }
    const failures = await Promise.all(['one', 'two'].map((prompt) => failureOf(() => pair.transport(post(prompt)))))
    expect(failures.every((failure) => failure instanceof InvalidResponseError)).toBe(true)
  })

  it.each<[string, ResponseInit]>([
    ['another status', { status: 201, headers: { 'content-type': 'message/ohttp-chunked-res' } }],
    ['no media type', { status: 200, headers: {} }],
    ['the media type of the plain form', { status: 200, headers: { 'content-type': 'message/ohttp-res' } }],
    ['a media type of an answer in the clear', { status: 200, headers: { 'content-type': 'application/json' } }],
    ['a parameter on it', { status: 200, headers: { 'content-type': 'message/ohttp-chunked-res; q=1' } }],
  ])('outer header: %s is refused', async (_, init) => {
    const pair = await answering(pieces)
    pair.wire.tamper = async (response) => {
      const outer = new Response(await response.arrayBuffer(), init)
      if (!('content-type' in (init.headers ?? {}))) outer.headers.delete('content-type')
      return outer
    }
    expect(await failureOf(() => pair.transport(post('x')))).toBeInstanceOf(GatewayRefusedError)
  })

  it('outer headers that mean nothing change nothing', async () => {
    const pair = await answering(pieces)
    pair.wire.tamper = (response) => {
      const headers = { 'content-type': 'message/ohttp-chunked-res', 'x-evil': '1', trailer: 'subrosa-receipt' }
      return new Response(response.body, { status: 200, headers })
    }
    const { response, trailers } = await pair.transport(post('x'))
    expect(await response.text()).toBe(pieces.join(''))
    expect([...response.headers, ...(await trailers)]).toEqual([])
  })
})

describe('a request in the hands of an adversary', () => {
  /** A request of several chunks, the content cut into small pieces. */
  async function sealed(pair: Pair, prompt: string): Promise<{ keys: SealedRequest; bytes: Bytes }> {
    const fields = [['date', NOW.toUTCString()]] as const
    const head = { method: 'POST', scheme: 'https', authority: 'a', path: '/v1/chat/completions', fields }
    const keys = await sealRequest(pair.ring.keys[0]!.configuration, cut(encodeRequest(head, utf8(prompt)), 30))
    return { keys, bytes: await collect(keys.body) }
  }

  /** The same keys behind a gateway that remembers nothing yet, so that each attempt is judged by itself. */
  async function attempt(pair: Pair, body: Uint8Array, headers: Readonly<Record<string, string>> = {}) {
    const handled: string[] = []
    const refusals: string[] = []
    const gateway = createGateway({
      keys: pair.ring,
      now: () => NOW,
      onRefusal: (code) => refusals.push(code),
      handler: async (request) => {
        handled.push(textOf(request))
        return new Response('x')
      },
    })
    const type = { 'content-type': 'message/ohttp-chunked-req' }
    const init = { method: 'POST', headers: { ...type, ...headers }, body: toBytes(body) }
    const { status } = await gateway(outerOf(new Request('https://worker.example/ohttp', init)))
    return { status, handled, refusals }
  }

  const prompt = 'a prompt that goes on for a while, longer than any one chunk of it'

  it('cut at every byte, it never reaches the handler', async () => {
    const pair = await createPair(() => new Response('x'))
    const { bytes } = await sealed(pair, prompt)
    expect(await attempt(pair, bytes)).toEqual({ status: 200, handled: [prompt], refusals: [] })
    for (let keep = 0; keep < bytes.length; keep++) {
      const { status, handled, refusals } = await attempt(pair, bytes.slice(0, keep))
      expect({ status, handled }).toEqual({ status: 400, handled: [] })
      expect(refusals[0]).toMatch(/^(stream\.truncated|ohttp\.open|ohttp\.chunk-length)$/)
    }
  })

  it('any record dropped, repeated, reordered or spliced in never reaches the handler', async () => {
    const pair = await createPair(() => new Response('x'))
    const mine = recordsOf((await sealed(pair, prompt)).bytes, REQUEST_PREFIX)
    const other = recordsOf((await sealed(pair, prompt.toUpperCase())).bytes, REQUEST_PREFIX)
    const cases = surgeries(mine, other).filter(([name]) => name !== "go on with the other's from 0")
    expect(mine.length).toBeGreaterThan(4)
    for (const [name, records] of cases) {
      const { status, handled } = await attempt(pair, concat(...records))
      expect({ name, handled, refused: status === 400 || status === 421 }).toEqual({ name, handled: [], refused: true })
    }
  })

  it('any byte changed never reaches the handler', async () => {
    const pair = await createPair(() => new Response('x'))
    const { bytes } = await sealed(pair, prompt)
    for (let at = 0; at < bytes.length; at++) {
      const { status, handled } = await attempt(pair, flipped(bytes, at))
      expect({ at, handled, refused: status === 400 || status === 421 }).toEqual({ at, handled: [], refused: true })
    }
  })

  it.each<[string, Record<string, string>, number]>([
    ['the plain form', { 'content-type': 'message/ohttp-req' }, 400],
    ['JSON', { 'content-type': 'application/json' }, 415],
    ['a parameter', { 'content-type': 'message/ohttp-chunked-req; charset=utf-8' }, 415],
    ['another worker’s hint', { 'subrosa-key': 'AAAAAAAAAAAAAAAAAAAAAA' }, 421],
    ['an empty hint', { 'subrosa-key': '' }, 421],
  ])('outer header altered to %s never reaches the handler', async (_, headers, expected) => {
    const pair = await createPair(() => new Response('x'))
    const { status, handled } = await attempt(pair, (await sealed(pair, prompt)).bytes, headers)
    expect({ status, handled }).toEqual({ status: expected, handled: [] })
  })

  it('outer headers stripped or added change nothing inside', async () => {
    const pair = await createPair(() => new Response('x'))
    const { bytes } = await sealed(pair, prompt)
    const added = { authorization: 'Bearer evil', date: 'x', 'idempotency-key': 'evil', 'subrosa-session': 'evil' }
    expect(await attempt(pair, bytes, added)).toEqual({ status: 200, handled: [prompt], refusals: [] })
  })

  it('an inner header cannot be cut out: without its date the request is refused inside', async () => {
    const pair = await createPair(() => new Response('x'))
    const head = { method: 'GET', scheme: 'https', authority: 'a', path: '/', fields: [] }
    const keys = await sealRequest(pair.ring.keys[0]!.configuration, streamOf(encodeRequest(head, utf8(''))))
    const { handled, refusals } = await attempt(pair, await collect(keys.body))
    expect({ handled, refusals }).toEqual({ handled: [], refusals: ['date'] })
  })
})

describe('a replay', () => {
  const STREAM = JSON.stringify({ ...HELLO, stream: true })

  async function recorded(worker: TestWorker): Promise<{ body: Bytes; headers: Record<string, string> }> {
    const bundle = (await fetchBundle(worker.worker)).bundle
    const configuration = parseSignedKeyConfigurations(bundle.keys)[0]!.configuration
    const taken: { body: Bytes; headers: Record<string, string> } = { body: new Uint8Array(), headers: {} }
    const transport = createTransport({
      endpoint: new URL('http://worker.example/ohttp'),
      keyConfiguration: () => configuration,
      now: () => worker.clock.at,
      line: fetchLine(async (input, init) => {
        const outer = new Request(input, init)
        taken.body = new Uint8Array(await outer.clone().arrayBuffer())
        taken.headers = Object.fromEntries(outer.headers)
        return worker.worker.fetch(outer)
      }),
    })
    await (await transport(chatRequest(STREAM))).response.text()
    return taken
  }

  const replay = async (worker: TestWorker, { body, headers }: Awaited<ReturnType<typeof recorded>>) =>
    (await worker.worker.fetch(new Request('http://worker.example/ohttp', { method: 'POST', headers, body }))).status

  it.each([true, false])('is refused under the same key, after rotation and after its end (hint: %s)', async (hint) => {
    const worker = await testWorker()
    const taken = await recorded(worker)
    if (!hint) delete taken.headers['subrosa-key']
    expect(await replay(worker, taken)).toBe(400)
    worker.clock.at = new Date(worker.clock.at.getTime() + 400_000)
    await worker.worker.refresh()
    expect(await replay(worker, taken)).toBe(400)
    worker.clock.at = new Date(worker.clock.at.getTime() + 200_000)
    await worker.worker.refresh()
    expect([400, 421]).toContain(await replay(worker, taken))
    expect(worker.engine.calls).toHaveLength(1)
  })

  it.each([true, false])('is refused after a restart, whatever key id the next boot draws (hint: %s)', async (hint) => {
    const taken = await recorded(await testWorker())
    if (!hint) delete taken.headers['subrosa-key']
    const restarted = await testWorker()
    const bundle = (await fetchBundle(restarted.worker)).bundle
    const keyId = parseSignedKeyConfigurations(bundle.keys)[0]!.configuration[0] ?? 0
    // As if by chance: the new key has the old one's id. The suite is the same, only the key is not.
    const collided = { ...taken, body: concat(new Uint8Array([keyId]), taken.body.slice(1)) }
    expect(await replay(restarted, collided)).toBe(hint ? 421 : 400)
    expect([400, 421]).toContain(await replay(restarted, taken))
    expect(restarted.engine.calls).toHaveLength(0)
  })
})

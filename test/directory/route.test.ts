/**
 * From a directory to an answer, with SIMULATED workers over real sockets. A list is anybody's: each liar in it costs at most a
 * verification that fails, and never a byte of a prompt.
 */
import type { LookupFunction } from 'node:net'
import OpenAI from 'openai'
import { Agent, fetch as undiciFetch } from 'undici'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type CandidateReport, type DirectoryOptions, NoWorkerError } from '../../client/directory/index.js'
import { connect } from '../../client/directory/node.js'
import { Router } from '../../client/directory/router.js'
import { readSources } from '../../client/directory/sources.js'
import { type PolicyDocument, UsageError } from '../../client/index.js'
import { reachHere } from '../../client/reach-here.js'
import { WorkerPool } from '../../client/worker-pool.js'
import type { Engine } from '../../enclave/inference/engine.js'
import { EngineError } from '../../enclave/inference/errors.js'
import type { DirectoryDocument } from '../../verifier/directory/document.js'
import { MEDIA_TYPE_DIRECTORY } from '../../verifier/directory/document.js'
import { fetchDescriptors } from '../../verifier/directory/fetch.js'
import { MODEL, stubEngine } from '../enclave/stub.js'
import { startHttp } from '../support/http.js'
import { filled } from '../support/samples.js'
import {
  closeAll,
  directory,
  holdBack,
  type Listed,
  listAgain,
  listWorker,
  MANIFEST,
  OTHER_MODEL,
  policyOf,
  WEIGHTS,
} from './listed-workers.js'
import { createProvider, DAY } from './providers.js'

const CANARY = 'kookaburra-8841'
const NOW_S = Math.floor(Date.now() / 1000)

let cheap: Listed
let dear: Listed
/** Other software, the same claims. */
let impostor: Listed
/** Another model than the one listed. */
let swapped: Listed
/** Its configuration names an operator, which is not the provider who lists it. */
let borrowed: Listed
/** Its configuration names the provider who lists it. */
let owned: Listed
let policy: PolicyDocument
const running: { close(): unknown }[] = []

beforeAll(async () => {
  ;[cheap, dear, impostor, swapped, borrowed, owned] = await Promise.all([
    listWorker({ price: ['0.10', '0.20'] }),
    listWorker({ price: ['0.30', '0.90'], region: 'us-east-1' }),
    listWorker({ price: ['0.01', '0.01'], launchDigest: filled(0x99, 48) }),
    listWorker({ price: ['0.02', '0.02'], model: OTHER_MODEL }),
    listWorker({ price: ['0.03', '0.03'], operator: filled(7) }),
    listWorker({ price: ['0.20', '0.40'], operator: 'provider' }),
  ])
  policy = await policyOf(cheap, dear, impostor, swapped, borrowed, owned)
})

afterEach(async () => {
  for (const one of running.splice(0).reverse()) await one.close()
})

afterAll(() => closeAll(cheap, dear, impostor, swapped, borrowed, owned))

const priced = (amount: string) => ({ currency: 'USD', inputPerMillion: amount, outputPerMillion: amount })
const cap = { currency: 'USD', inputPerMillion: '0.50', outputPerMillion: '1' }
type Change = Partial<DirectoryOptions> & { readonly wants?: Partial<DirectoryOptions['intent']> }

async function through(list: DirectoryDocument | string, { wants, ...change }: Change = {}) {
  const intent = { model: MODEL.id, maxPrice: cap, prefer: 'price' as const, ...wants }
  const session = await connect(list, {
    policy,
    allowPrivateEndpoints: true,
    patienceMs: 60_000,
    timeoutMs: 60_000,
    intent,
    ...change,
  })
  running.push(session)
  const ask = async () => {
    const response = await session.fetch(`${session.baseURL}/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: MODEL.id, messages: [{ role: 'user', content: CANARY }] }),
    })
    const text = await response.text()
    return { status: response.status, text, receipt: await session.receipt(response).catch(() => undefined) }
  }
  const of = (url: string): CandidateReport | undefined => session.route().candidates.find((one) => one.url === url)
  return { session, ask, of }
}

const refusalOf = (list: DirectoryDocument | string, change?: Change) =>
  through(list, change).then(
    () => undefined,
    (error: unknown) => error,
  )

describe('of a whole directory', () => {
  it('the best worker that verifies is used, and each other one is not, for a reason', async () => {
    const expired = await createProvider(new Date())
    const gone = await startHttp(() => undefined)
    await gone.close()
    const unreachable = await createProvider(new Date())
    const bystander = await listAgain(cheap, { price: priced('0.90') })
    const silent = await listAgain(cheap, {})
    running.push(bystander.tap, silent.tap)
    const list = await directory(
      dear.descriptor(),
      impostor.descriptor(),
      swapped.descriptor(),
      borrowed.descriptor(),
      owned.descriptor(),
      cheap.descriptor(),
      bystander.descriptor(),
      silent.descriptor({ url: `${silent.url}a` }, { iat: NOW_S - DAY, exp: NOW_S - 1 }),
      silent.provider.sign({ ...expired.payload({ endpoints: [silent.endpoint] }) }),
      unreachable.descriptor({ endpoints: [{ ...cheap.endpoint, url: `${gone.url}/` }] }),
    )
    const { session, ask, of } = await through(list)
    expect(session.listing.endpoint.url).toBe(cheap.url)
    const { status, text, receipt } = await ask()
    expect([status, text.includes('Hello there')]).toEqual([200, true])
    expect(receipt).toMatchObject({ verdict: 'accepted', price: 'unstated' })

    expect(of(cheap.url)).toMatchObject({ status: 'chosen', reason: null, checks: [] })
    expect(of(impostor.url)).toMatchObject({ status: 'rejected', checks: ['reference.measurement'] })
    expect(of(swapped.url)).toMatchObject({ status: 'rejected', checks: ['listing.model'] })
    expect(of(borrowed.url)).toMatchObject({ status: 'rejected', checks: ['listing.operator'] })
    expect(of(`${gone.url}/`)).toMatchObject({ status: 'unreachable', reason: expect.stringContaining('refused') })
    expect(of(bystander.url)).toMatchObject({ status: 'unfit', reason: 'over the price cap: 0.90 against 0.50 USD' })
    expect(session.route().leftOut.map(({ check }) => check)).toEqual(['descriptor.window', 'descriptor.signature'])

    // Nothing was sealed to anyone who was not proven, nothing at all went to those who did not fit (P-15.8, P-15.10).
    for (const liar of [impostor, swapped, borrowed, dear, owned]) expect(liar.sealed()).toBe(0)
    for (const one of [bystander, silent]) expect(one.tap.connections()).toBe(0)
    for (const { tap } of [impostor, swapped, borrowed, dear, owned, cheap]) {
      expect(tap.bytes().toString('latin1')).not.toContain(CANARY)
    }
    for (const { tap } of [impostor, swapped, borrowed]) {
      const asked =
        tap
          .bytes()
          .toString('latin1')
          .match(/^(GET|POST|PUT|HEAD|OPTIONS) \S+/gm) ?? []
      expect(asked.filter((line) => !line.startsWith('GET /.well-known/attestation?nonce='))).toEqual([])
    }
  })

  it('none is used when none verifies, and nothing is sealed (P-15.8)', async () => {
    const sealed = () => impostor.sealed() + swapped.sealed() + borrowed.sealed()
    const error = await refusalOf(await directory(impostor.descriptor(), swapped.descriptor(), borrowed.descriptor()))
    expect(error).toBeInstanceOf(NoWorkerError)
    expect((error as NoWorkerError).checks).toEqual(['reference.measurement', 'listing.model', 'listing.operator'])
    expect(sealed()).toBe(0)
  })

  it('a digest in the intent names the model where the policy names none, and has to hold besides where it does', async () => {
    const list = await directory(swapped.descriptor(), cheap.descriptor())
    const { model: _, ...strict } = policy
    for (const model of [WEIGHTS, MANIFEST]) {
      for (const one of [policy, strict, { ...strict, model: 'any' as const }]) {
        const { session } = await through(list, { wants: { model }, policy: one })
        expect(session.listing.endpoint.url).toBe(cheap.url)
      }
    }
    const alone = await directory(swapped.descriptor())
    const refused = async (one: PolicyDocument) =>
      ((await refusalOf(alone, { wants: { model: WEIGHTS }, policy: one })) as NoWorkerError).checks
    expect([await refused(strict), await refused(policy)]).toEqual([['model.digest'], ['listing.model']])
    // An id names nothing for a policy.
    expect(await refusalOf(await directory(cheap.descriptor()), { policy: strict })).toMatchObject({
      checks: ['model.digest'],
    })
  })

  it('a worker whose configuration names its provider is that provider’s', async () => {
    const { session } = await through(await directory(owned.descriptor()))
    expect(session.listing.provider).toBe(owned.provider.key)
  })

  it('one that somebody else lists too is not hidden by what they say of it', async () => {
    const liar = await createProvider(new Date())
    const lie = liar.descriptor({ endpoints: [{ ...owned.endpoint, price: null }] })
    const other = liar.descriptor({ endpoints: [{ ...owned.endpoint, region: 'eu-west-9' }] })
    for (const lies of [lie, other]) {
      const { session } = await through(await directory(lies, owned.descriptor()))
      expect(session.listing.provider).toBe(owned.provider.key)
    }
  })

  it('a name is looked up by the guarded fetch’s own connections, and prompts stream through them', async () => {
    const looked: string[] = []
    // As the guarded one, with a resolver that leads to this machine, which that one would refuse.
    const connect: { lookup: LookupFunction } = {
      lookup(name, { all }, callback) {
        looked.push(name)
        if (all === true) callback(null, [{ address: '127.0.0.1', family: 4 }])
        else callback(null, '127.0.0.1', 4)
      },
    }
    const agent = new Agent({ connect })
    running.push(agent)
    const through_ = (async (input, init) =>
      undiciFetch(String(input), { ...(init as object), dispatcher: agent })) as typeof fetch
    const url = cheap.url.replace('127.0.0.1', 'gpu7.example.net')
    const { ask, of } = await through(await directory(cheap.descriptor({ url })), { fetch: through_ })
    expect(await ask()).toMatchObject({ status: 200, receipt: { verdict: 'accepted' } })
    expect(of(url)?.status).toBe('chosen')
    expect(new Set(looked)).toEqual(new Set(['gpu7.example.net']))
  })

  it('the openai package talks as to one worker', async () => {
    const { session } = await through(await directory(cheap.descriptor()))
    const openai = new OpenAI({ baseURL: session.baseURL, fetch: session.fetch, apiKey: 'unused', maxRetries: 0 })
    const messages = [{ role: 'user' as const, content: 'hello' }]
    let text = ''
    for await (const chunk of await openai.chat.completions.create({ model: MODEL.id, messages, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? ''
    }
    expect(text).toBe('Hello there.')
    await expect(session.fetch('https://elsewhere.example/v1/models')).rejects.toMatchObject({
      code: 'client.foreign-url',
    })
    await expect(session.receipt(new Response())).rejects.toMatchObject({ code: 'client.foreign-response' })
    session.close()
    expect(() => session.worker).toThrow(expect.objectContaining({ code: 'client.closed' }))
  })
})

describe('an intent', () => {
  const list = () => directory(cheap.descriptor(), dear.descriptor())

  it.each<[string, object, () => Listed]>([
    ['a region', { regions: ['us'] }, () => dear],
    ['no region', {}, () => cheap],
    ['one region exactly', { regions: ['ap', 'us-east-1'] }, () => dear],
  ])('of %s', async (_, wants, expected) => {
    const { session } = await through(await list(), {
      wants: { ...wants, ...('regions' in wants ? {} : {}) } as object,
    })
    expect(session.listing.endpoint.url).toBe(expected().url)
  })

  it.each<[string, object, RegExp]>([
    ['half a region', { regions: ['us-ea'] }, /it stands in eu-west-1/],
    ['another model', { model: 'other-1' }, /it serves stub-1/],
    ['a lower price', { maxPrice: { ...cap, outputPerMillion: '0.1' } }, /over the price cap: 0\.20 against 0\.1 USD/],
    ['another currency (P-15.10)', { maxPrice: { ...cap, currency: 'EUR' } }, /its price is in USD, the cap in EUR/],
  ])('of %s finds nobody, and asks nobody', async (_, wants, reason) => {
    const before = [cheap, dear].map(({ tap }) => tap.connections())
    expect(await refusalOf(await list(), { wants })).toMatchObject({
      code: 'pool.no-worker',
      message: expect.stringMatching(reason),
    })
    expect([cheap, dear].map(({ tap }) => tap.connections())).toEqual(before)
  })

  it('with a price cap leaves out who lists no price', async () => {
    const error = await refusalOf(await directory(cheap.descriptor({ price: null })))
    expect(String(error)).toMatch(/it lists no price/)
    const { maxPrice: _, ...free } = { model: MODEL.id, maxPrice: cap }
    const { session } = await through(await directory(cheap.descriptor({ price: null })), { intent: free })
    expect(session.listing.endpoint.price).toBeNull()
  })

  it.each<[string, object]>([
    ['no model', { model: '' }],
    ['a price that is no number', { maxPrice: { ...cap, inputPerMillion: 'cheap' } }],
    ['a currency that is none', { maxPrice: { ...cap, currency: '$' } }],
    ['no region at all', { regions: [] }],
    ['a wish nobody knows', { prefer: 'beauty' }],
    ['the cheapest of all currencies', { maxPrice: undefined }],
    ['no time at all', { maxLatencyMs: 0 }],
  ])('with %s is a mistake', async (_, wants) => {
    expect(await refusalOf('http://127.0.0.1:9/', { wants })).toBeInstanceOf(UsageError)
  })
})

describe('the nearest', () => {
  it('is chosen by how long evidence took, without a prompt', async () => {
    const slow = await holdBack(dear.worker.url)
    running.push(slow)
    const sealed = cheap.sealed() + dear.sealed()
    const list = await directory(dear.descriptor({ url: slow.url }), cheap.descriptor())
    const opening = through(list, { wants: { prefer: 'latency' } })
    setTimeout(slow.release, 1000)
    const { session, of } = await opening
    expect(session.listing.endpoint.url).toBe(cheap.url)
    expect(of(cheap.url)?.latencyMs).toBeGreaterThan(0)
    expect(cheap.sealed() + dear.sealed()).toBe(sealed)
  })

  it('proves itself before every request where that is asked for (P-7.11)', async () => {
    const { ask } = await through(await directory(cheap.descriptor()), { prove: 'always' })
    const before = cheap.sealed()
    for (let i = 0; i < 2; i++) expect((await ask()).status).toBe(200)
    expect(cheap.sealed() - before).toBe(4)
  })

  it('is refused all the same when it is too far', async () => {
    const wants = { prefer: 'latency', maxLatencyMs: 0.001 } as const
    const error = await refusalOf(await directory(cheap.descriptor()), { wants })
    expect(error).toMatchObject({ failures: [{ error: { code: 'directory.slow' } }] })
  })

  it('is not waited for when it never answers', async () => {
    const hung = await holdBack(cheap.worker.url)
    running.push(hung)
    const list = await directory(cheap.descriptor({ url: hung.url, price: null }), dear.descriptor())
    const intent = { model: MODEL.id }
    const { session, of } = await through(list, { intent, patienceMs: 100 })
    expect(session.listing.endpoint.url).toBe(dear.url)
    expect(of(hung.url)).toMatchObject({ status: 'slow', latencyMs: null })
  })
})

describe('when the chosen worker fails', () => {
  const both = (first: Listed) => directory(first.descriptor(), dear.descriptor())
  const refusing = (code: 'overloaded' | 'closed') => () => {
    throw new EngineError(code, code)
  }
  /** Until the test is over. */
  const answerBy = ({ engine }: Listed, generate: Engine['generate']): void => {
    const before = engine.generate
    engine.generate = generate
    running.push({
      close() {
        engine.generate = before
      },
    })
  }

  it('before anything reached it, the next verified one answers', async () => {
    const dying = await listAgain(cheap, {})
    const { session, ask, of } = await through(await both(dying))
    expect(session.listing.endpoint.url).toBe(dying.url)
    expect((await ask()).status).toBe(200)
    await dying.tap.close()
    const answers = dear.engine.calls.length
    // A connection that was open may break under the first request: then nobody may repeat it, and the caller is told.
    const first = await ask().catch((error: unknown) => error)
    if (first instanceof Error) expect(first).toMatchObject({ code: expect.stringMatching(/^transport\./) })
    expect((await ask()).status).toBe(200)
    expect(session.listing.endpoint.url).toBe(dear.url)
    expect(dear.engine.calls.length - answers).toBe(first instanceof Error ? 1 : 2)
    expect(of(dying.url)?.status).toBe('unreachable')
  })

  it.each(['overloaded', 'closed'] as const)(
    'by a refusal inside the encryption (%s), the next one answers once (P-15.11)',
    async (code) => {
      const busy = await listAgain(cheap, {})
      running.push(busy.tap)
      answerBy(busy, refusing(code))
      const { session, ask } = await through(await both(busy))
      expect(session.listing.endpoint.url).toBe(busy.url)
      const answers = dear.engine.calls.length
      expect((await ask()).status).toBe(200)
      expect(dear.engine.calls.length).toBe(answers + 1)
      expect(busy.sealed()).toBe(2) // the question whether it holds the key, and the request, once
      expect(session.listing.endpoint.url).toBe(dear.url)
    },
  )

  it('in any other way, nobody else gets the request (P-15.11)', async () => {
    let reached: () => void = () => undefined
    const asked = new Promise<void>((resolve) => {
      reached = resolve
    })
    const cut = await listAgain(cheap, {})
    running.push(cut.tap)
    answerBy(cut, stubEngine({ step: () => new Promise(() => reached()) }).generate)
    const { ask } = await through(await both(cut))
    const answers = dear.engine.calls.length
    const sealed = dear.sealed()
    const broken = ask()
    broken.catch(() => undefined)
    await asked
    cut.tap.lead('http://127.0.0.1:1')
    await expect(broken).rejects.toMatchObject({ code: expect.stringMatching(/^transport\./) })
    expect([dear.engine.calls.length, dear.sealed()]).toEqual([answers, sealed])
    // The next request goes to the next worker.
    expect((await ask()).status).toBe(200)
    expect(dear.engine.calls.length).toBe(answers + 1)
  })

  it('and all others too, the last refusal is what the caller gets', async () => {
    const busy = [await listAgain(cheap, {}), await listAgain(dear, {})]
    running.push(...busy.map(({ tap }) => tap))
    for (const one of busy) answerBy(one, refusing('overloaded'))
    const { ask } = await through(await directory(...busy.map((one) => one.descriptor())))
    const { status, text } = await ask()
    expect([status, text.includes('rate_limit_exceeded')]).toEqual([429, true])
    expect(busy.map((one) => one.sealed())).toEqual([2, 2]) // each a question whether it holds the key, and the request
  })
})

describe('a directory at an address', () => {
  it('is read again when it is old; nothing goes back behind what was seen, or is kept that is listed no more (P-15.4)', async () => {
    let list = await directory(cheap.descriptor({}, { seq: 9 }), dear.descriptor())
    let elapsedMs = 0
    const router = new Router({
      read: async () => ({ lists: [{ source: 'a list', ...list }], failures: [] }),
      intent: { model: MODEL.id, maxPrice: cap, prefer: 'price' },
      connect: { policy, timeoutMs: 60_000 },
      reach: await reachHere(),
      allowPrivateEndpoints: true,
      patienceMs: 60_000,
      elapsedMs: () => elapsedMs,
    })
    const pool = new WorkerPool(router)
    running.push(pool)
    const held = async () => (await pool.acquire()).url
    expect(await held()).toBe(cheap.url)
    list = await directory(dear.descriptor())
    expect(await held()).toBe(cheap.url)
    elapsedMs = 600_000
    await pool.acquire() // notices that it is time
    await expect.poll(held).toBe(dear.url)
    list = await directory(cheap.descriptor({}, { seq: 8 }), dear.descriptor())
    elapsedMs = 1_200_000
    await pool.acquire()
    await expect.poll(() => router.report().leftOut.map(({ check }) => check)).toEqual(['descriptor.newest'])
    expect(await held()).toBe(dear.url)
  })

  it('that cannot be read any more leaves what was read', async () => {
    const list = await directory(cheap.descriptor())
    const server = await startHttp((_, response) =>
      response.writeHead(200, { 'content-type': MEDIA_TYPE_DIRECTORY }).end(JSON.stringify(list)),
    )
    let elapsedMs = 0
    let read = () => readSources([`${server.url}/list`], (source) => fetchDescriptors(source, { fetch }))
    const router = new Router({
      read: () => read(),
      intent: { model: MODEL.id },
      connect: { policy, timeoutMs: 60_000 },
      reach: await reachHere(),
      allowPrivateEndpoints: true,
      elapsedMs: () => elapsedMs,
    })
    running.push(router)
    const none: ReadonlySet<string> = new Set()
    expect((await router.find(none)).worker.url).toBe(cheap.url)
    await server.close()
    elapsedMs = 600_000
    expect((await router.find(none)).worker.url).toBe(cheap.url)
    expect(router.report().leftOut).toMatchObject([{ source: `${server.url}/list`, malformed: false }])
    read = async () => {
      throw new UsageError('file.unreadable', 'cannot read directory list.json: there is no such file')
    }
    elapsedMs = 1_200_000
    expect((await router.find(none)).worker.url).toBe(cheap.url)
    expect(router.report().leftOut).toMatchObject([{ reason: expect.stringMatching(/no such file/) }])
  })

  it.each<[string, number, string, string, RegExp]>([
    ['of another kind', 200, 'text/html', '<html>', /neither directory nor descriptor/],
    ['that leads elsewhere', 302, MEDIA_TYPE_DIRECTORY, '', /redirect/],
    ['that is no directory', 200, MEDIA_TYPE_DIRECTORY, '{}', /expected \{ "schema"/],
    ['that is too large', 200, MEDIA_TYPE_DIRECTORY, ' '.repeat(5_000_000), /more than 4194304 bytes/],
    [
      'of nobody',
      200,
      MEDIA_TYPE_DIRECTORY,
      '{"schema":"subrosa-directory/1","descriptors":[]}',
      /no worker is listed/,
    ],
  ])('%s leads to nobody', async (_, status, type, body, reason) => {
    const server = await startHttp((_request, response) =>
      response.writeHead(status, { 'content-type': type, location: cheap.url }).end(body),
    )
    running.push(server)
    expect(await refusalOf(`${server.url}/list`)).toMatchObject({
      code: 'pool.no-worker',
      message: expect.stringMatching(reason),
    })
  })
})

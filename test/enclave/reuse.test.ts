/** Prompts kept for their own session (P-10.5, P-10.6): under tokens that the worker issued, through the whole channel. */
import { describe, expect, it } from 'vitest'
import { createReuseTokens } from '../../enclave/reuse-tokens.js'
import { fromBase64Url, toBase64Url, toBytes } from '../../verifier/protocol/bytes.js'
import { chatRequest, eventsOf, fetchBundle, HELLO, stubEngine, type TestWorker, testWorker } from './stub.js'

const session = (fill: number): string => toBase64Url(new Uint8Array(32).fill(fill))
const sessions = { worker: { isolation: 'session' } } as const

async function ask(
  { transport, engine }: TestWorker,
  headers: Record<string, string>,
  body: object = HELLO,
): Promise<{ status: number; issued: string | null; key: string | undefined; text: string }> {
  const request = chatRequest(JSON.stringify(body), { headers: { 'content-type': 'application/json', ...headers } })
  const { response } = await transport(request)
  const text = await response.text()
  const { status } = response
  return { status, issued: response.headers.get('subrosa-reuse'), key: engine.calls.at(-1)?.options.reuseKey, text }
}

describe('prompt reuse', () => {
  it('is under a token that the worker issued', async () => {
    const worker = await testWorker(sessions)
    const first = await ask(worker, { 'subrosa-session': session(1), 'subrosa-reuse': 'new' })
    expect(fromBase64Url(first.issued ?? '')).toHaveLength(32)
    expect(first.key).toMatch(/.{40}/)
    const again = await ask(worker, { 'subrosa-session': session(1), 'subrosa-reuse': first.issued ?? '' })
    expect([again.status, again.key, again.issued]).toEqual([200, first.key, null])
    // The key says nothing of what it was made of.
    expect(first.key).not.toContain(first.issued)
    const streamed = await ask(
      worker,
      { 'subrosa-session': session(1), 'subrosa-reuse': 'new' },
      { ...HELLO, stream: true },
    )
    expect(fromBase64Url(streamed.issued ?? '')).toHaveLength(32)
    expect(streamed.key).not.toBe(first.key)
  })

  it('is another for two clients that chose the same session token', async () => {
    const worker = await testWorker(sessions)
    const all = [1, 2, 3].map(() => ask(worker, { 'subrosa-session': session(1), 'subrosa-reuse': 'new' }))
    const issued = (await Promise.all(all)).map((answer) => answer.issued)
    const keys = worker.engine.calls.map(({ options }) => options.reuseKey)
    expect([new Set(issued).size, new Set(keys).size]).toEqual([3, 3])
  })

  it('is not under a token made up, changed, of another session, or of another worker', async () => {
    const [worker, other] = await Promise.all([testWorker(sessions), testWorker(sessions)])
    const mine = await ask(worker, { 'subrosa-session': session(1), 'subrosa-reuse': 'new' })
    const token = fromBase64Url(mine.issued ?? '')
    const changed = Array.from({ length: 32 }, (_, i) =>
      toBase64Url(toBytes(token.map((byte, k) => byte ^ +(k === i)))),
    )
    const tries: [TestWorker, string, string][] = [
      [worker, session(2), mine.issued ?? ''],
      [other, session(1), mine.issued ?? ''],
      [worker, session(1), session(1)],
      [worker, session(1), toBase64Url(new Uint8Array(32))],
      ...changed.map((value): [TestWorker, string, string] => [worker, session(1), value]),
    ]
    for (const [at, own, value] of tries) {
      const answer = await ask(at, { 'subrosa-session': own, 'subrosa-reuse': value })
      expect([answer.status, answer.key === mine.key, answer.issued === value]).toEqual([200, false, false])
      expect(fromBase64Url(answer.issued ?? '')).toHaveLength(32)
    }
  })

  it('ends with the boot: what was issued under another statement counts for nothing', () => {
    const tokens = createReuseTokens()
    const [boot, next] = [1, 2].map((fill) => toBytes(new Uint8Array(32).fill(fill)))
    if (boot === undefined || next === undefined) throw new Error('no boot')
    const first = tokens.open('new', session(1), boot)
    expect(tokens.open(first.issued ?? '', session(1), boot)).toEqual({ key: first.key, issued: undefined })
    const later = tokens.open(first.issued ?? '', session(1), next)
    expect([later.key === first.key, later.issued === undefined]).toEqual([false, false])
  })

  it.each<[string, Record<string, string>]>([
    ['no session', { 'subrosa-reuse': 'new' }],
    ['another form', { 'subrosa-session': session(1), 'subrosa-reuse': 'yes' }],
    ['nothing', { 'subrosa-session': session(1), 'subrosa-reuse': '' }],
    ['too few bytes', { 'subrosa-session': session(1), 'subrosa-reuse': session(1).slice(4) }],
    ['a session token of another form', { 'subrosa-session': 'x', 'subrosa-reuse': 'new' }],
  ])('is refused with %s', async (_, headers) => {
    const worker = await testWorker(sessions)
    expect((await ask(worker, headers)).status).toBe(400)
    expect(worker.engine.calls).toHaveLength(0)
  })

  it('is nobody’s who did not ask, and nobody’s at a worker that attests isolation request', async () => {
    const asked = { 'subrosa-session': session(1), 'subrosa-reuse': 'new' }
    for (const [worker, headers] of [
      [await testWorker(sessions), { 'subrosa-session': session(1) }],
      [await testWorker(sessions), {}],
      [await testWorker(), asked],
      [await testWorker({ worker: { isolation: 'request' } }), asked],
    ] as const) {
      const answer = await ask(worker, headers)
      expect([answer.status, answer.issued, answer.key]).toEqual([200, null, undefined])
    }
  })

  it('is attested, and committed to by the host configuration', async () => {
    const [session, request] = await Promise.all([testWorker(sessions), testWorker()])
    const isolationOf = async ({ worker }: TestWorker) => (await fetchBundle(worker)).claims.statement.serving.isolation
    expect([await isolationOf(session), await isolationOf(request)]).toEqual(['session', 'request'])
    expect(session.platform.hostData).not.toEqual(request.platform.hostData)
    const { platform } = request
    await expect(testWorker({ worker: { isolation: 'session', platform } })).rejects.toMatchObject({
      code: 'worker.host-data',
    })
  })

  it('is told inside the encryption, and by no metric or log', async () => {
    const worker = await testWorker({ ...sessions, engine: stubEngine({ cachedTokens: 3 }) })
    const asked = { 'subrosa-session': session(1), 'subrosa-reuse': 'new' }
    const usageOf = async (body: object): Promise<object> => JSON.parse((await ask(worker, asked, body)).text).usage
    expect(await usageOf(HELLO)).toEqual({
      prompt_tokens: 5,
      completion_tokens: 5,
      total_tokens: 10,
      prompt_tokens_details: { cached_tokens: 3 },
    })
    // A prompt counts once, however many answers it gets.
    expect(await usageOf({ ...HELLO, n: 3 })).toMatchObject({ prompt_tokens_details: { cached_tokens: 3 } })
    const { text } = await ask(worker, asked, { ...HELLO, stream: true, stream_options: { include_usage: true } })
    expect(JSON.parse(eventsOf(text).at(-2) ?? '{}').usage).toMatchObject({
      prompt_tokens_details: { cached_tokens: 3 },
    })
    worker.clock.at = new Date(worker.clock.at.getTime() + 120_000)
    const metrics = await (await worker.worker.fetch(new Request('http://worker.example/metrics'))).text()
    expect([...worker.lines, metrics].join('\n')).not.toMatch(/cache|reuse/i)
  })
})

/** A conversation that goes on: with a session, at a worker that attests isolation `session`, faster and the same. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect, type PolicyDocument, type WorkerSession } from '../../client/node.js'
import { policyFor, type RunningWorker, startWorker } from '../support/worker.js'

let worker: RunningWorker
let plain: RunningWorker
let policy: PolicyDocument

beforeAll(async () => {
  ;[worker, plain] = await Promise.all([startWorker({ isolation: 'session' }), startWorker()])
  policy = await policyFor(worker, plain)
})
afterAll(() => Promise.all([worker.close(), plain.close()]))

type Message = { role: 'user' | 'assistant'; content: string }

async function ask(session: WorkerSession, messages: readonly Message[]): Promise<{ content: string; cached: number }> {
  const response = await session.fetch(`${session.baseURL}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: worker.model.id, messages, temperature: 0, max_tokens: 40, logprobs: true }),
  })
  const { choices, usage } = await response.json()
  const { message, logprobs } = choices[0]
  expect((await session.receipt(response)).verdict).toBe('accepted')
  return { content: JSON.stringify([message, logprobs]), cached: usage.prompt_tokens_details.cached_tokens }
}

const FIRST: Message[] = [{ role: 'user', content: 'What is a receipt, and who can read my prompt?' }]
const SECOND: Message[] = [...FIRST, { role: 'assistant', content: 'A receipt.' }, { role: 'user', content: 'Hello!' }]

describe('a session', () => {
  it('goes on behind what was computed of its prompts, with the same answers to the last bit', async () => {
    const session = await connect(worker.url, { policy, session: true })
    const cold = await connect(plain.url, { policy, session: true })
    const answers = [await ask(session, FIRST), await ask(session, SECOND), await ask(session, FIRST)]
    expect(answers.map(({ cached }) => cached > 0)).toEqual([false, true, true])
    for (const [i, messages] of [FIRST, SECOND, FIRST].entries()) {
      expect(await ask(cold, messages)).toEqual({ content: answers[i]?.content, cached: 0 })
    }
  })

  it('is never helped by another, nor by requests without one', async () => {
    const mine = await connect(worker.url, { policy, session: true })
    await ask(mine, SECOND)
    for (const options of [{ session: true }, {}]) {
      const other = await connect(worker.url, { policy, ...options })
      expect([(await ask(other, SECOND)).cached, (await ask(other, FIRST)).cached > 0]).toEqual([
        0,
        'session' in options,
      ])
    }
    expect((await ask(mine, SECOND)).cached).toBeGreaterThan(0)
  })

  it('goes on under the first token when several requests begin it at once', async () => {
    const session = await connect(worker.url, { policy, session: true })
    await Promise.all([1, 2, 3].map((i) => ask(session, [{ role: 'user', content: `Count to ${i}.` }])))
    await ask(session, FIRST)
    expect((await ask(session, FIRST)).cached).toBeGreaterThan(0)
  })

  it('is refused by a policy that wants every request on its own', async () => {
    const strict: PolicyDocument = { ...policy, serving: { isolation: ['request'] } }
    await expect(connect(worker.url, { policy: strict, session: true })).rejects.toMatchObject({
      code: 'client.not-trusted',
    })
    await connect(plain.url, { policy: strict, session: true })
  })
})

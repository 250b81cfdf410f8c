/** What a pool hands out: a worker whose proof holds now, on the caller's clock, or none. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type PolicyDocument, UnprovenError, type WorkerSession } from '../../client/index.js'
import { connect } from '../../client/node.js'
import { inOrder, NoWorkerError, WorkerPool } from '../../client/worker-pool.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { MODEL, stubEngine } from '../enclave/stub.js'
import { relayingEvidence } from '../support/impostors.js'
import { policyFor, type RunningWorker, startWorker } from '../support/worker.js'

let worker: RunningWorker
let policy: PolicyDocument

beforeAll(async () => {
  worker = await startWorker({ engine: { engine: stubEngine(), model: MODEL } })
  policy = { ...(await policyFor(worker)), model: { digests: [toHex(MODEL.weightsRoot)] } }
})
afterAll(() => worker.close())

it('hands out nothing from the instant at which the evidence ends', async () => {
  let aheadMs = 0
  const clock = () => new Date(Date.now() + aheadMs)
  const pool = new WorkerPool(
    inOrder([worker.url], (url) => connect(url, { policy, now: clock })),
    clock,
  )
  const { session } = await pool.acquire()
  const until = session.worker.validUntil.getTime()
  aheadMs = until - Date.now() - 60_000
  expect(pool.held?.session).toBe(session)
  aheadMs = until - Date.now()
  expect(pool.held).toBeUndefined()
  // To the caller's clock, everything that worker could show now is over too.
  aheadMs += 24 * 3600_000
  await expect(pool.acquire()).rejects.toBeInstanceOf(NoWorkerError)
  expect(pool.held).toBeUndefined()
  expect(pool.failures).toHaveLength(1)
  aheadMs = 0
  expect((await pool.acquire()).session.worker.validUntil.getTime()).toBeGreaterThan(Date.now())
  pool.close()
})

/** Two workers that answer with this status; of the first one's answers the request was sealed so often. */
async function offered(status: number, sealedOnce: boolean): Promise<readonly string[]> {
  const asked: string[] = []
  const sessionOf = (url: string) => ({
    baseURL: `${url}/v1`,
    fetch: async (target: string) => {
      asked.push(target)
      return new Response('', { status: url.includes('first') ? status : 200 })
    },
    sealedOnce: () => sealedOnce,
    ready: async () => undefined,
    close: () => undefined,
  })
  const urls = ['https://first.example.net', 'https://second.example.net']
  const pool = new WorkerPool({
    size: urls.length,
    async find(without) {
      const url = urls.find((one) => !without.has(one))
      if (url === undefined) throw new NoWorkerError([])
      return { worker: { url, session: sessionOf(url) as unknown as WorkerSession }, failures: [] }
    },
    close: () => undefined,
  })
  await pool.send('/models', { method: 'GET' })
  pool.close()
  return asked.map((target) => new URL(target).host.split('.')[0] ?? '')
}

it.each([
  [429, true, ['first', 'second']],
  [503, true, ['first', 'second']],
  // A refusal of what was sealed a second time says nothing of the first.
  [429, false, ['first']],
  [503, false, ['first']],
  ...[200, 400, 401, 404, 409, 500, 502, 504].map((status): [number, boolean, string[]] => [status, true, ['first']]),
])('an answer of %i to a request sealed once (%s) goes to %o (P-15.11)', async (status, once, workers) => {
  expect(await offered(status, once)).toEqual(workers)
})

it('leaves a worker that does not prove itself for the next, and says that it did not where there is none (P-15.11)', async () => {
  const impostor = await relayingEvidence(worker.url)
  const body = JSON.stringify({ model: MODEL.id, messages: [{ role: 'user', content: 'x' }] })
  const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body }
  const pool = new WorkerPool(inOrder([impostor.url, worker.url], (url) => connect(url, { policy })))
  const { worker: served, answer } = await pool.send('/chat/completions', init)
  expect([served.url, answer.status]).toEqual([worker.url, 200])
  await answer.text()
  pool.close()
  for (const others of [[], ['http://127.0.0.1:1']]) {
    const alone = new WorkerPool(inOrder([impostor.url, ...others], (url) => connect(url, { policy })))
    await expect(alone.send('/chat/completions', init)).rejects.toBeInstanceOf(UnprovenError)
    alone.close()
  }
  await impostor.close()
})

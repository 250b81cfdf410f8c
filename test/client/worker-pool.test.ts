/** What a pool hands out: a worker whose proof holds now, on the caller's clock, or none. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { PolicyDocument } from '../../client/index.js'
import { inOrder, NoWorkerError, WorkerPool } from '../../client/worker-pool.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { MODEL, stubEngine } from '../enclave/stub.js'
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
  const pool = new WorkerPool(inOrder([worker.url], { policy, now: clock }), clock)
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

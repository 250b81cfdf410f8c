/** `connect(url, { session: true })`: the receipts of one session form a chain that an auditor can check. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect, type PolicyDocument, type ReceivedReceipt, type WorkerSession } from '../../client/node.js'
import { verifyReceipts } from '../../verifier/receipt-chain.js'
import { policyFor, type RunningWorker, startWorker } from '../support/worker.js'

let worker: RunningWorker
let policy: PolicyDocument

beforeAll(async () => {
  worker = await startWorker()
  policy = await policyFor(worker)
})
afterAll(() => worker.close())

async function ask(session: WorkerSession, headers: Record<string, string> = {}): Promise<Response> {
  return session.fetch(`${session.baseURL}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({
      model: worker.model.id,
      messages: [{ role: 'user', content: 'Count to 3.' }],
      max_tokens: 8,
      stream: true,
    }),
  })
}

async function receiptOf(session: WorkerSession): Promise<ReceivedReceipt> {
  const response = await ask(session)
  await response.text()
  return session.receipt(response)
}

describe('a session', () => {
  it('chains its receipts, and only its own', async () => {
    const session = await connect(worker.url, { policy, session: true })
    const other = await connect(worker.url, { policy, session: true })
    const receipts: ReceivedReceipt[] = []
    for (let i = 0; i < 3; i++) {
      receipts.push(await receiptOf(session))
      expect((await receiptOf(other)).payload?.session).not.toBe(receipts[0]?.payload?.session)
    }
    expect(receipts.map(({ payload }) => payload?.seq)).toEqual([0, 1, 2])
    const { statement, statementDigest } = session.worker
    const context = {
      receiptKey: new Uint8Array(statement.keys.receipt),
      statementDigest,
      weightsRoot: new Uint8Array(statement.model.weightsRoot),
    }
    const jwss = receipts.map(({ jws }) => jws)
    const verdicts = (list: string[]) => verifyReceipts(list, context).then((all) => all.map(({ verdict }) => verdict))
    expect(await verdicts(jwss)).toEqual(['accepted', 'accepted', 'accepted'])
    expect(await verdicts([jwss[0]!, jwss[2]!])).toEqual(['accepted', 'rejected'])
  })

  it('does not, unless asked to', async () => {
    const session = await connect(worker.url, { policy })
    expect((await receiptOf(session)).payload).toMatchObject({ session: null, seq: null, prev: null })
  })

  it('sends each request under a key of its own, or under the caller’s', async () => {
    const session = await connect(worker.url, { policy })
    const key = crypto.randomUUID()
    const statuses: number[] = []
    for (const headers of [{}, {}, { 'idempotency-key': key }, { 'idempotency-key': key }]) {
      const response = await ask(session, headers as Record<string, string>)
      await response.text()
      statuses.push(response.status)
    }
    expect(statuses).toEqual([200, 200, 200, 409])
  })
})

/** Leaving without dropping anybody: an upgrade takes new prompts elsewhere and lets running answers end. */
import { describe, expect, it } from 'vitest'
import { createDrain } from '../../enclave/drain.js'
import { serve } from '../../enclave/serve.js'
import { sealedTo } from '../support/worker.js'
import { chatRequest, eventsOf, MODEL, stubEngine } from './stub.js'

describe('a drain', () => {
  it('ends when the last answer does, and lets nobody in from its start', async () => {
    const drain = createDrain()
    const leave = [drain.enter(), drain.enter()]
    let ended: boolean | undefined
    const waiting = drain.drain(60_000).then((all) => {
      ended = all
    })
    expect(drain.enter()).toBeUndefined()
    leave[0]?.()
    leave[0]?.()
    await Promise.resolve()
    expect(ended).toBeUndefined()
    leave[1]?.()
    await waiting
    expect(ended).toBe(true)
    expect(drain.draining()).toBe(true)
  })

  it('has nothing to wait for where nothing is answered, and says when it waited in vain', async () => {
    expect(await createDrain().drain(0)).toBe(true)
    const drain = createDrain()
    drain.enter()
    expect(await drain.drain(1)).toBe(false)
  })
})

describe('an upgrade', () => {
  it('drops no stream: it ends whole with its receipt, while new prompts are turned away unread', async () => {
    let release: (() => void) | undefined
    const gate = new Promise<void>((resolve) => {
      release = resolve
    })
    let steps = 0
    const worker = await serve({
      simulated: true,
      port: 0,
      writeLog: () => undefined,
      simulatedGpus: 0,
      engine: { engine: stubEngine({ step: () => (steps++ < 2 ? Promise.resolve() : gate) }), model: MODEL },
    })
    const send = await sealedTo(worker)
    const ask = () =>
      send(chatRequest(JSON.stringify({ model: MODEL.id, messages: [{ role: 'user', content: 'x' }], stream: true })))
    const { response, trailers } = await ask()
    const drained = worker.drain(60_000)
    const ready = await fetch(`${worker.url}/readyz`)
    expect(ready.status).toBe(503)
    const refused = await fetch(`${worker.url}/ohttp`, { method: 'POST', body: 'a sealed prompt' })
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
    await expect(ask()).rejects.toMatchObject({ code: 'transport.refused' })
    // Whoever verifies now still can: the answer in progress refers to this evidence.
    expect((await fetch(`${worker.url}/.well-known/attestation`)).status).toBe(200)
    release?.()
    const events = eventsOf(await response.text())
    expect(events.at(-1)).toBe('[DONE]')
    expect((await trailers).get('subrosa-receipt')).toBeTruthy()
    expect(await drained).toBe(true)
    await worker.close()
  })
})

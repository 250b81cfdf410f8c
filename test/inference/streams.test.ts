/** Sixteen answers at once, with neighbours that come, leave and bring long prompts: each is what it would be alone. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Engine, EngineEvent, GenerateOptions } from '../../enclave/inference/engine.js'
import { createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage } from '../../enclave/inference/package.js'
import { randomPackage, SMALL } from '../../scripts/bench/random-model.js'
import { BINDINGS, collect, GREEDY, PACKAGE_DIRECTORY } from './model.js'

const STREAMS = 16

/** Prompts of odd lengths, every other one sampled. */
const requests = Array.from({ length: STREAMS }, (_, i) => ({
  prompt: Array.from({ length: 3 + ((i * 13) % 90) }, (_, at) => 5 + ((i * 37 + at * 11) % 700)),
  options: {
    ...GREEDY,
    maxTokens: 6 + (i % 7),
    ...(i % 2 === 0 ? {} : { temperature: 1.1, topP: 0.9, seed: i }),
  } satisfies GenerateOptions,
}))

const MODELS = [
  { name: 'the demo model', load: () => loadModelPackage(PACKAGE_DIRECTORY) },
  { name: 'random weights, pr8', load: () => randomPackage(SMALL, 'pr8') },
]

describe.skipIf(!BINDINGS.includes('native')).each(MODELS)('sixteen streams of $name', ({ load }) => {
  let engine: Engine
  beforeAll(async () => {
    engine = await createOrtEngine(await load(), { binding: 'native', slots: STREAMS })
  })
  afterAll(() => engine.close())

  const answer = (i: number): Promise<EngineEvent[]> => {
    const request = requests[i]
    if (request === undefined) throw new RangeError(`no request ${i}`)
    return collect(engine.generate(request.prompt, request.options))
  }

  it('get the answers they would get alone', async () => {
    const alone: EngineEvent[][] = []
    for (const i of requests.keys()) alone.push(await answer(i))
    expect(await Promise.all([...requests.keys()].map(answer))).toEqual(alone)

    // Once more, later ones waiting for slots that others hold and leave.
    const leave = new AbortController()
    const long = Array.from({ length: 300 }, (_, at) => 5 + (at % 700))
    const guests = Array.from({ length: 5 }, () =>
      collect(engine.generate(long, { ...GREEDY, maxTokens: 100, signal: leave.signal })).catch(() => undefined),
    )
    const again = [...requests.keys()].reverse().map(async (i) => {
      const events = await answer(i)
      if (i === STREAMS / 2) leave.abort()
      return [i, events] as const
    })
    for (const [i, events] of await Promise.all(again)) expect(events).toEqual(alone[i])
    await Promise.all(guests)
  })
})

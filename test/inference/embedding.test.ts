/** Embeddings by the engine itself: what they are made of, and that nothing else moves them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Engine } from '../../enclave/inference/engine.js'
import { createDecoder, createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage, type ModelPackage } from '../../enclave/inference/package.js'
import { ask, BINDINGS, PACKAGE_DIRECTORY } from './model.js'

const TEXTS = ['A short text', 'What a receipt is, and what it is for', 'rose', 'word '.repeat(150)]

describe.each(BINDINGS)('%s binding', (binding) => {
  let modelPackage: ModelPackage
  let engine: Engine
  const embed = async (text: string, options = {}): Promise<Float32Array> =>
    engine.embed?.(await engine.tokenizeText(text), options) ?? Promise.reject(new Error('no embeddings'))

  beforeAll(async () => {
    modelPackage = await loadModelPackage(PACKAGE_DIRECTORY)
    engine = await createOrtEngine(modelPackage, { binding })
  })
  afterAll(() => engine.close())

  it('have the model’s size and length 1, and tell texts apart', async () => {
    const all = await Promise.all(TEXTS.map((text) => embed(text)))
    for (const values of all) {
      expect(values).toHaveLength(modelPackage.manifest.architecture.hiddenSize)
      expect(Math.hypot(...values)).toBeCloseTo(1, 5)
    }
    const [first, second] = all
    expect(first).not.toEqual(second)
  })

  it('are the state behind the last token, however the text was cut', async () => {
    const { decoder } = await createDecoder(modelPackage, { binding })
    const tokens = await engine.tokenizeText(TEXTS[1] ?? '')
    await decoder.prefill(0, tokens.slice(0, 5))
    const state = (await decoder.embed?.(0, tokens.slice(5)))?.slice() ?? new Float32Array()
    await decoder.close()
    const length = Math.hypot(...state)
    expect(await embed(TEXTS[1] ?? '')).toEqual(state.map((value) => value / length))
  })

  it('are the same to the last bit in any company, and leave it as it is', async () => {
    const alone: Float32Array[] = []
    for (const text of TEXTS) alone.push(await embed(text))
    const chat = await ask(engine, 'What is a receipt?')
    const [again, ...together] = await Promise.all([
      ask(engine, 'What is a receipt?'),
      ...TEXTS.map((text) => embed(text)),
    ])
    expect(together).toEqual(alone)
    expect(again).toEqual(chat)
  })

  it('end when they are no longer wanted, and are refused when they do not fit', async () => {
    await expect(embed('x', { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'aborted' })
    const long = new Array<number>(engine.info.contextLength + 1).fill(5)
    await expect(engine.embed?.(long, {})).rejects.toMatchObject({ code: 'context.overflow' })
    await expect(engine.embed?.([], {})).rejects.toMatchObject({ code: 'options.invalid' })
  })
})

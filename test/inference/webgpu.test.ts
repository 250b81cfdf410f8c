/**
 * The engine on the WebGPU provider, on a Vulkan device in software: logits and answers are those of the CPU within a
 * tolerance, a package it cannot compute whole is refused, and nothing is promised about bits.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect } from '../../client/index.js'
import type { Engine } from '../../enclave/inference/engine.js'
import { findDeviceLibrary } from '../../enclave/inference/ort/device-library.js'
import { createDecoder, createOrtEngine, describeOrtEngine } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage, type ModelPackage } from '../../enclave/inference/package.js'
import { serve } from '../../enclave/serve.js'
import { randomPackage, SMALL } from '../../scripts/bench/random-model.js'
import { SIMULATED_LAUNCH_DIGEST } from '../../scripts/simulated/snp-platform.js'
import { parseBundle } from '../../verifier/protocol/bundle.js'
import { toBase64Url, toHex } from '../../verifier/protocol/bytes.js'
import { parseClaims } from '../../verifier/protocol/statement.js'
import { chooseVulkanDevice } from '../support/vulkan.js'
import { ask, collect, GREEDY, loadReference, PACKAGE_DIRECTORY, textOf } from './model.js'

const library = await findDeviceLibrary('webgpu')
const lacking = library === undefined ? 'no library of the runtime is known for this machine' : chooseVulkanDevice()
const PROMPT = Array.from({ length: 50 }, (_, i) => (i * 89 + 7) % 256)
const SHAPE = { ...SMALL, layers: 1, vocabularySize: 256, contextLength: 64 }

describe.skipIf(lacking !== undefined)(`webgpu${lacking === undefined ? '' : `, skipped: ${lacking}`}`, () => {
  let modelPackage: ModelPackage
  // One for all: the device's programs are compiled for the first, and kept while it is open.
  let engine: Engine

  beforeAll(async () => {
    modelPackage = await loadModelPackage(PACKAGE_DIRECTORY)
    engine = await createOrtEngine(modelPackage, { device: 'webgpu', slots: 2 })
  })

  afterAll(() => engine.close())

  it('says where it computes, and promises nothing about bits', async () => {
    expect(engine.info).toMatchObject({
      name: 'onnxruntime-node',
      build: `webgpu, sha256:${library?.sha256}`,
      determinism: 'none',
    })
    expect(await describeOrtEngine(modelPackage.manifest, 'webgpu')).toEqual(engine.info)
  })

  it('gives the reference logits', async () => {
    const { logits, tolerance } = await loadReference()
    const { decoder } = await createDecoder(modelPackage, { device: 'webgpu', slots: 2 })
    for (const [slot, { promptIds, nextIds, rows }] of logits.slice(0, 2).entries()) {
      const got = [(await decoder.prefill(slot, promptIds)).slice()]
      for (const tokenId of nextIds.slice(0, 3)) {
        got.push((await decoder.decode([{ slot, tokenId }]))[0]?.slice() ?? new Float32Array())
      }
      expect(got.map(({ length }) => length)).toEqual(got.map(() => rows[0]?.length))
      for (const [i, row] of got.entries()) expect(farthest(row, rows[i])).toBeLessThanOrEqual(tolerance)
    }
    await decoder.close()
  })

  it('gives the greedy answer of the reference', async () => {
    const { transcripts } = await loadReference()
    const [shortest] = [...transcripts].sort((a, b) => a.answerIds.length - b.answerIds.length)
    if (shortest === undefined) throw new Error('no transcripts')
    const prompt = await engine.tokenizeChat(shortest.messages)
    expect(textOf(await collect(engine.generate(prompt, GREEDY)))).toBe(shortest.answer)
  })

  it('answers those that run together each for itself, and ends one whose caller left', async () => {
    const few = { maxTokens: 4 }
    const alone = [textOf(await ask(engine, 'Hello!', few)), textOf(await ask(engine, 'What is TDX?', few))]
    expect(new Set(alone).size).toBe(2)
    const leaving = new AbortController()
    const left = ask(engine, 'What is a nonce?', { signal: leaving.signal }).catch((error: unknown) => error)
    const both = Promise.all([ask(engine, 'Hello!', few), ask(engine, 'What is TDX?', few)])
    setTimeout(() => leaving.abort(), 50)
    expect((await both).map(textOf)).toEqual(alone)
    expect(await left).toMatchObject({ code: 'aborted' })
  })

  it.each([
    ['fp32', SHAPE],
    ['fp32', { ...SHAPE, ropeInterleaved: true }],
    ['fp32', { ...SHAPE, attentionBias: true, headNorms: true, tiedEmbeddings: false }],
    ['int4', SHAPE],
  ] as const)('computes a graph of format %s whole, near the CPU (%#)', async (format, shape) => {
    const random = await randomPackage(shape, format)
    const rows = await Promise.all(
      (['cpu', 'webgpu'] as const).map(async (device) => {
        const { decoder } = await createDecoder(random, { device, threads: 1, slots: 1 })
        await decoder.prefill(0, PROMPT.slice(0, 32))
        const prefilled = (await decoder.prefill(0, PROMPT.slice(32))).slice()
        const decoded = (await decoder.decode([{ slot: 0, tokenId: 7 }]))[0]?.slice() ?? new Float32Array()
        await decoder.close()
        return [...prefilled, ...decoded]
      }),
    )
    // The CPU takes the inputs of products with four bits in eight, which the device does not.
    expect(farthest(rows[1], rows[0])).toBeLessThan(format === 'fp32' ? 1e-4 : 0.2)
  })

  it.each([
    ['pr8', undefined, 'package.unusable'],
    ['fp32', [{ key: 0.04, value: 0.03 }], 'device.unavailable'],
  ] as const)('refuses what it would leave to the CPU: %s with a cache under %j', async (format, scales, code) => {
    const random = await randomPackage(SHAPE, format, 1, scales)
    await expect(createDecoder(random, { device: 'webgpu' })).rejects.toMatchObject({ code })
  })

  it('serves: the statement names the device, and receipts promise nothing about bits (P-8.7, P-8.11)', async () => {
    const worker = await serve({ simulated: true, port: 0, device: 'webgpu', writeLog: () => undefined })
    const session = await connect(worker.url, {
      policy: {
        schema: 'subrosa-policy/1',
        trustAnchors: [worker.rootsPem ?? ''],
        allowNonVendorRoot: true,
        measurements: [{ digest: toHex(SIMULATED_LAUNCH_DIGEST) }],
        model: 'any',
      },
    })
    const response = await session.fetch(`${worker.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: worker.model.id,
        messages: [{ role: 'user', content: 'Hello!' }],
        max_tokens: 2,
        prediction: { type: 'content', content: 'Hello! Hello! Hello!' },
      }),
    })
    await response.text()
    expect((await session.receipt(response)).payload?.determinism).toBe('none')
    session.close()
    const bundle = await fetch(`${worker.url}/.well-known/attestation?nonce=${toBase64Url(new Uint8Array(32))}`)
    const claims = parseClaims(parseBundle(new Uint8Array(await bundle.arrayBuffer())).claims)
    expect(claims.statement.runtime.engine).toBe(`onnxruntime-node 1.30.0 (webgpu, sha256:${library?.sha256})`)
    await worker.close()
  })

  it('has no other way to the device than the library', async () => {
    await expect(createDecoder(modelPackage, { device: 'webgpu', binding: 'portable' })).rejects.toMatchObject({
      code: 'engine.failed',
    })
  })
})

function farthest(values: ArrayLike<number> = [], others: ArrayLike<number> = []): number {
  return Math.max(...Array.from(values, (value, i) => Math.abs(value - (others[i] ?? Number.NaN))))
}

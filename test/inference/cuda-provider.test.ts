/**
 * ONNX Runtime's real CUDA provider on a SIMULATED GPU that computes nothing: it takes every operator of our graphs, keys and
 * values stay in memory that the host cannot read, and only logits come back. What a GPU would compute is not looked at.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { inspectGraph } from '../../enclave/inference/graph.js'
import { loadShared } from '../../enclave/inference/ort/c-api.js'
import { findCuda } from '../../enclave/inference/ort/cuda.js'
import type { DeviceLibrary } from '../../enclave/inference/ort/device-library.js'
import { findLibrary, RUNTIME_VERSION } from '../../enclave/inference/ort/library.js'
import { createNativeDecoder, nativeRuntime } from '../../enclave/inference/ort/native-decoder.js'
import { randomPackage, SMALL } from '../../scripts/bench/random-model.js'
import type { Format } from '../../scripts/model/formats.js'
import type { Cache } from '../../scripts/model/llama-graph.js'
import { type Counts, layOutSimulatedCuda, noSimulatedCuda } from '../support/simulated-cuda.js'

const known = await findLibrary()
const lacking = known === undefined ? 'no library of the runtime is known for this machine' : noSimulatedCuda
const SHAPE = { ...SMALL, layers: 2, vocabularySize: 256, contextLength: 64 }
const QWEN = { ...SHAPE, attentionBias: true, headNorms: true }

describe.skipIf(lacking !== undefined)(
  `the CUDA provider${lacking === undefined ? '' : `, skipped: ${lacking}`}`,
  () => {
    let directory: string
    let library: DeviceLibrary
    let counts: () => Counts

    beforeAll(async () => {
      if (known === undefined) return
      directory = await mkdtemp(join(tmpdir(), 'simulated-cuda-'))
      counts = layOutSimulatedCuda(directory, known.path)
      const providers = await findCuda(directory, RUNTIME_VERSION, {
        load: loadShared,
        devices: () => ['nvidiactl', 'nvidia-uvm', 'nvidia0'],
      })
      library = { ...known, path: join(directory, 'libonnxruntime.so.1'), device: 'cuda', providers }
    })

    afterAll(() => rm(directory, { recursive: true }))

    it('is named by its digests', () => {
      expect(nativeRuntime(library).build).toMatch(
        /^cuda, sha256:[0-9a-f]{64}, shared sha256:[0-9a-f]{64}, cuda sha256:/,
      )
    })

    it.each([
      ['fp16', SHAPE],
      ['int4', SHAPE],
      ['int8', SHAPE],
      ['fp32', QWEN],
      ['fp16', QWEN],
    ] as const)('takes a graph of format %s whole, and gives back logits alone (%#)', async (format, shape) => {
      const modelPackage = await randomPackage(shape, format, 1, 'fp16')
      const options = { graph: inspectGraph(modelPackage), threads: 1, slots: 4, slotTokens: 64, maxRows: 4 }
      const decoder = await createNativeDecoder(modelPackage, library, options)
      const rowBytes = shape.vocabularySize * Float32Array.BYTES_PER_ELEMENT
      const before = counts()
      const rowsBack = (): number => (counts().bytesToHost - before.bytesToHost) / rowBytes
      expect(await decoder.prefill(1, [1, 2, 3])).toHaveLength(shape.vocabularySize)
      expect(rowsBack()).toBe(1)
      // Slots 1 to 3, of which the one between takes no part.
      const rows = [1, 3].map((slot) => ({ slot, tokenId: 4 }))
      expect(await decoder.decode(rows)).toHaveLength(2)
      expect(rowsBack()).toBe(1 + 3)
      expect(counts().launches - before.launches).toBeGreaterThan(2 * shape.layers)
      await decoder.clear(1)
      await decoder.close()
      expect(rowsBack()).toBe(1 + 3)
    })

    it.each<readonly [Format, Cache]>([
      ['fp32', 'fp32'],
      ['pr8', 'fp16'],
    ])('does not take format %s with keys and values in %s whole, and is not let fall back', async (format, cache) => {
      const modelPackage = await randomPackage(SHAPE, format, 1, cache)
      const options = { graph: inspectGraph(modelPackage), threads: 1, slots: 1, slotTokens: 64, maxRows: 1 }
      await expect(createNativeDecoder(modelPackage, library, options)).rejects.toMatchObject({
        code: 'package.unusable',
      })
    })
  },
)

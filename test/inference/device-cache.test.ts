/**
 * Keys and values in memory of a device, as CUDA's is: buffers with addresses inside. The memory here is this process's, under
 * the name and by the ways of a device's; test/inference/webgpu.test.ts runs the other kind on a device.
 */
import { describe, expect, it } from 'vitest'
import { inspectGraph } from '../../enclave/inference/graph.js'
import { loadRuntime } from '../../enclave/inference/ort/c-api.js'
import { createDeviceCache } from '../../enclave/inference/ort/device-cache.js'
import { findDeviceLibrary } from '../../enclave/inference/ort/device-library.js'
import { createNativeDecoder } from '../../enclave/inference/ort/native-decoder.js'
import type { Provider } from '../../enclave/inference/ort/provider.js'
import { bindTensor, createSession } from '../../enclave/inference/ort/session.js'
import { randomPackage, SMALL } from '../../scripts/bench/random-model.js'
import { createGraphBuilder } from '../../scripts/model/graph-builder.js'

const library = await findDeviceLibrary('cpu')
const SHAPE = { ...SMALL, layers: 1, vocabularySize: 256, contextLength: 64 }
const MEMORY = (addressable: boolean): Provider => ({ memory: 'Cpu', addressable, append: () => undefined })

describe.skipIf(library === undefined)('memory of a device', () => {
  it.each([
    [true, 4],
    [false, 1],
  ])(
    'with addresses inside of buffers (%s) gives to the last bit what plain memory gives',
    async (addressable, maxRows) => {
      if (library === undefined) return
      const modelPackage = await randomPackage(SHAPE, 'fp32')
      const options = { graph: inspectGraph(modelPackage), threads: 1, slots: 4, slotTokens: 64, maxRows }
      const [plain, device] = await Promise.all(
        [undefined, MEMORY(addressable)].map(async (provider) => {
          const decoder = await createNativeDecoder(modelPackage, library, options, provider)
          const logits: Float32Array[] = []
          for (const slot of [0, 2, 3]) logits.push((await decoder.prefill(slot, [slot + 1, 7, 9])).slice())
          for (const slots of addressable
            ? [
                [2, 3],
                [0, 2, 3],
              ]
            : [[2], [3], [0]]) {
            const rows = slots.map((slot) => ({ slot, tokenId: 11 + slot }))
            for (const row of await decoder.decode(rows)) logits.push(row.slice())
          }
          await decoder.clear(2)
          logits.push((await decoder.prefill(2, [5, 5])).slice())
          await decoder.close()
          return logits
        }),
      )
      expect(device).toEqual(plain)
    },
  )

  it.each([true, false])('is zero before anyone has it, and once it is cleared (%s)', async (addressable) => {
    if (library === undefined) return
    const runtime = loadRuntime(library)
    const shape = { caches: 2, type: 'float32', slots: 2, kvHeads: 1, slotTokens: 8, headSize: 4 } as const
    const dimensions = [1, 1, 8, 4]
    const graph = createGraphBuilder('copy', { write: () => Promise.reject(new Error('not used')) })
    graph.input('from', 'float', dimensions)
    graph.output('to', 'float', dimensions)
    graph.nodeWith('Identity', ['from'], ['to'])
    const provider = MEMORY(addressable)
    const session = createSession(runtime, {
      graph: graph.finish(),
      weights: new Map(),
      threads: 1,
      inputNames: ['from'],
      outputNames: ['to'],
      provider,
    })
    const cache = await createDeviceCache(runtime, session, provider, shape)
    const read = async (slot: number): Promise<number[][]> => {
      const all: number[][] = []
      for (const tensor of cache.range(slot, 1)) {
        const values = new Float32Array(32).fill(9)
        const to = bindTensor(runtime, 'float32', values, dimensions)
        await session.run([tensor], [to])
        to.release()
        all.push([...values])
      }
      return all
    }
    const filled = (value: number): number[][] => [new Array(32).fill(value), new Array(32).fill(value)]
    expect([await read(0), await read(1)]).toEqual([filled(0), filled(0)])
    const ones = bindTensor(runtime, 'float32', new Float32Array(32).fill(1), dimensions)
    for (const slot of [0, 1]) for (const tensor of cache.range(slot, 1)) await session.run([ones], [tensor])
    await cache.clear(1, 0, 3)
    expect([await read(0), await read(1)]).toEqual([filled(1), filled(0)])
    await cache.clear(0, 3, 3)
    expect(await read(0)).toEqual(filled(1))
    await expect(cache.clear(0, 2, 3)).rejects.toThrow(RangeError)
    if (!addressable) expect(() => cache.range(0, 2)).toThrow(RangeError)
    ones.release()
    cache.close()
    session.close()
  })
})

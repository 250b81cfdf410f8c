/**
 * Keys and values in a device's memory, where they stay: a run takes them and leaves them there. Allocated through the
 * session, zeroed by a graph of one node, because memory of a device cannot be written to from here.
 */
import { EngineError } from '../errors.js'
import { CACHE_ELEMENT_BYTES, type CacheType } from '../graph.js'
import { createWireWriter, type WireWriter } from '../onnx/wire.js'
import type { Runtime } from './c-api.js'
import { type CacheMemory, type CacheShape, rememberRanges, slotDimensions } from './cache-memory.js'
import type { Provider } from './provider.js'
import {
  type BoundTensor,
  bindTensor,
  createSession,
  type DeviceTensor,
  ELEMENT_TYPES,
  type Session,
} from './session.js'

/**
 * Every slot is zero to begin with: what a device hands out may hold what others left.
 * @throws EngineError `device.unavailable` where the device does not take such values, or not so many.
 */
export async function createDeviceCache(
  runtime: Runtime,
  session: Session,
  provider: Provider,
  shape: CacheShape,
): Promise<CacheMemory> {
  const { caches, type, slots } = shape
  const allocator = session.openAllocator(provider.memory)
  const zeros = createSession(runtime, {
    graph: fillGraph(type, slotDimensions(shape, 1)),
    weights: new Map(),
    threads: 1,
    inputNames: ['value'],
    outputNames: ['filled'],
    provider,
  })
  const zero = bindTensor(runtime, type, new Uint8Array(CACHE_ELEMENT_BYTES[type]), [1])
  // One buffer for all slots where a part of a buffer can be named, and one a slot where it cannot.
  const [count, slotsEach] = provider.addressable ? [caches, slots] : [caches * slots, 1]
  const buffers: DeviceTensor[] = []
  const slotBytes = slotDimensions(shape, 1).reduce((product, size) => product * size, CACHE_ELEMENT_BYTES[type])
  const ranges = rememberRanges(slots, (first, count): readonly BoundTensor[] => {
    if (provider.addressable) {
      return buffers.map((buffer) =>
        allocator.within(buffer, type, first * slotBytes, count * slotBytes, slotDimensions(shape, count)),
      )
    }
    if (count !== 1) throw new RangeError('a run over this memory has one row')
    // They are released as buffers.
    return buffers
      .slice(first * caches, (first + 1) * caches)
      .map((buffer) => ({ ...buffer, release: () => undefined }))
  })
  const clear = async (slot: number): Promise<void> => {
    for (const tensor of ranges.range(slot, 1)) await zeros.run([zero], [tensor])
  }
  const close = (): void => {
    ranges.release()
    for (const buffer of buffers) buffer.release()
    zero.release()
    zeros.close()
    allocator.close()
  }
  try {
    while (buffers.length < count) buffers.push(allocator.allocate(type, slotDimensions(shape, slotsEach)))
    for (let slot = 0; slot < slots; slot++) await clear(slot)
  } catch (cause) {
    close()
    const reason = cause instanceof Error ? `: ${cause.message}` : ''
    throw new EngineError(
      'device.unavailable',
      `the device does not keep ${slots} slots of this package’s ${type}${reason}`,
      { cause },
    )
  }

  return {
    range: ranges.range,
    async clear(slot, from, to) {
      if (to <= from) return
      // Nobody keeps a part of a slot here: kept prompts and verified answers are of batch-invariant engines.
      if (from !== 0) throw new RangeError('on a device a slot is cleared whole')
      await clear(slot)
    },
    close,
  }
}

/** `filled` [dimensions] is `value` [1], everywhere. The value comes as an input: of a constant the runtime would keep a copy. */
function fillGraph(type: CacheType, dimensions: readonly number[]): Uint8Array {
  const shape = createWireWriter()
    .int(1, dimensions.length)
    .int(2, ELEMENT_TYPES.int64)
    .bytes(8, 'shape')
    .bytes(9, new Uint8Array(BigInt64Array.from(dimensions, BigInt).buffer))
  const node = createWireWriter().bytes(1, 'value').bytes(1, 'shape').bytes(2, 'filled').bytes(4, 'Expand')
  const graph = createWireWriter()
    .message(1, node)
    .bytes(2, 'fill')
    .message(5, shape)
    .message(11, tensorInfo('value', type, [1]))
    .message(12, tensorInfo('filled', type, dimensions))
  return createWireWriter()
    .int(1, IR_VERSION)
    .message(7, graph)
    .message(8, createWireWriter().bytes(1, '').int(2, STANDARD_OPSET))
    .finish()
}

/** ValueInfoProto of a tensor. */
function tensorInfo(name: string, type: CacheType, dimensions: readonly number[]): WireWriter {
  const shape = createWireWriter()
  for (const dimension of dimensions) shape.message(1, createWireWriter().int(1, dimension))
  const tensorType = createWireWriter().int(1, ELEMENT_TYPES[type]).message(2, shape)
  return createWireWriter().bytes(1, name).message(2, createWireWriter().message(1, tensorType))
}

const IR_VERSION = 10
const STANDARD_OPSET = 21

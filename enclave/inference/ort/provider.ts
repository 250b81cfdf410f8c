/**
 * Execution providers of the runtime: how a session is made to compute on a device, and what its memory is called. The CPU
 * is none of them, because the runtime computes there without being asked.
 */
import type { Device } from '../device.js'
import { EngineError } from '../errors.js'
import { bindNames, created, type Handle, type Runtime } from './c-api.js'

export interface Provider {
  /** What the runtime calls the device's memory. */
  readonly memory: string
  /**
   * Whether an address inside a buffer of the device is a buffer too. Where it is not, each slot has buffers of its own, and
   * a run has one row.
   */
  readonly addressable: boolean
  /** Makes sessions of these options compute on the device, all of their operators. @throws EngineError `device.unavailable`. */
  append(runtime: Runtime, sessionOptions: Handle): void
}

/** Undefined for the CPU. */
export function providerFor(device: Device): Provider | undefined {
  switch (device) {
    case 'cpu':
      return undefined
    case 'cuda':
      return { memory: 'Cuda', addressable: true, append: appendCuda }
    case 'webgpu':
      return { memory: 'WebGPU_Buffer', addressable: false, append: appendWebGpu }
  }
}

/** Products in full fp32 where a graph is of it, and no more memory than is asked for: the rest is for keys and values. */
const CUDA_OPTIONS = { device_id: '0', use_tf32: '0', arena_extend_strategy: 'kSameAsRequested' }

function appendCuda({ functions, check }: Runtime, sessionOptions: Handle): void {
  const options = created(check, (out) => functions.createCudaOptions(out))
  try {
    const keys = bindNames(Object.keys(CUDA_OPTIONS))
    const values = bindNames(Object.values(CUDA_OPTIONS))
    check(functions.updateCudaOptions(options, keys.pointers, values.pointers, keys.texts.length))
    check(functions.appendCuda(sessionOptions, options))
    refuseFallback({ functions, check }, sessionOptions)
  } catch (cause) {
    throw new EngineError(
      'device.unavailable',
      `device cuda: the runtime cannot load its provider: ${messageOf(cause)}`,
      { cause },
    )
  } finally {
    functions.releaseCudaOptions(options)
  }
}

function appendWebGpu({ functions, check }: Runtime, sessionOptions: Handle): void {
  try {
    check(functions.appendProvider(sessionOptions, 'WebGPU', null, null, 0))
    refuseFallback({ functions, check }, sessionOptions)
  } catch (cause) {
    throw new EngineError(
      'device.unavailable',
      'device webgpu: the runtime finds no device: it takes libvulkan.so.1 and the Vulkan driver of a GPU ' +
        `(VK_ICD_FILENAMES chooses one): ${messageOf(cause)}`,
      { cause },
    )
  }
}

/** An operator that the device lacks would move the whole cache to the CPU and back at each token, and nobody would be told. */
function refuseFallback({ functions, check }: Pick<Runtime, 'functions' | 'check'>, sessionOptions: Handle): void {
  check(functions.addConfigEntry(sessionOptions, 'session.disable_cpu_ep_fallback', '1'))
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : 'for a reason it does not give'
}

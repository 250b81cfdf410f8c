/**
 * What computing with CUDA takes on this machine, all of it looked for before the runtime is asked: the runtime itself names
 * one missing library at a time, and a wrong one by its symbols.
 *
 * The two provider libraries lie beside the runtime's own and are of its release; they are not in onnxruntime-node. Those of
 * CUDA are the ones the provider was linked with, so its own list of them is read.
 */
import { createReadStream, existsSync, readdirSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { FormatError } from '../../../verifier/protocol/errors.js'
import { EngineError } from '../errors.js'
import { loadShared } from './c-api.js'
import { neededLibraries } from './elf.js'
import { digestOf } from './library.js'

/** A library of the runtime's that computes on a device. */
export interface ProviderLibrary {
  /** `shared` is the bridge, `cuda` the kernels. */
  readonly part: 'shared' | 'cuda'
  readonly path: string
  /** 64 lower-case hexadecimal digits. */
  readonly sha256: string
}

/** How the machine is looked at; in its place in tests. */
export interface CudaProbe {
  /** Why the loader does not load a library of this name or path; undefined where it does. */
  load(nameOrPath: string): string | undefined
  /** Names in `/dev`. */
  devices(): readonly string[]
}

const PARTS = ['shared', 'cuda'] as const
const DRIVER = 'libcuda.so.1'
/** Of NVIDIA: all others a provider names are the C and C++ runtimes'. */
const NVIDIA_LIBRARY = /^lib(cu|nv)/
const DEVICE_FILES: readonly (readonly [name: string, pattern: RegExp])[] = [
  ['nvidiactl', /^nvidiactl$/],
  ['nvidia-uvm', /^nvidia-uvm$/],
  ['nvidia0', /^nvidia\d+$/],
]

/**
 * The provider libraries in `directory`, once everything they need was found and loaded.
 * @throws EngineError `device.unavailable`: one message with all that is missing, where it was looked for, and what to do.
 */
export async function findCuda(
  directory: string,
  version: string,
  probe: CudaProbe = { load: loadShared, devices: () => readdirSync('/dev') },
): Promise<readonly ProviderLibrary[]> {
  const missing: string[] = []
  const absent = PARTS.map(fileName).filter((name) => !existsSync(join(directory, name)))
  if (absent.length > 0) {
    missing.push(
      `${absent.join(' and ')}, looked for in ${directory}: put there those of ONNX Runtime ${version}, which PyPI’s onnxruntime-gpu ${version} has`,
    )
  }
  const kernels = join(directory, fileName('cuda'))
  const known = existsSync(kernels)
  if (known && !(await holdsText(kernels, version))) {
    missing.push(`${fileName('cuda')} of ONNX Runtime ${version}: the one in ${directory} is of another release`)
  }
  const needed = known ? (await namesIn(kernels)).filter((name) => NVIDIA_LIBRARY.test(name)) : []
  for (const name of new Set([...needed, DRIVER])) {
    const beside = join(directory, name)
    const reason = probe.load(existsSync(beside) ? beside : name)
    if (reason === undefined) continue
    const advice = name === DRIVER ? "install NVIDIA's driver" : 'install the CUDA release it is of'
    missing.push(
      `${name}, looked for in ${directory}, LD_LIBRARY_PATH and the system's folders: ${advice} (the loader says: ${reason})`,
    )
  }
  const devices = probe.devices()
  const files = DEVICE_FILES.filter(([, pattern]) => !devices.some((device) => pattern.test(device)))
  if (files.length > 0) {
    missing.push(
      `${files.map(([name]) => `/dev/${name}`).join(', ')}: load the driver's kernel modules, on a machine with a GPU`,
    )
  }
  if (missing.length > 0) {
    const rest = known ? '' : '; which CUDA libraries it takes is known once the provider is there'
    throw new EngineError('device.unavailable', `device cuda: missing are ${missing.join('; ')}${rest}`)
  }
  return Promise.all(
    PARTS.map(async (part) => {
      const path = join(directory, fileName(part))
      return { part, path, sha256: await digestOf(path) }
    }),
  )
}

function fileName(part: ProviderLibrary['part']): string {
  return `libonnxruntime_providers_${part}.so`
}

async function namesIn(path: string): Promise<string[]> {
  const file = await open(path)
  try {
    return await neededLibraries(file)
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause
    throw new EngineError('device.unavailable', `device cuda: ${path}: ${cause.message}: put a whole one there`, {
      cause,
    })
  } finally {
    await file.close()
  }
}

/** Whether a file holds `text` between two zero bytes, as a program keeps a string. */
async function holdsText(path: string, text: string): Promise<boolean> {
  const wanted = Buffer.from(`\0${text}\0`)
  let tail = Buffer.alloc(0)
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) {
    const bytes = Buffer.concat([tail, piece as Buffer])
    if (bytes.includes(wanted)) return true
    tail = bytes.subarray(Math.max(0, bytes.length - wanted.length))
  }
  return false
}

/**
 * Puts a SIMULATED GPU beside ONNX Runtime's real CUDA provider, in a folder of its own: `simulated-cuda.c`, and for every other
 * function that the provider names one that does nothing. Needs cc and readelf, and the folder that SUBROSA_CUDA_PROVIDER names,
 * with the two provider libraries of the runtime's release for CUDA 13.
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const SOURCE = fileURLToPath(new URL('simulated-cuda.c', import.meta.url))
const PROVIDERS = ['libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so'] as const
const RUNTIME = 'libcudart.so.13'
const COUNTS = 'counts'
const DEVICE_TO_HOST = 2
/** The provider names these too: nothing of the first, which only has to be there, and one function of the second. */
const WITHOUT_VERSIONS = { 'libcurand.so.10': [], 'libcuda.so.1': ['cuTensorMapEncodeTiled'] }

const folder = process.env['SUBROSA_CUDA_PROVIDER']

/** Why there is none here; undefined where one can be made. */
export const noSimulatedCuda: string | undefined =
  folder === undefined
    ? 'SUBROSA_CUDA_PROVIDER names no folder'
    : PROVIDERS.some((name) => !existsSync(join(folder, name)))
      ? `no provider libraries in ${folder}`
      : ['cc', 'readelf'].some((tool) => !runs(tool))
        ? 'no cc and readelf'
        : undefined

/** What was asked of the device until now. */
export interface Counts {
  readonly bytesToHost: number
  readonly launches: number
}

/** Fills an empty folder: the runtime's library, the providers, and what they need. Returns a reader of what is asked of it. */
export function layOutSimulatedCuda(directory: string, library: string): () => Counts {
  if (folder === undefined) throw new Error(noSimulatedCuda)
  const counts = join(directory, COUNTS)
  writeFileSync(counts, new BigUint64Array(9))
  copyFileSync(library, join(directory, basename(library)))
  for (const name of PROVIDERS) symlinkSync(join(folder, name), join(directory, name))
  const symbols = execFileSync('readelf', ['--wide', '--dyn-syms', join(folder, PROVIDERS[1])], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  })
  const libraries = new Map<string, Set<string>>(
    Object.entries(WITHOUT_VERSIONS).map(([name, functions]) => [name, new Set(functions)]),
  )
  for (const [, name = '', from = ''] of symbols.matchAll(/ UND (\w+)@(lib(?:cudart|cublas|cublasLt)\.so\.\d+)/g)) {
    libraries.set(from, (libraries.get(from) ?? new Set()).add(name))
  }
  for (const [name, functions] of libraries) compile(directory, name, functions)
  return () => {
    const numbers = new BigUint64Array(new Uint8Array(readFileSync(counts)).buffer)
    return { bytesToHost: Number(numbers[DEVICE_TO_HOST]), launches: Number(numbers[8]) }
  }
}

function compile(directory: string, name: string, functions: ReadonlySet<string>): void {
  const own = name === RUNTIME ? readFileSync(SOURCE, 'utf8') : ''
  const others = [...functions].filter((symbol) => !new RegExp(`\\b${symbol}\\(`).test(own))
  const source = join(directory, `${name}.c`)
  const versions = join(directory, `${name}.map`)
  writeFileSync(source, `${own}\n${others.map(doesNothing).join('\n')}\n`)
  writeFileSync(versions, `${name} { global: *; };\n`)
  const flags = [
    `-DCOUNTS="${join(directory, COUNTS)}"`,
    '-shared',
    '-fPIC',
    '-w',
    `-Wl,-soname,${name}`,
    `-Wl,--version-script=${versions}`,
  ]
  execFileSync('cc', [...flags, '-o', join(directory, name), source])
}

function doesNothing(symbol: string): string {
  // A handle, for those who ask for one and look at it; one algorithm, for those who ask which there are.
  if (/^cublas.*Create(_v2)?$/.test(symbol)) return `int ${symbol}(void **out) { *out = (void *)1; return 0; }`
  if (symbol === 'cublasLtMatmulAlgoGetHeuristic') {
    return `int ${symbol}(void *a, void *b, void *c, void *d, void *e, void *f, void *g, int n, void *r, int *found) { *found = 1; return 0; }`
  }
  if (/Status(Name|String)$/.test(symbol)) return `const char *${symbol}(int status) { return "SIMULATED"; }`
  return `int ${symbol}(void) { return 0; }`
}

function runs(tool: string): boolean {
  try {
    execFileSync(tool, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

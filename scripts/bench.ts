/**
 * `npm run bench`: how fast, always as a ratio of two things measured side by side in this run.
 *
 *   npm run bench [-- --only NAME] [-- --json]
 *
 * A ratio is ours ÷ theirs. `--only` takes a name, or the beginning of several; `--json` prints one object a line. What lacks its
 * inputs is skipped by name on standard error. A missed target is printed, not an error: exit status 0 unless something
 * failed to run, 2 on misuse.
 */
import { parseArgs } from 'node:util'
import { COLD_BENCHMARKS } from './bench/cold.js'
import { GPU_BENCHMARKS } from './bench/gpu.js'
import { type Benchmark, type Measured, MissingInput, measure } from './bench/measure.js'
import { SNP_BENCHMARKS } from './bench/snp.js'
import { TDX_BENCHMARKS } from './bench/tdx.js'

export const BENCHMARKS: readonly Benchmark[] = [
  ...SNP_BENCHMARKS,
  ...TDX_BENCHMARKS,
  ...GPU_BENCHMARKS,
  ...COLD_BENCHMARKS,
]

/** One line of `--json`. */
export interface BenchmarkLine {
  readonly name: string
  /** Ours ÷ theirs. */
  readonly value: number
  readonly unit: 'ratio'
  readonly against: string
  readonly target: number
  readonly ok: boolean
}

interface Output {
  readonly stdout: { write(text: string): unknown }
  readonly stderr: { write(text: string): unknown }
}

/** Runs benchmarks and returns the exit status. `rounds` replaces every benchmark's own number of rounds. */
export async function runBenchmarks(argv: readonly string[], output: Output, rounds?: number): Promise<number> {
  const options = readOptions(argv, output)
  if (options === undefined) return 2
  const named = BENCHMARKS.filter(({ name }) => name === options.only)
  const chosen = named.length > 0 ? named : BENCHMARKS.filter(({ name }) => name.startsWith(options.only))
  if (chosen.length === 0) {
    output.stderr.write(
      `bench: no benchmark ${options.only}; there are ${BENCHMARKS.map(({ name }) => name).join(' ')}\n`,
    )
    return 2
  }
  let status = 0
  for (const benchmark of chosen) {
    try {
      const measured = await measure(await benchmark.prepare(), rounds ?? benchmark.rounds)
      const line = lineOf(benchmark, measured)
      output.stdout.write(options.json ? `${JSON.stringify(line)}\n` : row(line, measured))
    } catch (error) {
      const skipped = error instanceof MissingInput
      if (!skipped) status = 1
      const reason = error instanceof Error ? error.message : String(error)
      output.stderr.write(`bench: ${benchmark.name} ${skipped ? 'skipped' : 'failed'}: ${reason}\n`)
    }
  }
  return status
}

function readOptions(argv: readonly string[], output: Output): { only: string; json: boolean } | undefined {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: { only: { type: 'string', default: '' }, json: { type: 'boolean', default: false } },
    })
    return values
  } catch (error) {
    output.stderr.write(`bench: ${(error as Error).message}\n`)
    return undefined
  }
}

function lineOf({ name, against, target }: Benchmark, { oursMs, theirsMs }: Measured): BenchmarkLine {
  const value = Number((oursMs / theirsMs).toPrecision(4))
  return { name, value, unit: 'ratio', against, target, ok: value <= target }
}

function row({ name, value, against, target, ok }: BenchmarkLine, { oursMs, theirsMs }: Measured): string {
  const verdict = ok ? 'ok' : 'MISSED'
  const times = `${oursMs.toFixed(2)} ms ÷ ${theirsMs.toFixed(2)} ms`
  return `${name.padEnd(22)} ${value.toFixed(2).padStart(7)}  target ≤ ${String(target).padEnd(5)} ${verdict.padEnd(7)} ${times}\n    against ${against}\n`
}

if (process.argv[1] === import.meta.filename) {
  process.exitCode = await runBenchmarks(process.argv.slice(2), process)
}

/**
 * `npm run bench`: how fast, as a ratio of two things measured side by side in this run; and what the channel costs and hides.
 *
 *   npm run bench [-- --only NAME] [-- --json]
 *
 * `SUBROSA_BENCH_MODEL` names a model package to measure the channel with, in place of the demo model, whose tokens take less
 * than a millisecond. A ratio is ours ÷ theirs. `--only` takes a name, or the beginning of several; `--json` prints one object a line. What lacks its
 * inputs is skipped by name on standard error. A missed target is printed, not an error: exit status 0 unless something
 * failed to run, 2 on misuse.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { CHANNEL_BENCHMARKS } from './bench/channel.js'
import { COLD_BENCHMARKS } from './bench/cold.js'
import { GPU_BENCHMARKS } from './bench/gpu.js'
import { HANDSHAKE_BENCHMARKS } from './bench/handshake.js'
import { type Benchmark, type Figure, MissingInput, measure } from './bench/measure.js'
import { SNP_BENCHMARKS } from './bench/snp.js'
import { TDX_BENCHMARKS } from './bench/tdx.js'

export const BENCHMARKS: readonly (Benchmark | Figure)[] = [
  ...SNP_BENCHMARKS,
  ...TDX_BENCHMARKS,
  ...GPU_BENCHMARKS,
  ...COLD_BENCHMARKS,
  ...CHANNEL_BENCHMARKS,
  ...HANDSHAKE_BENCHMARKS,
]

/** One line of `--json`. */
export interface BenchmarkLine {
  readonly name: string
  /** Ours ÷ theirs where the unit is `ratio`. */
  readonly value: number
  readonly unit: string
  readonly against: string
  readonly target: number
  readonly ok: boolean
}

interface Output {
  readonly stdout: { write(text: string): unknown }
  readonly stderr: { write(text: string): unknown }
}

/** Runs benchmarks and returns the exit status. `rounds` replaces every benchmark's own number of rounds. */
export async function runBenchmarks(
  argv: readonly string[],
  output: Output,
  rounds?: number,
  all: readonly (Benchmark | Figure)[] = BENCHMARKS,
): Promise<number> {
  const choice = choose(argv, output, all)
  return choice === undefined ? 2 : runHere(choice, output, rounds)
}

async function runHere({ benchmarks, json }: Choice, output: Output, rounds?: number): Promise<number> {
  let status = 0
  for (const benchmark of benchmarks) {
    try {
      const { line, detail } = await run(benchmark, rounds ?? benchmark.rounds)
      output.stdout.write(json ? `${JSON.stringify(line)}\n` : row(line, detail, benchmark))
    } catch (error) {
      const skipped = error instanceof MissingInput
      if (!skipped) status = 1
      const reason = error instanceof Error ? error.message : String(error)
      output.stderr.write(`bench: ${benchmark.name} ${skipped ? 'skipped' : 'failed'}: ${reason}\n`)
    }
  }
  return status
}

const STOPPING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * The same, each benchmark in a process of its own that `script` is started in with the name: what one leaves behind, threads
 * and memory in pieces, is not there for the next. A single one runs in this process.
 */
export async function runBenchmarksApart(
  argv: readonly string[],
  output: Output,
  script: string,
  all: readonly (Benchmark | Figure)[],
): Promise<number> {
  const choice = choose(argv, output, all)
  if (choice === undefined) return 2
  if (choice.benchmarks.length === 1) return runHere(choice, output)
  let status = 0
  let child: ChildProcess | undefined
  let stopped: NodeJS.Signals | undefined
  // Whoever stops this process alone means what it started too.
  const stop = (signal: NodeJS.Signals): void => {
    stopped = signal
    child?.kill(signal)
  }
  for (const signal of STOPPING) process.on(signal, stop)
  for (const { name } of choice.benchmarks) {
    if (stopped !== undefined) break
    const args = [...process.execArgv, script, '--only', name, ...(choice.json ? ['--json'] : [])]
    const started = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    child = started
    started.stdout.setEncoding('utf8').on('data', (text: string) => output.stdout.write(text))
    started.stderr.setEncoding('utf8').on('data', (text: string) => output.stderr.write(text))
    const [code, signal] = (await once(started, 'close')) as [number | null, NodeJS.Signals | null]
    if (signal !== null) output.stderr.write(`bench: ${name} failed: ended by ${signal}\n`)
    if (code !== 0) status = 1
  }
  for (const signal of STOPPING) process.off(signal, stop)
  return status
}

interface Choice {
  readonly benchmarks: readonly (Benchmark | Figure)[]
  readonly json: boolean
}

/** Undefined, with a line that says why, on misuse. */
function choose(argv: readonly string[], output: Output, all: readonly (Benchmark | Figure)[]): Choice | undefined {
  const options = readOptions(argv, output)
  if (options === undefined) return undefined
  const named = all.filter(({ name }) => name === options.only)
  const benchmarks = named.length > 0 ? named : all.filter(({ name }) => name.startsWith(options.only))
  if (benchmarks.length > 0) return { benchmarks, json: options.json }
  output.stderr.write(`bench: no benchmark ${options.only}; there are ${all.map(({ name }) => name).join(' ')}\n`)
  return undefined
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

async function run(benchmark: Benchmark | Figure, rounds: number): Promise<{ line: BenchmarkLine; detail: string }> {
  const { name, against, target } = benchmark
  if ('figure' in benchmark) {
    const { value: exact, detail } = await benchmark.figure(rounds)
    const value = Number(exact.toPrecision(4))
    const ok = benchmark.better === 'higher' ? value >= target : value <= target
    return { line: { name, value, unit: benchmark.unit, against, target, ok }, detail }
  }
  const { oursMs, theirsMs } = await measure(await benchmark.prepare(), rounds)
  const value = Number((oursMs / theirsMs).toPrecision(4))
  const detail = `${oursMs.toFixed(2)} ms ÷ ${theirsMs.toFixed(2)} ms`
  return { line: { name, value, unit: 'ratio', against, target, ok: value <= target }, detail }
}

function row({ name, value, unit, against, target, ok }: BenchmarkLine, detail: string, benchmark: object): string {
  const verdict = ok ? 'ok' : 'MISSED'
  const bound = 'better' in benchmark ? '≥' : '≤'
  const inUnit = unit === 'ratio' ? '' : `in ${unit}, `
  return `${name.padEnd(22)} ${value.toFixed(2).padStart(7)}  target ${bound} ${String(target).padEnd(5)} ${verdict.padEnd(7)} ${detail}\n    ${inUnit}against ${against}\n`
}

if (process.argv[1] === import.meta.filename) {
  process.exitCode = await runBenchmarks(process.argv.slice(2), process)
}

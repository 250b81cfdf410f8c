/** Each benchmark runs one round and prints what other tools read. How fast is not asserted here. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { BENCHMARKS, type BenchmarkLine, runBenchmarks, runBenchmarksApart } from '../scripts/bench.js'

interface Run {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

async function captured(run: (output: Parameters<typeof runBenchmarks>[1]) => Promise<number>): Promise<Run> {
  const written = { stdout: '', stderr: '' }
  const collect = (stream: keyof typeof written) => ({ write: (text: string) => (written[stream] += text) })
  const status = await run({ stdout: collect('stdout'), stderr: collect('stderr') })
  return { status, ...written }
}

const bench = (...argv: readonly string[]): Promise<Run> => captured((output) => runBenchmarks(argv, output, 1))

describe('npm run bench', () => {
  it('has the names other tools look for, each once', () => {
    const names = BENCHMARKS.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    const fixed = ['snp.warm.bare', 'snp.warm.tinfoil', 'tdx.warm.bare', 'tdx.warm.phala', 'tdx.warm.phala-wasm']
    const channel = [
      'ttft-ms',
      'throughput',
      'leak-bits',
      'padding-bytes',
      'records',
      'handshake.x-wing',
      'handshake.x25519',
    ].map((name) => `channel.${name}`)
    expect(names).toEqual(expect.arrayContaining([...fixed, 'cli.cold', ...channel, 'attest.reports-per-nonce']))
  })

  it.each(BENCHMARKS.map(({ name }) => name))(
    '%s prints one JSON line or says why it is skipped',
    async (name) => {
      const { status, stdout, stderr } = await bench('--json', '--only', name)
      expect(`${status} ${stderr}`).toMatch(/^0 (bench: \S+ skipped: .+\n)*$/)
      const lines = stdout.split('\n').filter((line) => line !== '')
      const parsed = lines.map((line) => JSON.parse(line) as BenchmarkLine)
      for (const line of parsed) {
        expect(Object.keys(line)).toEqual(['name', 'value', 'unit', 'against', 'target', 'ok'])
        // Differences of one round and entropies may come to nothing; ratios of times may not.
        if (line.unit === 'ratio') expect(line.value).toBeGreaterThan(0)
        else expect(Number.isFinite(line.value)).toBe(true)
        const higher = 'better' in (BENCHMARKS.find((benchmark) => benchmark.name === line.name) ?? {})
        expect(line.ok).toBe(higher ? line.value >= line.target : line.value <= line.target)
      }
      const skipped = [...stderr.matchAll(/bench: (\S+) skipped/g)].map(([, skip]) => skip)
      expect([...parsed.map((line) => line.name), ...skipped]).toEqual([name])
    },
    60_000,
  )

  it('prints a table without --json', async () => {
    const { status, stdout } = await bench('--only', 'snp.warm.remembered')
    expect(status).toBe(0)
    expect(stdout).toMatch(/^snp\.warm\.remembered +\d+\.\d\d +target ≤ 1 /)
  })

  it.each([['--only', 'nothing'], ['--fast']])('misuse: %s', async (...argv) => {
    const { status, stdout, stderr } = await bench(...argv)
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toMatch(/^bench: /)
  })

  it('has each of several run by a process of its own, and the worst status of these', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'subrosa-bench-'))
    try {
      const script = join(folder, 'bench.mjs')
      await writeFile(
        script,
        `const [, name, ...rest] = process.argv.slice(2)
         console.log(name, process.pid, ...rest)
         console.error('bench:', name)
         if (name === 'k.killed') process.kill(process.pid, 'SIGKILL')
         if (name === 'k.stops') setTimeout(() => process.kill(process.ppid, 'SIGTERM'), 50), setTimeout(() => {}, 60_000)
         process.exitCode = name === 'a.second' ? 1 : 0`,
      )
      const figure = (name: string) => ({
        name,
        unit: 'ratio',
        against: 'nothing',
        target: 1,
        rounds: 1,
        figure: async () => ({ value: 1, detail: `${process.pid}` }),
      })
      const all = ['a.first', 'a.second', 'a.third', 'b', 'k.killed', 'k.stops', 'k.last'].map(figure)
      const run = (...argv: readonly string[]): Promise<Run> =>
        captured((output) => runBenchmarksApart(argv, output, script, all))
      const several = await run('--only', 'a', '--json')
      expect(several.status).toBe(1)
      expect(several.stderr).toBe('bench: a.first\nbench: a.second\nbench: a.third\n')
      const lines = several.stdout.trimEnd().split('\n')
      const started = lines.map((line) => line.split(' '))
      expect(started.map(([name, , json]) => `${name} ${json}`)).toEqual(
        ['a.first', 'a.second', 'a.third'].map((name) => `${name} --json`),
      )
      expect(new Set(started.map(([, pid]) => pid)).size).toBe(3)
      // One alone needs no process of its own.
      const one = await run('--only', 'b')
      expect(one.status).toBe(0)
      expect(one.stdout).toContain(`${process.pid}`)
      // Killed is said; and who stops this process stops the one that runs, and none is started any more.
      const killed = await run('--only', 'k')
      expect(killed.status).toBe(1)
      expect(killed.stderr).toBe(
        'bench: k.killed\nbench: k.killed failed: ended by SIGKILL\nbench: k.stops\nbench: k.stops failed: ended by SIGTERM\n',
      )
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})

/** `subrosa bench`, and the numbers and the picture it makes of a target whose times are known. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type LoadLevel, measureLoad, type Question, spread, type Target } from '../../scripts/load/measure.js'
import { plotLoad } from '../../scripts/load/plot.js'
import { subrosa } from '../support/command.js'
import { policyFor, type RunningWorker, startWorker } from '../support/worker.js'

let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-load-'))
})

afterAll(() => rm(folder, { recursive: true, force: true }))

/** One reader at a time is served by this clock: 30 ms to the first token, 10 ms to each further one. */
function clockwork(): { target: Target; asked: Question[]; monotonicMs: () => number } {
  let now = 0
  const asked: Question[] = []
  const target: Target = {
    title: 'clock',
    path: 'nothing',
    async ask(question, onToken) {
      asked.push(question)
      for (let i = 0; i < question.answerTokens; i++) {
        now += i === 0 ? 30 : 10
        onToken()
      }
    },
    memory: () => 1000 + asked.length,
    close: async () => undefined,
  }
  return { target, asked, monotonicMs: () => now }
}

describe('a picture that cannot be written', () => {
  it.each(['none/load.svg', '.'])('is said so before anything is loaded or measured: %s', async (path) => {
    // Were it not, the model would be what is missing.
    const { status, stderr } = await subrosa('bench', '--model', join(folder, 'no-model'), '--svg', join(folder, path))
    expect(status).not.toBe(0)
    expect(stderr).toContain('--svg: cannot write')
  })
})

describe('what is measured', () => {
  it('is what a reader sees, without the first answer', async () => {
    const { target, asked, monotonicMs } = clockwork()
    const options = { levels: [1], rounds: 4, promptTokens: 7, answerTokens: 5, monotonicMs }
    const levels = await measureLoad(target, options)
    expect(levels).toEqual([
      {
        readers: 1,
        answers: 4,
        tokens: 20,
        tokensPerSecond: 20 / 0.28,
        firstTokenMs: { p50: 30, p99: 30 },
        betweenTokensMs: { p50: 10, p99: 10 },
        memoryBytes: 1005,
      },
    ])
    expect(new Set(asked.map(({ number }) => number)).size).toBe(5)
  })

  it('asks as many at once as there are readers', async () => {
    let [running, most] = [0, 0]
    const target: Target = {
      ...clockwork().target,
      async ask(_, onToken) {
        running += 1
        most = Math.max(most, running)
        await new Promise((resolve) => setImmediate(resolve))
        onToken()
        running -= 1
      },
    }
    const levels = await measureLoad(target, {
      levels: [2, 7],
      rounds: 2,
      promptTokens: 1,
      answerTokens: 1,
      monotonicMs: () => 0,
    })
    expect(most).toBe(7)
    expect(levels.map(({ answers }) => answers)).toEqual([4, 14])
    expect(levels[0]?.betweenTokensMs).toBeUndefined()
  })

  it('asks nothing more once an answer failed', async () => {
    let asked = 0
    const target: Target = {
      ...clockwork().target,
      async ask(_, onToken) {
        asked += 1
        await new Promise((resolve) => setImmediate(resolve))
        if (asked > 3) throw new Error('gone')
        onToken()
      },
    }
    const options = { levels: [2], rounds: 100, promptTokens: 1, answerTokens: 1, monotonicMs: () => 0 }
    await expect(measureLoad(target, options)).rejects.toThrow(/gone/)
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(asked).toBeLessThan(8)
  })

  it('is refused when there is none', async () => {
    const target: Target = { ...clockwork().target, ask: async () => undefined }
    const options = { levels: [1], rounds: 1, promptTokens: 1, answerTokens: 1, monotonicMs: () => 0 }
    await expect(measureLoad(target, options)).rejects.toThrow(/single token/)
  })

  it('takes percentiles that were measured', () => {
    expect(spread(Array.from({ length: 200 }, (_, i) => 200 - i))).toEqual({ p50: 100, p99: 198 })
    expect(spread([3])).toEqual({ p50: 3, p99: 3 })
    expect(spread([])).toBeUndefined()
  })
})

describe('the picture', () => {
  const level = (readers: number): LoadLevel => ({
    readers,
    answers: readers,
    tokens: 10,
    tokensPerSecond: 100 * readers,
    firstTokenMs: { p50: 10, p99: 20 * readers },
    betweenTokensMs: readers === 1 ? undefined : { p50: 5, p99: 6 },
    memoryBytes: undefined,
  })

  it('has a point for each figure there is, inside of it', () => {
    const svg = plotLoad('a <model>', 'x & y', [level(1), level(4), level(16)])
    expect(svg).toContain('a &#60;model&#62;')
    expect(svg).toContain('x &#38; y')
    const points = [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, x, y]) => [Number(x), Number(y)])
    expect(points).toHaveLength(3 * 2 + 2 * 2 + 3)
    const [, width, height] = svg.match(/viewBox="0 0 (\d+) (\d+)"/)?.map(Number) ?? []
    expect(points.every(([x = -1, y = -1]) => x > 0 && x < (width ?? 0) && y > 0 && y < (height ?? 0))).toBe(true)
    // Twice as late is twice as high.
    const tail = points.slice(3, 6).map(([, y]) => y ?? 0)
    expect((tail[1] ?? 0) > (tail[2] ?? 0)).toBe(true)
  })
})

describe('subrosa bench', () => {
  const quick = ['--readers', '1,3', '--rounds', '1', '--prompt-tokens', '20', '--answer-tokens', '6']

  it('measures the engine here, prints a row for each level, and draws', async () => {
    const svg = join(folder, 'load.svg')
    const { status, stdout } = await subrosa('bench', ...quick, '--svg', svg)
    expect(status).toBe(0)
    expect(stdout).toMatch(/^Subrosa demo model, fp32, on onnxruntime-node/)
    expect(stdout).toContain('the engine alone')
    expect(stdout.match(/^ +[13] +[\d.]+ .* MiB$/gm)).toHaveLength(2)
    expect(await readFile(svg, 'utf8')).toMatch(/^<svg [\s\S]*<\/svg>\n$/)
  })

  describe('with a worker', () => {
    let worker: RunningWorker
    let policy: string

    beforeAll(async () => {
      worker = await startWorker()
      policy = join(folder, 'policy.yaml')
      await writeFile(policy, JSON.stringify(await policyFor(worker)))
    })

    afterAll(() => worker.close())

    it('verifies it first, and measures what a client sees', async () => {
      const { status, stdout } = await subrosa('bench', worker.url, '--policy', policy, ...quick, '--json')
      expect(status).toBe(0)
      const printed = JSON.parse(stdout) as { path: string; levels: LoadLevel[] }
      expect(printed.path).toContain('sealed channel')
      expect(printed.levels.map(({ readers, answers }) => [readers, answers])).toEqual([
        [1, 1],
        [3, 3],
      ])
      expect(printed.levels.every(({ tokens }) => tokens > 0)).toBe(true)
    })

    it('sends nothing to one that does not verify', async () => {
      const { status, stdout, stderr } = await subrosa('bench', worker.url, '--gpu', 'none', ...quick)
      expect([status, stdout]).toEqual([1, ''])
      expect(stderr).toMatch(/^subrosa: not sent: /)
    })
  })

  it.each([
    [['--readers', '4,2'], /expected ascending numbers/],
    [['--readers', '0'], /whole number from 1 to 999999/],
    [['--rounds', 'many'], /whole number from 1 to 999999/],
    [['--prompt-tokens', '1000000'], /whole number from 1 to 999999/],
    [['http://127.0.0.1:1', '--model', 'x'], /leave out the URL/],
    [['http://127.0.0.1:1', '--device', 'cuda'], /leave out the URL/],
    [['--server', '/nowhere.json'], /expected a JSON file/],
    [['--server', '/nowhere.json', '--device', 'cuda'], /built-in engine/],
    [['--device', 'tpu'], /cpu, cuda, webgpu/],
  ])('%j is a mistake of the caller', async (flags, message) => {
    const { status, stdout, stderr } = await subrosa('bench', ...flags)
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr).toMatch(message)
  })

  it('says what is wrong with a model', async () => {
    const { status, stderr } = await subrosa('bench', '--model', folder)
    expect(status).toBe(1)
    expect(stderr).toMatch(/manifest\.json: cannot be opened/)
  })
})

/** A short soak: what the long one checks, checked at all; and that it would tell. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { gapsOf } from '../scripts/soak/chain.js'
import { growthOf, judge, type MemorySample, type SoakOptions, type SoakReport } from '../scripts/soak/judge.js'
import { soak } from '../scripts/soak.js'

it('no answer is lost or crossed while keys rotate and clients leave', async () => {
  const options = { requests: 150, concurrent: 16, aborts: 0.2, rotations: 2, keyLifetimeS: 4, seconds: 240 }
  const report = await soak(options)
  expect(judge(options, report)).toEqual([])
  expect(report.sent).toBeGreaterThanOrEqual(150)
  expect(report.answered).toBeGreaterThan(20)
  expect(report.receipts).toBe(report.answered)
  expect(report.rotations).toBeGreaterThanOrEqual(2)
  expect(report.memory.length).toBeGreaterThan(0)
}, 300_000)

it('a run that did not do what was asked of it ends with status 1, misuse with 2', () => {
  const program = fileURLToPath(new URL('../dist/scripts/soak.js', import.meta.url))
  const run = (...args: string[]) => spawnSync(process.execPath, [program, ...args], { encoding: 'utf8' })
  const short = run('--requests', '4', '--concurrent', '2', '--rotations', '1000', '--seconds', '3')
  expect([short.status, short.stderr]).toEqual([1, ''])
  expect(short.stdout).toMatch(/FAILED {2}keys rotated \d+ times of 1000 in 3 s/)
  expect(run('--requests', 'many').status).toBe(2)
}, 120_000)

describe('the judge', () => {
  const options: SoakOptions = {
    requests: 10_000,
    concurrent: 64,
    aborts: 0.1,
    rotations: 10,
    keyLifetimeS: 12,
    seconds: 60,
  }
  /** Samples whose memory after the warm-up grows by so many bytes a request, with an allocator's bursts on top. */
  const samples = (rss: number, heap: number, last = 10_000): MemorySample[] =>
    Array.from({ length: 51 }, (_, i) => {
      const requests = (i * last) / 50
      const burst = i % 10 === 0 ? 20 * 2 ** 20 : 0
      const warm = 60 * 2 ** 20 * Math.min(1, i / 20)
      return { requests, rssBytes: 1e8 + warm + burst + rss * requests, heapBytes: 3e7 + warm + heap * requests }
    })
  const good: SoakReport = {
    sent: 10_003,
    answered: 9000,
    abandoned: 1003,
    receipts: 9000,
    rotations: 12,
    resealed: 3,
    memory: samples(500, 100),
    failures: [],
  }

  it('finds nothing against a run that did all of it', () => {
    expect(judge(options, good)).toEqual([])
  })

  it.each<[string, Partial<SoakReport>, string]>([
    ['too few requests', { sent: 9000, answered: 7997, receipts: 7997 }, '9000 of 10000 requests were sent in 60 s'],
    ['too few rotations', { rotations: 9 }, 'keys rotated 9 times of 10 in 60 s'],
    ['a lost answer', { answered: 8999, receipts: 8999 }, '1 requests were neither answered nor abandoned'],
    ['a receipt too few', { receipts: 8999 }, '9000 answers came with 8999 receipts that hold'],
    ['failures', { failures: ['a', 'b', 'a'] }, '2 × a'],
    ['memory that grows', { memory: samples(8192, 100) }, "the worker's resident memory grew by 7.81 MiB"],
    ['a heap that grows', { memory: samples(500, 2048) }, "the worker's heap grew by 1.95 MiB"],
  ])('finds %s', (_, worse, problem) => {
    expect(judge(options, { ...good, ...worse })).toContainEqual(expect.stringContaining(problem))
  })

  it('finds that nothing was answered', () => {
    const nothing = { ...good, answered: 0, receipts: 0, abandoned: good.sent }
    expect(judge(options, nothing)).toEqual(['nothing was answered'])
  })

  it('judges no memory on few requests, and all of it on as many as are the default', () => {
    expect(growthOf(samples(8192, 2048, 1000))).toBeUndefined()
    expect(growthOf([])).toBeUndefined()
    expect(growthOf(samples(8192, 2048))).toEqual({ rss: expect.closeTo(7.8125, 3), heap: expect.closeTo(1.953, 3) })
  })

  it.each<[string, [number, string | null][], number, number]>([
    [
      'none',
      [
        [0, null],
        [1, '0'],
        [2, '1'],
      ],
      0,
      0,
    ],
    [
      'one where an answer was abandoned',
      [
        [0, null],
        [2, '1'],
      ],
      1,
      0,
    ],
    [
      'one too many',
      [
        [0, null],
        [2, '1'],
      ],
      0,
      1,
    ],
    [
      'another before it',
      [
        [0, null],
        [1, 'x'],
      ],
      0,
      1,
    ],
    [
      'a number twice',
      [
        [0, null],
        [0, null],
      ],
      1,
      1,
    ],
  ])('of chains finds gaps: %s', (_, links, abandoned, gaps) => {
    const chain = links.map(([seq, prev]) => ({ seq, prev, digest: String(seq) }))
    expect(gapsOf(chain, abandoned)).toHaveLength(gaps)
  })
})

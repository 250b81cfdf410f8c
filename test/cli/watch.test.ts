/** `verify-attestation watch`: silence while nothing changes, a line when it does, and a clean end. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { PolicyError, UnavailableError } from '../../verifier/errors.js'
import type { AttestationResult } from '../../verifier/result.js'
import { type Observation, watchWorkers } from '../../verifier/watch.js'
import { verifyAttestation } from '../support/command.js'
import { startHttp } from '../support/http.js'
import { policyFor, type RunningWorker, startWorker } from '../support/worker.js'

const NOW = new Date('2026-06-01T00:00:00Z')
const result = (verdict: AttestationResult['verdict'], ...failed: string[]) =>
  ({
    verdict,
    checks: failed.map((id) => ({ id, title: id, spec: '', status: 'fail', reason: `${id} is wrong` })),
    waived: [],
  }) as unknown as AttestationResult

/** One worker through a list of outcomes, a round each. */
async function watch(outcomes: readonly (AttestationResult | Error)[]): Promise<Observation[]> {
  const stop = new AbortController()
  const seen: Observation[] = []
  let round = 0
  await watchWorkers({
    urls: ['https://a.example'],
    async verify() {
      const outcome = outcomes[round]
      if (outcome instanceof Error) throw outcome
      return outcome!
    },
    report: (observation) => seen.push(observation),
    async wait() {
      if (++round === outcomes.length) stop.abort()
    },
    now: () => NOW,
    signal: stop.signal,
  })
  return seen
}

describe('watching', () => {
  it('reports the first verdict and then only changes', async () => {
    const ok = result('accepted')
    const debug = result('rejected', 'snp.policy.debug')
    const gone = new UnavailableError('worker.unreachable', 'cannot reach it')
    const seen = await watch([ok, ok, debug, debug, result('rejected', 'model.digest'), gone, gone, ok])
    expect(seen.map(({ previous, verdict, checks }) => [previous, verdict, ...checks])).toEqual([
      [null, 'accepted'],
      ['accepted', 'rejected', 'snp.policy.debug'],
      ['rejected', 'rejected', 'model.digest'],
      ['rejected', 'unreachable'],
      ['unreachable', 'accepted'],
    ])
    expect(seen[3]?.reason).toBe('cannot reach it')
  })

  it('stops at a mistake of the caller’s', async () => {
    await expect(watch([new PolicyError('policy.invalid', 'no')])).rejects.toThrow(PolicyError)
  })
})

const program = fileURLToPath(new URL('../../dist/verifier/cli.js', import.meta.url))
const built = existsSync(program) && existsSync(program.replace('cli.js', 'cli-watch.js'))

describe.skipIf(!built)('the command (skipped until built)', () => {
  let folder: string
  let worker: RunningWorker
  let policyFile: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'subrosa-watch-'))
    worker = await startWorker()
    policyFile = join(folder, 'policy.json')
    await writeFile(policyFile, JSON.stringify(await policyFor(worker)))
  })
  afterAll(async () => {
    await worker.close()
    await rm(folder, { recursive: true, force: true })
  })

  const start = (...argv: string[]): ChildProcess =>
    spawn(process.execPath, [program, 'watch', ...argv], { stdio: ['ignore', 'pipe', 'pipe'] })

  /** Lines until there are `count`, then Ctrl-C. */
  async function lines(child: ChildProcess, count: number): Promise<{ lines: string[]; status: number | null }> {
    let text = ''
    const closed = once(child, 'close')
    for await (const piece of child.stdout!) {
      text += piece
      if (text.split('\n').length > count && !child.killed) child.kill('SIGINT')
    }
    const [status] = (await closed) as [number | null]
    return { lines: text.trimEnd().split('\n'), status }
  }

  it('prints JSON lines and leaves with 0 on Ctrl-C', async () => {
    const gone = await startHttp((_, response) => response.writeHead(503).end())
    const child = start(worker.url, gone.url, '--policy', policyFile, '--interval', '1', '--format', 'json')
    const { lines: printed, status } = await lines(child, 2)
    await gone.close()
    const objects = printed.map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(objects.map((object) => [object['url'], object['verdict']]).sort()).toEqual(
      [
        [worker.url, 'accepted'],
        [gone.url, 'unreachable'],
      ].sort(),
    )
    expect(Object.keys(objects[0]!)).toEqual(['schema', 'at', 'url', 'verdict', 'previous', 'checks', 'reason'])
    expect(status).toBe(0)
  })

  it('leaves at once while a worker keeps it waiting', async () => {
    let began = 0
    const silent = await startHttp(() => {
      // It waits from now on.
      began = Date.now()
      child.kill('SIGINT')
    })
    const child = start(silent.url, '--policy', policyFile)
    const [status] = (await once(child, 'close')) as [number | null]
    await silent.close()
    expect(status).toBe(0)
    expect(Date.now() - began).toBeLessThan(10_000)
  })
})

describe('misuse', () => {
  it.each<[string, string[], RegExp]>([
    ['no worker', [], /missing required argument/],
    ['a file', ['a.bundle'], /expected a worker URL/],
    ['a short interval', ['http://127.0.0.1:1', '--interval', '0'], /--interval: expected 1 to 86400 seconds/],
    ['a fixed time', ['http://127.0.0.1:1', '--at', '2026-01-01'], /--at is for one verdict/],
    ['a fixed nonce', ['http://127.0.0.1:1', '--nonce', 'ab'.repeat(32)], /--nonce is for one verdict/],
  ])('%s', async (_, argv, message) => {
    const { status, stdout, stderr } = await verifyAttestation('watch', ...argv)
    expect(stdout).toBe('')
    expect(stderr).toMatch(message)
    expect(status).toBe(2)
  })
})

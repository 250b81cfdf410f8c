/** `subrosa` as its users type it, in this process and as the built program. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { subrosa, verifyAttestation } from '../support/command.js'
import { policyFor, type RunningWorker, startWorker } from '../support/worker.js'

const program = fileURLToPath(new URL('../../dist/client/cli.js', import.meta.url))

let folder: string
let worker: RunningWorker
let policyFile: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-'))
  worker = await startWorker()
  policyFile = join(folder, 'policy.yaml')
  await writeFile(policyFile, JSON.stringify(await policyFor(worker)))
})

afterAll(async () => {
  await worker.close()
  await rm(folder, { recursive: true, force: true })
})

it('shows control characters of what it refuses, and obeys none', async () => {
  const { status, stderr } = await subrosa('chat', worker.url, '--policy', join(folder, 'no\u001b[31mne\u0007'))
  expect(stderr).toContain('no\\u001b[31mne\\u0007')
  expect(stderr).not.toContain('\u001b')
  expect(status).toBe(2)
})

describe('subrosa chat', () => {
  it('says who can read, streams the answer, and shows the receipt', async () => {
    const prompt = 'What is the capital of Japan?'
    const { status, stdout, stderr } = await subrosa('chat', worker.url, '--policy', policyFile, '--prompt', prompt)
    expect(stderr).toMatch(/SIMULATED OR PRIVATE hardware: whoever runs this worker can read you/)
    expect(stdout).toMatch(/\S+/)
    expect(stderr).toMatch(/receipt \S+: signed by the attested enclave/)
    expect(status).toBe(0)
  })

  it('sends nothing to a worker it cannot trust, in one sentence', async () => {
    const { status, stdout, stderr } = await subrosa('chat', worker.url, '--gpu', 'none', '--prompt', 'hello')
    expect(stdout).toBe('')
    expect(stderr).toMatch(/^subrosa: not sent: .*\(snp\.chain\.root\)\n$/)
    expect(status).toBe(1)
  })

  it.each([
    [['--at', '2026-01-01T00:00:00Z'], /--at is for auditing/],
    [['--nonce', 'ab'.repeat(32)], /--nonce is for auditing/],
    [['--report-data', 'ab'], /--report-data is for auditing/],
    [['--revocation', 'off'], /--revocation off is for auditing/],
    [['--any-measurement'], /needs a private or simulated trust anchor/],
    [['--frobnicate'], /unknown option/],
  ])('refuses %o', async (flags, message) => {
    const { status, stdout, stderr } = await subrosa('chat', worker.url, ...flags)
    expect(stdout).toBe('')
    expect(stderr).toMatch(message)
    expect(status).toBe(2)
  })

  it('says when nobody answers', async () => {
    const { status, stderr } = await subrosa('chat', 'http://127.0.0.1:1', '--prompt', 'hello')
    expect(stderr).toMatch(/cannot reach/)
    expect(status).toBe(4)
  })
})

/** The built program, as a process of its own. */
function run(...argv: string[]): ChildProcess {
  return spawn(process.execPath, [program, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] })
}

async function outcome(child: ChildProcess): Promise<{ status: number | null; stdout: string; stderr: string }> {
  let [stdout, stderr] = ['', '']
  child.stdout?.on('data', (piece) => {
    stdout += piece
  })
  child.stderr?.on('data', (piece) => {
    stderr += piece
  })
  const [status] = (await once(child, 'close')) as [number | null]
  return { status, stdout, stderr }
}

describe('subrosa serve', () => {
  it('runs a simulated worker that verifies with the root it writes, and stops when told', async () => {
    const anchor = join(folder, 'root.pem')
    const child = run('serve', '--simulated', '--port', '0', '--trust-anchor-out', anchor)
    let banner = ''
    for await (const piece of child.stdout ?? []) {
      banner += piece
      if (banner.includes('its roots')) break
    }
    expect(banner).toContain('SIMULATED')
    const url = /http:\/\/\S+/.exec(banner)?.[0] ?? ''
    expect(await readFile(anchor, 'utf8')).toContain('Kind: snp')
    const flags = ['--trust-anchor', anchor, '--any-measurement', '--model-digest', 'any']
    const verdict = await verifyAttestation(url, ...flags)
    expect(verdict.stdout).toMatch(/^ACCEPTED {2}a SIMULATED OR PRIVATE/)
    child.kill('SIGTERM')
    const [status] = (await once(child, 'close')) as [number | null]
    expect(status).toBe(0)
  })

  it('refuses to serve without a TEE', async () => {
    const { status, stdout, stderr } = await outcome(run('serve', '--port', '0'))
    expect(stdout).toBe('')
    expect(stderr.trim().split('\n')).toHaveLength(1)
    expect(stderr).toContain('--simulated')
    expect(status).toBe(1)
  })

  it('says that a port is in use, and a model unreadable', async () => {
    const busy = createServer().listen(0, '127.0.0.1')
    await once(busy, 'listening')
    const { port } = busy.address() as AddressInfo
    const taken = await outcome(run('serve', '--simulated', '--port', String(port)))
    expect(taken.stderr).toMatch(/^subrosa serve: port \d+ .* is in use: .*--port\n$/)
    expect(taken.status).toBe(1)
    busy.close()
    const missing = await outcome(run('serve', '--simulated', '--port', '0', '--model', join(folder, 'no-model')))
    expect(missing.stderr.trim().split('\n')).toHaveLength(1)
    expect(missing.stderr).toContain('no-model')
    expect(missing.status).toBe(1)
  })

  it.each([
    [['frobnicate'], /unknown command/],
    [['serve', '--frobnicate'], /unknown option/],
    [['serve', '--port', 'http'], /expected a number from 0 to 65535/],
  ])('%o is misuse', async (argv, message) => {
    const { status, stdout, stderr } = await outcome(run(...argv))
    expect(stdout).toBe('')
    expect(stderr).toMatch(message)
    expect(status).toBe(2)
  })
})

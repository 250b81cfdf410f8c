/** The model owner's way: seal a package, give it to a provider, release its key to a worker that was verified. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { generateHybridIdentity } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect } from '../../client/index.js'
import { defaultModelDirectory } from '../../enclave/serve.js'
import { fromBase64Url } from '../../verifier/protocol/bytes.js'
import { subrosa } from '../support/command.js'
import { policyFor, type RunningWorker, startWorker, tapWire, type WireTap } from '../support/worker.js'

const program = fileURLToPath(new URL('../../dist/client/cli.js', import.meta.url))

let folder: string
let worker: RunningWorker
let tap: WireTap
const file = (name: string): string => join(folder, name)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-model-'))
  for (const name of ['owner', 'stranger']) {
    execFileSync('openssl', ['genpkey', '-algorithm', 'ed25519', '-out', file(`${name}.pem`)])
    execFileSync('openssl', ['pkey', '-in', file(`${name}.pem`), '-pubout', '-out', file(`${name}.pub`)])
  }
  const sealing = ['model', 'seal', defaultModelDirectory(), '--out', file('sealed'), '--key-out', file('weights.key')]
  const { stdout } = await run(...sealing)
  expect(stdout).toMatch(/sealed subrosa-demo into .*\n {2}weights digest {2}[0-9a-f]{64}/)
  const der = execFileSync('openssl', ['pkey', '-pubin', '-in', file('owner.pub'), '-outform', 'DER'])
  worker = await startWorker({
    modelDirectory: file('sealed'),
    modelOwnerKey: fromBase64Url(der.subarray(-32).toString('base64url')),
  })
  tap = await tapWire(worker.url)
  await writeFile(file('policy.json'), JSON.stringify(await policyFor(worker)))
})

afterAll(async () => {
  await tap.close()
  await worker.close()
  await rm(folder, { recursive: true, force: true })
})

/** The built program, in a process of its own. */
async function run(...argv: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [program, ...argv])
  const [out, err]: [string[], string[]] = [[], []]
  child.stdout.on('data', (piece) => out.push(String(piece)))
  child.stderr.on('data', (piece) => err.push(String(piece)))
  const [status] = (await once(child, 'close')) as [number | null]
  return { status, stdout: out.join(''), stderr: err.join('') }
}

const release = (...more: string[]) =>
  subrosa('model', 'release', tap.url, '--weights-key', file('weights.key'), '--owner-key', file('owner.pem'), ...more)

const ready = async () => (await fetch(`${worker.url}/readyz`)).status

describe('subrosa model release', () => {
  it('sends nothing to a worker the policy does not accept (P-8.4)', async () => {
    const policy = JSON.parse(await readFile(file('policy.json'), 'utf8'))
    await writeFile(file('other.json'), JSON.stringify({ ...policy, measurements: [{ digest: 'ab'.repeat(48) }] }))
    const { status, stdout, stderr } = await release('--policy', file('other.json'))
    expect([status, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(/^subrosa: not sent: .*\(reference\.measurement\)\n$/)
    expect(tap.bytes().toString('latin1')).not.toContain('POST ')
  })

  it.each([
    [['--at', '2026-01-01T00:00:00Z'], /--at is for auditing/],
    [['--revocation', 'off'], /--revocation off is for auditing/],
    [['--model-digest', 'any'], /a weights key is for one model/],
    [['--any-measurement'], /needs a private or simulated trust anchor/],
  ])('refuses %o before any network', async (flags, message) => {
    const before = tap.connections()
    const { status, stdout, stderr } = await release(...flags)
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr).toMatch(message)
    expect(tap.connections()).toBe(before)
  })

  it('refuses files that are not the keys they should be, and quotes none of them', async () => {
    const swapped = ['--policy', file('policy.json'), '--weights-key', file('owner.pem')]
    const weights = await release(...swapped)
    expect(weights.stderr).toMatch(/^subrosa: --weights-key: expected a file with one age identity/)
    const owner = await release('--policy', file('policy.json'), '--owner-key', file('weights.key'))
    expect(owner.stderr).toMatch(/^subrosa: --owner-key: expected an Ed25519 private key/)
    expect([weights.status, owner.status]).toEqual([2, 2])
    expect(weights.stderr + owner.stderr).not.toMatch(/AGE-SECRET-KEY-(PQ-)?1|BEGIN/)
  })

  it('is refused by the worker for another owner or another key, and the weights stay shut', async () => {
    await writeFile(file('wrong.key'), `${await generateHybridIdentity()}\n`)
    for (const other of [
      ['--owner-key', file('stranger.pem')],
      ['--weights-key', file('wrong.key')],
    ]) {
      const { status, stdout, stderr } = await release('--policy', file('policy.json'), ...other)
      expect([status, stdout]).toEqual([1, ''])
      expect(stderr).toMatch(/not released: the worker says: that is no key for these weights/)
    }
    expect(await ready()).toBe(503)
  })

  it('opens the weights in a verified worker, which then answers as with the open package', async () => {
    const { status, stdout, stderr } = await release('--policy', file('policy.json'))
    expect(stderr).toMatch(/^SIMULATED OR PRIVATE hardware/)
    expect([status, stdout]).toEqual([0, 'released: the weights of subrosa-demo are open in that worker\n'])
    expect(await ready()).toBe(200)

    const open = await startWorker()
    try {
      const answers = []
      for (const { url } of [open, worker]) {
        const session = await connect(url, { policy: await policyFor(open, worker) })
        const body = {
          model: 'subrosa-demo',
          messages: [{ role: 'user', content: 'What is the capital of Japan?' }],
          seed: 1,
        }
        const response = await session.fetch(`${session.baseURL}/chat/completions`, {
          method: 'POST',
          body: JSON.stringify(body),
        })
        answers.push((await response.json()).choices[0].message.content)
      }
      expect(answers[1]).toBe(answers[0])
    } finally {
      await open.close()
    }
  })

  it('never puts the key on the wire, nor the worker a plaintext on disk', async () => {
    const key = (await readFile(file('weights.key'), 'utf8')).split('\n')[1] ?? ''
    expect(key).toMatch(/^AGE-SECRET-KEY-PQ-1/)
    expect(tap.bytes().toString('latin1')).not.toContain(key)
    expect((await readdir(file('sealed'))).filter((name) => /onnx$/.test(name))).toEqual([])
  })

  it('says so to a worker whose weights are not encrypted', async () => {
    const open = await startWorker()
    try {
      tap.lead(open.url)
      await writeFile(file('open.json'), JSON.stringify(await policyFor(open)))
      const { status, stderr } = await release('--policy', file('open.json'))
      expect(status).toBe(1)
      expect(stderr).toMatch(/not released: this worker serves weights that are not encrypted/)
    } finally {
      await open.close()
    }
  })
})

describe('subrosa serve --model-owner', () => {
  it.each([
    ['a private key', 'owner.pem'],
    ['something else', 'weights.key'],
    ['no file', 'nothing.pub'],
  ])('refuses %s', async (_, name) => {
    const { status, stderr } = await run('serve', '--simulated', '--port', '0', '--model-owner', file(name))
    expect(status).toBe(1)
    expect(stderr).toMatch(/^subrosa serve: --model-owner: [^\n]*\n$/)
  })

  it('refuses a package that is not sealed', async () => {
    const { status, stderr } = await run('serve', '--simulated', '--port', '0', '--model-owner', file('owner.pub'))
    expect(status).toBe(1)
    expect(stderr).toMatch(/model\.onnx\.age: cannot be opened/)
  })
})

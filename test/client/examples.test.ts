/** The examples run as they stand, against a worker and the built `subrosa proxy`, whose token file only its owner can read. */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { subrosa } from '../support/command.js'
import { runtimes } from '../support/runtimes.js'
import { policyFor, type RunningWorker, startWorker } from '../support/worker.js'

const program = fileURLToPath(new URL('../../dist/client/cli.js', import.meta.url))
const example = (name: string) => fileURLToPath(new URL(`../../examples/${name}`, import.meta.url))
const has = (command: string) => spawnSync(command, ['--version']).status === 0
const run = promisify(execFile)

let folder: string
let policyFile: string
let tokenFile: string
let worker: RunningWorker
let proxy: ChildProcess
let banner = ''
let env: NodeJS.ProcessEnv

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-'))
  worker = await startWorker()
  policyFile = join(folder, 'policy.yaml')
  tokenFile = join(folder, 'token')
  await writeFile(policyFile, JSON.stringify(await policyFor(worker)))
  await writeFile(tokenFile, 'something old that others could read')
  await chmod(tokenFile, 0o644)
  const flags = ['--worker', worker.url, '--port', '0', '--token-out', tokenFile, '--policy', policyFile]
  proxy = spawn(process.execPath, [program, 'proxy', ...flags], { stdio: ['ignore', 'pipe', 'inherit'] })
  for await (const piece of proxy.stdout ?? []) {
    banner += piece
    if (banner.includes('/readyz')) break
  }
  expect(banner).toContain('/readyz')
  const token = (await readFile(tokenFile, 'utf8')).trim()
  const baseURL = /http:\/\/\S+\/v1/.exec(banner)?.[0] ?? ''
  env = { ...process.env, OPENAI_BASE_URL: baseURL, OPENAI_API_KEY: token }
})

afterAll(async () => {
  proxy?.kill('SIGKILL')
  await worker.close()
  await rm(folder, { recursive: true, force: true })
})

describe('subrosa proxy', () => {
  it('says where it is and who reads, keeps the token out of its output and its file to its owner', async () => {
    expect(banner).toMatch(/^subrosa proxy at http:\/\/127\.0\.0\.1:\d+\/v1\n/)
    expect(banner).toMatch(
      /SIMULATED OR PRIVATE hardware: whoever runs this worker can read you .* until \d\d:\d\d UTC/,
    )
    expect(env['OPENAI_API_KEY']).toMatch(/^[\w-]{43}$/)
    expect(banner).not.toContain(env['OPENAI_API_KEY'])
    expect((await stat(tokenFile)).mode & 0o777).toBe(0o600)
  })

  it.each([
    [['--worker', 'http://127.0.0.1:1', '--at', '2026-01-01T00:00:00Z'], /--at is for auditing/],
    [['--worker', 'http://127.0.0.1:1', '--nonce', 'ab'.repeat(32)], /--nonce is for auditing/],
    [['--worker', 'http://127.0.0.1:1', '--report-data', 'ab'], /--report-data is for auditing/],
    [['--worker', 'http://127.0.0.1:1', '--revocation', 'off'], /--revocation off is for auditing/],
    [['--worker', 'http://127.0.0.1:1', '--any-measurement'], /needs a private or simulated trust anchor/],
    [['--worker', 'http://127.0.0.1:1', '--port', 'http'], /expected a number from 0 to 65535/],
    [['--worker', 'http://127.0.0.1:1', '--prove', 'never'], /Allowed choices are recent, always/],
    [['--worker', 'ftp://127.0.0.1:1'], /expected an http or https URL/],
    [[], /name workers with --worker/],
  ])('refuses %o', async (flags, message) => {
    const { status, stdout, stderr } = await subrosa('proxy', ...flags)
    expect(stdout).toBe('')
    expect(stderr).toMatch(message)
    expect(status).toBe(2)
  })

  it('refuses a port that is taken, and a token file that leads elsewhere', async () => {
    const port = new URL(env['OPENAI_BASE_URL'] ?? '').port
    const taken = await subrosa('proxy', '--worker', 'http://127.0.0.1:1', '--port', port)
    expect(taken).toMatchObject({ status: 2, stdout: '' })
    expect(taken.stderr).toMatch(/choose another with --port/)
    const link = join(folder, 'link')
    await symlink(policyFile, link)
    const led = await subrosa('proxy', '--worker', 'http://127.0.0.1:1', '--port', '0', '--token-out', link)
    expect(led).toMatchObject({ status: 2, stdout: '' })
  })
})

describe('examples', () => {
  it('chat.mjs', async () => {
    const { stdout } = await run(process.execPath, [example('chat.mjs')], { env })
    expect(stdout).toContain('Paris')
  })

  it.each(runtimes)(
    'direct.mjs under %s, which also checks the receipt; and refuses what it should',
    async (_, program, ...flags) => {
      const { stdout, stderr } = await run(program, [...flags, example('direct.mjs'), worker.url, policyFile])
      expect(stdout).toContain('Paris')
      expect(stderr).toContain('receipt accepted')
      const strict = join(folder, 'strict.yaml')
      await writeFile(strict, 'schema: subrosa-policy/1\n')
      const refused = run(program, [...flags, example('direct.mjs'), worker.url, strict])
      await expect(refused).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining('not sent:') })
    },
  )

  it('langchain.mjs', async () => {
    const { stdout } = await run(process.execPath, [example('langchain.mjs')], {
      env: { ...env, SUBROSA_MODEL: worker.model.id },
    })
    expect(stdout).toContain('Paris')
  })

  it.skipIf(!has('python3'))('chat.py', async () => {
    const { stdout } = await run('python3', [example('chat.py')], { env })
    expect(stdout).toContain('Paris')
  })

  it.skipIf(!has('curl'))('chat.sh', async () => {
    const { stdout } = await run('sh', [example('chat.sh'), worker.model.id], { env })
    expect(stdout).toContain('Paris')
  })
})

it('the proxy stops when told', async () => {
  proxy.kill('SIGTERM')
  const [status] = (await once(proxy, 'close')) as [number | null]
  expect(status).toBe(0)
})

/** A worker writes nothing: a whole run, with a home and a temporary folder of its own, leaves both empty. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { connect } from '../../client/index.js'

const program = fileURLToPath(new URL('../../dist/client/cli.js', import.meta.url))

it('leaves no file behind, the runtime’s telemetry included', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-footprint-'))
  const [home, tmp, out] = ['home', 'tmp', 'out'].map((name) => join(folder, name)) as [string, string, string]
  await Promise.all([home, tmp, out].map((path) => mkdir(path)))
  const anchor = join(out, 'root.pem')
  const child = spawn(
    process.execPath,
    [program, 'serve', '--simulated', '--port', '0', '--trust-anchor-out', anchor],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { PATH: process.env['PATH'], HOME: home, TMPDIR: tmp },
    },
  )
  let banner = ''
  for await (const piece of child.stdout) {
    banner += piece
    if (banner.includes('its roots')) break
  }
  const session = await connect(/http:\/\/\S+/.exec(banner)?.[0] ?? '', {
    policy: {
      schema: 'subrosa-policy/1',
      trustAnchors: [await readFile(anchor, 'utf8')],
      allowNonVendorRoot: true,
      measurements: 'any',
      model: 'any',
    },
  })
  const response = await session.fetch(`${session.baseURL}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'subrosa-demo', messages: [{ role: 'user', content: 'Who are you?' }] }),
  })
  expect(response.status).toBe(200)
  await response.text()
  child.kill('SIGTERM')
  await once(child, 'close')
  expect(await readdir(home, { recursive: true })).toEqual([])
  expect(await readdir(tmp, { recursive: true })).toEqual([])
  await rm(folder, { recursive: true, force: true })
})

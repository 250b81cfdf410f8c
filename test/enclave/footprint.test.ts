/**
 * What a worker leaves where others can see it, over a whole run of the built program: nothing on disk, and no word of a prompt,
 * an answer or a key on the wire (both directions recorded by a proxy before it), in its output at its most talkative, in
 * its metrics, errors, environment and command line.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { connect } from '../../client/index.js'
import { chooseVulkanDevice } from '../support/vulkan.js'
import { tapWire } from '../support/worker.js'

const program = fileURLToPath(new URL('../../dist/client/cli.js', import.meta.url))
const CANARY = 'kookaburra-7193'

const DEVICES = [
  ['cpu', undefined],
  ['webgpu', chooseVulkanDevice()],
] as const
/** Where the device in software keeps its programs: in memory. */
const DEVICE_PROGRAMS = '/memfd:swiftshader_jit (deleted)'

it.for(DEVICES)('on %s leaves no file behind, and no word of what was said', async ([device, lacking], { skip }) => {
  skip(lacking !== undefined, lacking)
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-footprint-'))
  const [home, tmp, out] = ['home', 'tmp', 'out'].map((name) => join(folder, name)) as [string, string, string]
  await Promise.all([home, tmp, out].map((path) => mkdir(path)))
  const anchor = join(out, 'root.pem')
  const child = spawn(
    process.execPath,
    [program, 'serve', '--simulated', '--port', '0', '--trust-anchor-out', anchor, '--verbose', '--device', device],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env['PATH'],
        HOME: home,
        TMPDIR: tmp,
        ...(device === 'webgpu' ? { VK_ICD_FILENAMES: process.env['VK_ICD_FILENAMES'] } : {}),
      },
    },
  )
  const output: Buffer[] = []
  child.stderr.on('data', (piece: Buffer) => output.push(piece))
  const started = new Promise<string>((resolve) => {
    child.stdout.on('data', (piece: Buffer) => {
      output.push(piece)
      const text = Buffer.concat(output).toString()
      if (text.includes('its roots')) resolve(/http:\/\/\S+/.exec(text)?.[0] ?? '')
    })
  })
  const tap = await tapWire(await started)
  const session = await connect(tap.url, {
    policy: {
      schema: 'subrosa-policy/1',
      trustAnchors: [await readFile(anchor, 'utf8')],
      allowNonVendorRoot: true,
      measurements: 'any',
      model: 'any',
    },
  })
  const ask = (body: object) =>
    session.fetch(`${session.baseURL}/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
  const messages = [{ role: 'user', content: `Repeat after me: ${CANARY} river stone` }]
  const answers: string[] = []
  for (const stream of [false, true]) {
    const response = await ask({ model: 'subrosa-demo', messages, temperature: 0, stream })
    expect(response.status).toBe(200)
    answers.push(await response.text())
  }
  expect((await ask({ model: CANARY, messages })).status).toBe(404)
  expect((await ask({ model: 'subrosa-demo', messages, [CANARY]: 1, n: 9 })).status).toBe(400)
  expect((await fetch(`${tap.url}/v1/models/${encodeURIComponent('x')}`)).status).toBeGreaterThanOrEqual(400)

  const proc = (name: string): Promise<Buffer> => readFile(`/proc/${child.pid}/${name}`)
  const seen: Buffer[] = [tap.bytes(), Buffer.from(await (await fetch(`${tap.url}/metrics`)).text())]
  if (process.platform === 'linux') {
    seen.push(await proc('environ'), await proc('cmdline'))
    const open = await Promise.all(
      (await readdir(`/proc/${child.pid}/fd`)).map((fd) => readlink(`/proc/${child.pid}/fd/${fd}`).catch(() => '')),
    )
    const kept = open.filter((path) => path !== DEVICE_PROGRAMS || device === 'cpu')
    expect(kept.filter((path) => path.startsWith(tmpdir()) || /memfd|deleted/.test(path))).toEqual([])
  }
  child.kill('SIGTERM')
  await once(child, 'close')
  await tap.close()

  const everything = Buffer.concat([...seen, ...output]).toString('latin1')
  // The haystack has what it should: the log speaks of these requests.
  expect(everything).toMatch(/"event":"inference\.done"[\s\S]*"event":"worker\.stopped"/)
  const id = /chatcmpl-[\w-]+/.exec(answers.join())?.[0] ?? ''
  expect(id).toMatch(/^chatcmpl-.{22}$/)
  for (const word of [
    CANARY,
    Buffer.from(CANARY).toString('base64').slice(0, 19),
    'Repeat after me',
    'river stone',
    id,
  ]) {
    expect([word, everything.includes(word)]).toEqual([word, false])
  }
  expect(everything).not.toMatch(/PRIVATE KEY|AGE-SECRET/)
  expect(await readdir(home, { recursive: true })).toEqual([])
  expect(await readdir(tmp, { recursive: true })).toEqual([])
  await rm(folder, { recursive: true, force: true })
})

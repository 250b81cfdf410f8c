/** A whole worker on a real loopback socket: the demo model, the simulated machine, and the command line's words. */
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { fetchLine } from '../../client/lines.js'
import { createTransport, type Transport } from '../../client/transport.js'
import { banner, registerServe } from '../../enclave/cli.js'
import { configurationDigest, encodeHostConfiguration } from '../../enclave/config.js'
import { type RunningWorker, serve } from '../../enclave/serve.js'
import { engineLabel } from '../../enclave/worker.js'
import { parseBundle } from '../../verifier/protocol/bundle.js'
import { toBase64Url } from '../../verifier/protocol/bytes.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { KEM_X25519_HKDF_SHA256 } from '../../verifier/protocol/hpke.js'
import { parseSignedKeyConfigurations } from '../../verifier/protocol/key-configuration.js'
import { parseKeyConfiguration } from '../../verifier/protocol/ohttp-keys.js'
import { parseClaims, reportDataFor } from '../../verifier/protocol/statement.js'
import { sealedTo } from '../support/worker.js'
import { chatRequest, eventsOf, MODEL, stubEngine } from './stub.js'

let worker: RunningWorker
let transport: Transport
const lines: string[] = []

beforeAll(async () => {
  worker = await serve({ simulated: true, port: 0, logLevel: 'info', writeLog: (line) => lines.push(line) })
  const response = await fetch(`${worker.url}/.well-known/ohttp-keys`, {
    headers: { accept: 'application/vnd.subrosa.key-configurations+cbor' },
  })
  const [signed] = parseSignedKeyConfigurations(new Uint8Array(await response.arrayBuffer()))
  if (signed === undefined) throw new Error('no keys')
  transport = createTransport({
    endpoint: new URL(`${worker.url}/ohttp`),
    keyConfiguration: () => signed.configuration,
    now: () => new Date(),
    line: fetchLine(globalThis.fetch),
  })
})

afterAll(async () => {
  await worker?.close()
})

const ask = (body: object): ReturnType<Transport> =>
  transport(
    chatRequest(
      JSON.stringify({
        model: worker.model.id,
        messages: [{ role: 'user', content: 'What does attestation prove?' }],
        temperature: 0,
        max_tokens: 24,
        ...body,
      }),
    ),
  )

describe('serve', () => {
  it('attests with real report bytes and everything needed to check them', async () => {
    const nonce = crypto.getRandomValues(new Uint8Array(32))
    const response = await fetch(`${worker.url}/.well-known/attestation?nonce=${toBase64Url(nonce)}`)
    const bundle = parseBundle(new Uint8Array(await response.arrayBuffer()))
    const { statement } = parseClaims(bundle.claims)
    const report = bundle.cpu.evidence
    expect(report).toHaveLength(1184)
    expect(report.slice(0x50, 0x90)).toEqual(reportDataFor(bundle.claims))
    expect(report.slice(0xc0, 0xe0)).toEqual(statement.configDigest)
    expect(bundle.nonceProof?.nonce).toEqual(nonce)
    const types = new Set(bundle.endorsements.map(({ type }) => type))
    expect(types).toEqual(
      new Set(['application/pkix-cert', 'application/pkix-crl', 'application/xml', 'application/ocsp-response']),
    )
    expect(parseClaims(bundle.claims).gpuEvidenceDigests).toEqual(bundle.gpus.map(sha256))
    expect(bundle.gpus).toHaveLength(1)
    expect(worker.rootsPem).toContain('BEGIN CERTIFICATE')
  })

  it('publishes the post-quantum suite', async () => {
    const response = await fetch(`${worker.url}/.well-known/ohttp-keys`)
    const list = new Uint8Array(await response.arrayBuffer())
    expect(parseKeyConfiguration(list.slice(2)).kemId).toBe(0x647a)
  })

  it('answers sealed prompts with the real model, streamed and whole alike, with a receipt', async () => {
    const whole = await ask({})
    const { choices, usage } = await whole.response.json()
    expect(choices[0].message.content.length).toBeGreaterThan(10)
    expect((await whole.trailers).get('subrosa-receipt')?.split('.')).toHaveLength(3)

    const streamed = await ask({ stream: true, stream_options: { include_usage: true } })
    const events = eventsOf(await streamed.response.text())
    expect(events.at(-1)).toBe('[DONE]')
    const chunks = events.slice(0, -1).map((data) => JSON.parse(data))
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe(choices[0].message.content)
    expect(chunks.at(-1).usage).toEqual(usage)
    expect((await streamed.trailers).get('subrosa-receipt')?.split('.')).toHaveLength(3)
  })

  it('refuses a plaintext prompt without waiting for it, and ends the connection', async () => {
    const { port } = new URL(worker.url)
    const socket = connect(Number(port), '127.0.0.1')
    socket.write(
      'POST /v1/chat/completions HTTP/1.1\r\nhost: worker\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n',
    )
    const [data] = await once(socket, 'data')
    expect(String(data)).toMatch(/^HTTP\/1.1 403 /)
    expect(String(data).toLowerCase()).toContain('connection: close')
    await once(socket, 'close')
  })

  it('logs what happened in fixed fields, and nothing else', () => {
    const names = new Set(lines.flatMap((line) => Object.keys(JSON.parse(line))))
    const allowed = ['time', 'level', 'event', 'route', 'status', 'durationMs', 'count', 'port', 'code', 'platform']
    expect([...names].filter((name) => !allowed.includes(name))).toEqual([])
    expect(lines.join('')).not.toContain('attestation prove')
  })

  it('closes while an answer is running, without hanging', async () => {
    const own = await serve({
      simulated: true,
      port: 0,
      kemIds: [KEM_X25519_HKDF_SHA256],
      writeLog: () => undefined,
      engine: {
        engine: stubEngine({
          answer: {
            *[Symbol.iterator]() {
              for (;;) yield 'x'
            },
          },
          contextLength: 1_000_000,
          step: () => new Promise((resolve) => setTimeout(resolve, 20)),
        }),
        model: MODEL,
      },
    })
    const send = await sealedTo(own)
    const { response } = await send(
      chatRequest(JSON.stringify({ model: MODEL.id, messages: [{ role: 'user', content: 'x' }], stream: true })),
    )
    const reader = response.body!.getReader()
    await reader.read()
    await Promise.all([own.close(), own.close()])
    await expect(
      (async () => {
        for (;;) if ((await reader.read()).done) return 'whole'
      })(),
    ).rejects.toThrow()
    await expect(fetch(own.url)).rejects.toThrow()
  })

  it('says in one sentence which port is taken, which model is unusable, and that there is no TEE', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    const stub = { engine: stubEngine(), model: MODEL }
    await expect(serve({ simulated: true, port, engine: stub })).rejects.toMatchObject({
      code: 'worker.port',
      message: `port ${port} on 127.0.0.1 is in use: stop what listens there, or choose another with --port`,
    })
    other.close()
    await expect(serve({ simulated: true, modelDirectory: '/nowhere' })).rejects.toMatchObject({ code: 'worker.model' })
    await expect(serve({ engine: stub })).rejects.toMatchObject({ code: 'worker.no-tee' })
  })

  it('names all that a device lacks, and never computes elsewhere in its place (P-8.11)', async () => {
    const cuda = { simulated: true, port: 0, device: 'cuda' } as const
    await expect(serve(cuda)).rejects.toMatchObject({
      code: 'worker.device',
      message: expect.stringMatching(/^device cuda: /),
    })
    await expect(serve({ ...cuda, server: {} })).rejects.toMatchObject({ code: 'worker.option' })
  })

  it('takes the device of the configuration it was launched with, not the one it was told (P-8.11)', async () => {
    const engine = stubEngine()
    const configuration = encodeHostConfiguration({
      model: { id: MODEL.id, weightsRoot: MODEL.weightsRoot },
      padding: 'tick',
      engine: engineLabel(engine),
      device: 'webgpu',
    })
    const launched = {
      simulated: true,
      port: 0,
      configuration,
      simulatedHostData: configurationDigest('snp', configuration),
      engine: { engine, model: MODEL },
    }
    const own = await serve({ ...launched, device: 'cuda' })
    await own.close()
    await expect(
      serve({
        ...launched,
        configuration: encodeHostConfiguration({
          model: { id: MODEL.id, weightsRoot: MODEL.weightsRoot },
          padding: 'tick',
          engine: engineLabel(engine),
        }),
      }),
    ).rejects.toMatchObject({ code: 'worker.host-data' })
  })
})

describe('subrosa serve', () => {
  async function run(...argv: string[]): Promise<{ out: string; err: string; status: unknown }> {
    const out: string[] = []
    const err: string[] = []
    const stdout = vi.spyOn(process.stdout, 'write').mockImplementation((text) => out.push(String(text)) > 0)
    const stderr = vi.spyOn(process.stderr, 'write').mockImplementation((text) => err.push(String(text)) > 0)
    const before = process.exitCode
    const program = new Command('subrosa').exitOverride()
    try {
      registerServe(program)
      program.commands[0]?.exitOverride()
      await program
        .parseAsync(['node', 'subrosa', 'serve', ...argv])
        .catch((error: { code: string }) => err.push(error.code))
      return { out: out.join(''), err: err.join(''), status: process.exitCode }
    } finally {
      process.exitCode = before
      stdout.mockRestore()
      stderr.mockRestore()
    }
  }

  it.each([
    ['cuda', 1, /^subrosa serve: device cuda: .*\n$/],
    ['tpu', undefined, /cpu, cuda, webgpu[\s\S]*commander\.invalidArgument/],
  ])('says what device %s lacks', async (device, code, words) => {
    const { out, err, status } = await run('--simulated', '--port', '0', '--device', device)
    expect([out, status]).toEqual(['', code])
    expect(err).toMatch(words)
  })

  it('refuses to serve without a TEE, in one sentence', async () => {
    const { out, err, status } = await run()
    expect(status).toBe(1)
    expect(out).toBe('')
    expect(err).toMatch(/^subrosa serve: .*--simulated\n$/)
  })

  it.each([
    [['--port', '70000'], 'expected a number from 0 to 65535'],
    [['--padding', 'none'], 'tick, off'],
    [['--unknown'], "unknown option '--unknown'"],
    [['--trust-anchor-out', '/x'], '--trust-anchor-out needs --simulated'],
  ])('refuses %j', async (argv, message) => {
    expect((await run(...argv)).err).toContain(message)
  })

  it('shows a stack only with --verbose', async () => {
    expect((await run('--verbose')).err).toContain('    at ')
  })

  it('prints one banner, writes the root, and closes on a signal', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'subrosa-'))
    try {
      const file = join(folder, 'root.pem')
      const { out, err } = await run('--simulated', '--port', '0', '--trust-anchor-out', file)
      expect(err).toBe('')
      expect(out).toContain('SIMULATED')
      expect(out).toContain(file)
      expect(await readFile(file, 'utf8')).toContain('BEGIN CERTIFICATE')
      const url = /http:\S+/.exec(out)?.[0] ?? ''
      expect((await fetch(`${url}/readyz`)).status).toBe(200)
      process.emit('SIGTERM')
      await vi.waitFor(() => expect(fetch(url)).rejects.toThrow(), 5000)
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('never calls a real machine simulated, nor the other way round', () => {
    const base = { url: 'http://x', model: { id: 'm', title: 'M', sealed: false }, padding: 'tick' } as const
    const real = banner({ ...base, platform: { name: 'configfs-tsm', kind: 'tdx', simulated: false } })
    expect(real).toContain('Intel TDX through configfs-tsm')
    expect(real).not.toContain('SIMULATED')
  })
})

describe('runtime registers', () => {
  it('are refused where the machine has none, instead of left out', async () => {
    const refused = serve({
      simulated: true,
      port: 0,
      engine: { engine: stubEngine(), model: MODEL },
      extendRuntimeRegister: true,
    })
    await expect(refused).rejects.toMatchObject({ code: 'worker.option' })
  })
})

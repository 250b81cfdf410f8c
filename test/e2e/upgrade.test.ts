/**
 * The upgrade of docs/providers.md, with the proxy configuration written there: a stream of the old worker ends whole while new
 * requests reach the new one. It takes nginx and openssl, and is skipped without.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fetchLine } from '../../client/lines.js'
import { createTransport } from '../../client/transport.js'
import { type RunningWorker, serve } from '../../enclave/serve.js'
import { chatRequest, eventsOf, MODEL, stubEngine } from '../enclave/stub.js'

const missing = ['nginx', 'openssl'].filter(
  (name) => spawnSync(name, [name === 'nginx' ? '-v' : 'version']).status !== 0,
)

const document = readFileSync(join(import.meta.dirname, '../../docs/providers.md'), 'utf8')
const configuration = /```nginx\n([\s\S]*?)```/.exec(document)?.[1] ?? ''

describe.skipIf(missing.length > 0)(
  `an upgrade behind nginx${missing.length > 0 ? ` (no ${missing.join(', ')} here)` : ''}`,
  () => {
    let folder: string
    let nginx: ChildProcess
    let port: number
    let release: () => void
    const workers: RunningWorker[] = []
    const accepted = process.env['NODE_TLS_REJECT_UNAUTHORIZED']

    const configure = (worker: RunningWorker): Promise<void> => {
      const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
        (n) => `${n}_temp_path ${folder}/${n};`,
      )
      const here = configuration
        .replace('http {', `http {\n  ${temporary.join('\n  ')}`)
        .replace('127.0.0.1:8080', new URL(worker.url).host)
        .replace('listen 443 ssl', `listen 127.0.0.1:${port} ssl`)
        .replaceAll('/etc/subrosa/', `${folder}/`)
      return writeFile(join(folder, 'nginx.conf'), here)
    }

    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'subrosa-upgrade-'))
      const pem = ['-keyout', join(folder, 'tls.key'), '-out', join(folder, 'tls.pem')]
      const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1']
      spawnSync('openssl', ['req', '-x509', ...curve, '-subj', '/CN=127.0.0.1', ...pem])
      // The seal does not rest on TLS, and a certificate of a test is nobody's.
      process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0'
      const gate = new Promise<void>((resolve) => {
        release = resolve
      })
      let steps = 0
      const slow = stubEngine({ step: () => (steps++ < 2 ? Promise.resolve() : gate) })
      for (const engine of [slow, stubEngine()]) {
        workers.push(
          await serve({
            simulated: true,
            simulatedGpus: 0,
            port: 0,
            writeLog: () => undefined,
            engine: { engine, model: MODEL },
          }),
        )
      }
      const probe = createServer().listen(0, '127.0.0.1')
      await once(probe, 'listening')
      port = (probe.address() as { port: number }).port
      probe.close()
      await configure(workers[0] as RunningWorker)
      const settings = `daemon off; pid ${folder}/pid; error_log ${folder}/errors;`
      nginx = spawn('nginx', ['-p', folder, '-e', `${folder}/errors`, '-c', `${folder}/nginx.conf`, '-g', settings])
      await answering('/readyz')
    })

    afterAll(async () => {
      if (accepted === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']
      else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = accepted
      nginx?.kill('SIGTERM')
      await Promise.all(workers.map((worker) => worker.close()))
      await rm(folder, { recursive: true, force: true })
    })

    const address = (path: string): string => `https://127.0.0.1:${port}${path}`

    async function answering(path: string): Promise<void> {
      for (;;) {
        const status = await fetch(address(path)).then(
          (response) => response.status,
          () => 0,
        )
        if (status === 200) return
        if (nginx.exitCode !== null) throw new Error(`nginx ended: ${readFileSync(join(folder, 'errors'), 'utf8')}`)
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }

    const keysNow = async () => new Uint8Array(await (await fetch(address('/.well-known/ohttp-keys'))).arrayBuffer())

    const sealedTo = (keys: Uint8Array<ArrayBuffer>) => {
      const send = createTransport({
        endpoint: new URL(address('/ohttp')),
        keyConfiguration: () => keys.slice(2),
        now: () => new Date(),
        line: fetchLine(globalThis.fetch),
      })
      const body = { model: MODEL.id, messages: [{ role: 'user', content: 'x' }], stream: true }
      return () => send(chatRequest(JSON.stringify(body)))
    }

    it('lets the old stream end whole, and leads new requests to the new worker', async () => {
      const [old, next] = workers as [RunningWorker, RunningWorker]
      const oldKeys = await keysNow()
      const { response, trailers } = await sealedTo(oldKeys)()
      expect((await fetch(address('/metrics'))).status).toBe(403)

      await configure(next)
      nginx.kill('SIGHUP')
      let newKeys = await keysNow()
      while (Buffer.from(newKeys).equals(Buffer.from(oldKeys))) newKeys = await keysNow()
      const drained = old.drain(60_000)

      await expect(sealedTo(oldKeys)()).rejects.toMatchObject({ code: 'transport.key-refused' })
      const fresh = await sealedTo(newKeys)()
      expect(eventsOf(await fresh.response.text()).at(-1)).toBe('[DONE]')

      release()
      expect(eventsOf(await response.text()).at(-1)).toBe('[DONE]')
      expect((await trailers).get('subrosa-receipt')).toBeTruthy()
      expect(await drained).toBe(true)
    })
  },
)

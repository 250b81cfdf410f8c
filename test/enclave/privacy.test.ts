/**
 * Nothing of a prompt, an answer or a key may leave except inside the encryption. A canary goes through every path that
 * works and every path that fails, and is then looked for in everything that can be seen from outside.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { createLogger, type LogFields } from '../../enclave/log.js'
import { toBase64, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { chatRequest, HELLO, MODEL, NOW, stubEngine, testWorker } from './stub.js'

const CANARY = 'canary-7f3a9c'
const needles = [CANARY, toHex(utf8(CANARY)), toBase64(utf8(CANARY)).replace(/=+$/, '')]

const prompt = { ...HELLO, messages: [{ role: 'user', content: CANARY }] }

describe('privacy', () => {
  it('keeps a canary out of logs, metrics, plain responses and inner errors', async () => {
    const seen: string[] = []
    for (const engine of [
      stubEngine({ answer: [CANARY, ' ', CANARY] }),
      stubEngine({ failAfter: 1 }),
      stubEngine({ contextLength: 3 }),
    ]) {
      const { worker, transport, chat, lines, clock } = await testWorker({ engine })
      await (await chat(prompt)).text()
      await (await chat({ ...prompt, stream: true })).text().catch(() => undefined)
      const inner = [
        JSON.stringify(prompt).slice(0, -3),
        CANARY,
        { ...prompt, model: CANARY },
        { ...prompt, temperature: CANARY },
        { ...prompt, messages: [{ role: CANARY, content: CANARY }] },
        { ...prompt, messages: [{ role: 'user', content: `${CANARY}<invalid>` }] },
        { ...prompt, [CANARY]: CANARY, n: 9 },
        { ...prompt, response_format: { type: CANARY } },
        { ...prompt, stop: [CANARY.repeat(100)] },
      ]
      for (const body of inner) {
        const response = await chat(body)
        expect(response.status).toBeGreaterThanOrEqual(400)
        seen.push(await response.text(), JSON.stringify([...response.headers]))
      }
      const lost = await transport(new Request(`https://worker.example/v1/${CANARY}?q=${CANARY}`))
      seen.push(await lost.response.text())

      const outer = [
        new Request(`http://worker.example/v1/chat/completions?${CANARY}`, {
          method: 'POST',
          body: JSON.stringify(prompt),
          headers: { authorization: `Bearer ${CANARY}` },
        }),
        new Request(`http://worker.example/${CANARY}`),
        new Request(`http://worker.example/.well-known/attestation?nonce=${CANARY}`),
        new Request('http://worker.example/ohttp', {
          method: 'POST',
          body: CANARY,
          headers: { 'content-type': 'message/ohttp-chunked-req', 'subrosa-key': CANARY },
        }),
        new Request('http://worker.example/ohttp', {
          method: 'POST',
          body: CANARY,
          headers: { 'content-type': CANARY },
        }),
      ]
      for (const request of outer) {
        const response = await worker.fetch(request)
        expect(response.status).toBeGreaterThanOrEqual(400)
        seen.push(await response.text(), JSON.stringify([...response.headers]))
      }
      clock.at = new Date(clock.at.getTime() + 120_000)
      seen.push(await (await worker.fetch(new Request('http://worker.example/metrics'))).text(), ...lines)
      expect(lines.length).toBeGreaterThan(10)
    }
    const everything = seen.join('\n')
    for (const needle of needles) expect(everything).not.toContain(needle)
    // The model's own id is public; it shows that the haystack is not empty.
    expect(everything).toContain(MODEL.id)
  })

  it('sends nothing readable over the wire, and the same number of bytes for answers of one size class', async () => {
    const lengths = new Set<number>()
    for (const answer of [['a'], ['abcdef'], [CANARY, CANARY]]) {
      const { worker, transport } = await testWorker({ engine: stubEngine({ answer }) })
      const wire: Uint8Array[] = []
      const { createTransport } = await import('../../client/transport.js')
      const { fetchLine } = await import('../../client/lines.js')
      const keys = await worker.fetch(new Request('http://worker.example/.well-known/ohttp-keys'))
      const list = new Uint8Array(await keys.arrayBuffer())
      const recorded = createTransport({
        endpoint: new URL('http://worker.example/ohttp'),
        keyConfiguration: () => list.slice(2),
        now: () => NOW,
        line: fetchLine(async (input, init) => {
          const outer = new Request(input, init)
          wire.push(new Uint8Array(await outer.clone().arrayBuffer()))
          const response = await worker.fetch(outer)
          const bytes = new Uint8Array(await response.arrayBuffer())
          wire.push(bytes)
          return new Response(bytes, response)
        }),
      })
      const { response } = await recorded(chatRequest(JSON.stringify({ ...prompt, seed: 1, max_tokens: 9 })))
      expect(await response.text()).toContain(answer.join(''))
      const text = wire.map((bytes) => new TextDecoder('latin1').decode(bytes)).join('\n')
      for (const needle of needles) expect(text).not.toContain(needle)
      lengths.add(wire.at(-1)?.length ?? 0)
      expect(transport).toBeDefined()
    }
    expect(lengths.size).toBe(1)
  })

  it('has a log that drops what is not on its list', () => {
    const lines: string[] = []
    const log = createLogger({ write: (line) => lines.push(line), now: () => NOW })
    const smuggled = { code: `${CANARY} with spaces`, prompt: CANARY, status: CANARY, durationMs: 1.6 }
    log.error('request.failed', smuggled as unknown as LogFields)
    expect(lines).toEqual([
      '{"time":"2026-03-01T12:00:00.000Z","level":"error","event":"request.failed","durationMs":2}\n',
    ])
  })

  it('touches the file system in few places only, and writes at the command line only', () => {
    const folder = new URL('../../enclave/', import.meta.url)
    const importers = readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts') && !name.includes('node_modules'))
      .filter((name) => /from '(node:)?fs(\/promises)?'/.test(readFileSync(new URL(name, folder), 'utf8')))
    // library.ts hashes the runtime, cuda.ts and elf.ts read what lies beside it, package.ts reads the model, serve.ts looks for it, image.ts reads what the host handed over,
    // server/config.ts hashes an inference server's program, server/launch.ts takes away a socket that an earlier one left,
    // public-key.ts reads a key that the command line names, kernel-files.ts talks to the kernel, ready-keeper.ts to a process that init started, cli.ts writes the simulated root, cli-model.ts is not part of the worker: an owner seals a
    // package with it.
    const known = [
      'cli-model.ts',
      'cli.ts',
      'image.ts',
      'inference/ort/cuda.ts',
      'inference/ort/elf.ts',
      'inference/ort/library.ts',
      'inference/package.ts',
      'inference/server/config.ts',
      'inference/server/launch.ts',
      'platforms/kernel-files.ts',
      'platforms/ready-keeper.ts',
      'public-key.ts',
      'serve.ts',
    ]
    expect(importers.filter((name) => !known.includes(name))).toEqual([])
  })
})

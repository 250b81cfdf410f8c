/** What the sealed channel costs in time and bytes, what its sizes give away, and how many clients share a report. */
import { reachOverLines } from '../../client/reach-here.js'
import { createTransport } from '../../client/transport.js'
import { encodeRequest } from '../../verifier/protocol/bhttp.js'
import { toBase64Url, utf8 } from '../../verifier/protocol/bytes.js'
import { nodeCrypto } from '../../verifier/protocol/node-crypto.js'
import { sealRequest } from '../../verifier/protocol/ohttp.js'
import type { PaddingMode } from '../../verifier/protocol/statement.js'
import { StreamReader, streamOf } from '../../verifier/protocol/streams.js'
import {
  createBenchWorker,
  createPlainServer,
  type DemoModel,
  loadDemoModel,
  plainOnLoopback,
  workerOnLoopback,
} from './channel-worker.js'
import { type Leak, leakOf } from './leak.js'
import { type Contest, type Figure, measure, median } from './measure.js'

/** Most that the sizes of sealed records may tell, in bits a record, and most that hiding the rest may cost in bytes. */
export const LEAK_TARGETS = { bitsPerRecord: 0.05, bytesRatio: 1.4 } as const

/** Most that the channel may add to a first token, in milliseconds: where this Node has ML-KEM of its own (from 24.7 on), and where JavaScript computes it. */
const TTFT_TARGETS_MS = { native: 1.5, javaScript: 8 } as const

const CLIENTS = 200

export const CHANNEL_BENCHMARKS: readonly Figure[] = [
  {
    name: 'channel.ttft-ms',
    unit: 'ms',
    against:
      'the same inner application in plaintext on loopback; ours minus theirs, from the call to the first byte of a streamed answer; MLKEM768-X25519, padding off, one token; 20 ms between two requests',
    target: nodeCrypto()?.encapsulate === undefined ? TTFT_TARGETS_MS.javaScript : TTFT_TARGETS_MS.native,
    rounds: 200,
    async figure(rounds) {
      const { oursMs, theirsMs } = await measure(await overLoopback(1), rounds)
      return { value: oursMs - theirsMs, detail: `${oursMs.toFixed(2)} ms − ${theirsMs.toFixed(2)} ms` }
    },
  },
  {
    name: 'channel.throughput',
    unit: 'ratio',
    better: 'higher',
    against:
      'the same inner application in plaintext on loopback; tokens a second of one streamed answer from its first byte to its end, ours ÷ theirs; padding off: one record a token',
    target: 0.98,
    rounds: 24,
    async figure(rounds) {
      const { ours, theirs, before } = await overLoopback(Number.POSITIVE_INFINITY)
      const spent: Record<'ours' | 'theirs', number[]> = { ours: [], theirs: [] }
      for (let round = -4; round < rounds; round++) {
        for (const side of round % 2 === 0 ? (['ours', 'theirs'] as const) : (['theirs', 'ours'] as const)) {
          await before()
          const ms = await (side === 'ours' ? ours() : theirs())
          if (round >= 0) spent[side].push(ms)
        }
      }
      const [oursMs, theirsMs] = [median(spent.ours), median(spent.theirs)]
      const added = (oursMs - theirsMs).toFixed(1)
      return {
        value: theirsMs / oursMs,
        detail: `${oursMs.toFixed(1)} ms ÷ ${theirsMs.toFixed(1)} ms, ${added} ms added`,
      }
    },
  },
  {
    name: 'channel.leak-bits',
    unit: 'bit/record',
    against:
      'nothing: entropy of the sizes of sealed records given their place, over streamed answers of the demo model',
    target: LEAK_TARGETS.bitsPerRecord,
    rounds: 2,
    async figure(rounds) {
      const { tick, off } = await recordedLeaks(rounds)
      return {
        value: tick.bitsPerRecord,
        detail: `${tick.records} records; ${off.bitsPerRecord.toFixed(2)} without padding`,
      }
    },
  },
  {
    name: 'channel.padding-bytes',
    unit: 'ratio',
    against: 'the same answers without padding; sealed bytes of streamed answers under tick ÷ under off',
    target: LEAK_TARGETS.bytesRatio,
    rounds: 2,
    async figure(rounds) {
      const { tick, off } = await recordedLeaks(rounds)
      return { value: tick.bytes / off.bytes, detail: `${tick.bytes} bytes and ${off.bytes}` }
    },
  },
  {
    name: 'attest.reports-per-nonce',
    unit: 'report/nonce',
    against: `nothing: hardware reports made for ${CLIENTS} clients that ask at once, each with its own nonce, 10 ms a report`,
    target: 0.1,
    rounds: 3,
    async figure(rounds) {
      const { worker, reports } = await createBenchWorker(await demoModel(), 'tick', { attestMs: 10 })
      for (let round = 0; round < rounds; round++) {
        await Promise.all(Array.from({ length: CLIENTS }, () => attest(worker)))
      }
      return { value: reports() / (rounds * CLIENTS), detail: `${reports()} reports for ${rounds * CLIENTS} nonces` }
    },
  },
]

const QUESTIONS = [
  'What is the capital of France?',
  'What is a nonce for?',
  'Count to 12.',
  'What does attestation prove?',
  'Repeat after me: quiet river stone',
  'Who can read my prompt?',
]

let loaded: Promise<DemoModel> | undefined
function demoModel(): Promise<DemoModel> {
  loaded ??= loadDemoModel()
  return loaded
}

let leaks: { rounds: number; result: Promise<{ tick: Leak; off: Leak }> } | undefined
/** Both figures come from one recording. */
function recordedLeaks(rounds: number): Promise<{ tick: Leak; off: Leak }> {
  if (leaks?.rounds !== rounds) leaks = { rounds, result: demoModel().then((model) => recordLeaks(model, rounds)) }
  return leaks.result
}

/** The same questions with the same seeds under both modes, `rounds` times each. */
export async function recordLeaks(model: DemoModel, rounds: number): Promise<{ tick: Leak; off: Leak }> {
  const record = async (padding: PaddingMode): Promise<Leak> => {
    const { worker, configuration } = await createBenchWorker(model, padding)
    const responses: Uint8Array[] = []
    for (let round = 0; round < rounds; round++) {
      for (const question of QUESTIONS) {
        const fields = [['date', new Date().toUTCString()]] as const
        const head = { method: 'POST', scheme: 'https', authority: 'a', path: '/v1/chat/completions', fields }
        const content = utf8(chatBody(model, question, { seed: round, temperature: round === 0 ? 0 : 1 }))
        const sealed = await sealRequest(configuration, streamOf(encodeRequest(head, content)))
        const body = await new StreamReader(sealed.body, 'request').rest(Number.POSITIVE_INFINITY)
        const headers = { 'content-type': 'message/ohttp-chunked-req' }
        const outer = await worker.fetch(new Request('http://worker/ohttp', { method: 'POST', headers, body }))
        if (outer.status !== 200) throw new Error(`the worker answered ${outer.status}`)
        responses.push(new Uint8Array(await outer.arrayBuffer()))
      }
    }
    return leakOf(responses)
  }
  return { tick: await record('tick'), off: await record('off') }
}

function chatBody({ model }: DemoModel, question: string, fields: object): string {
  return JSON.stringify({ model: model.id, messages: [{ role: 'user', content: question }], stream: true, ...fields })
}

interface Streams extends Contest {
  /** Resolve to the time from the first byte to the end in milliseconds; to nothing of use where that is not waited for. */
  ours(): Promise<number>
  theirs(): Promise<number>
  before(): Promise<unknown>
}

/** One streamed answer of at most `tokens` tokens, over sockets: to its first byte where that is 1, else to its end. */
async function overLoopback(tokens: number): Promise<Streams> {
  const model = await demoModel()
  const { worker, configuration } = await createBenchWorker(model, 'off')
  const sealed = new URL('/ohttp', await workerOnLoopback(worker))
  const plain = new URL('/v1/chat/completions', await plainOnLoopback(await createPlainServer(model, 'off')))
  const transport = createTransport({
    endpoint: sealed,
    line: (await reachOverLines())(sealed).take(false),
    keyConfiguration: () => configuration.encoded,
    now: () => new Date(),
  })
  const limit = { max_tokens: Number.isFinite(tokens) ? tokens : 64 }
  const body = chatBody(model, 'What does attestation prove?', { temperature: 0, seed: 1, ...limit })
  const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body }
  let rest: Promise<unknown> = Promise.resolve()
  const read = async ({ body: stream, status }: Response): Promise<number> => {
    const reader = stream?.getReader()
    if (status !== 200 || reader === undefined) throw new Error(`status ${status}`)
    await reader.read()
    const drain = async (): Promise<void> => {
      while (!(await reader.read()).done);
    }
    const first = performance.now()
    if (Number.isFinite(tokens)) rest = drain()
    else await drain()
    return performance.now() - first
  }
  // What is left of the answer before is not this one's to wait for; nor is the encapsulation for this one, which is made
  // while whoever asks reads and types.
  const before = async (): Promise<unknown> => {
    await rest
    return new Promise((resolve) => setTimeout(resolve, 20))
  }
  return {
    before,
    ours: async () => read((await transport(plain, init)).response),
    theirs: async () => read(await fetch(plain, init)),
  }
}

async function attest(worker: { fetch(request: Request): Promise<Response> }): Promise<void> {
  const nonce = toBase64Url(crypto.getRandomValues(new Uint8Array(32)))
  const response = await worker.fetch(new Request(`http://worker/.well-known/attestation?nonce=${nonce}`))
  if (response.status !== 200) throw new Error(`status ${response.status}`)
  await response.arrayBuffer()
}

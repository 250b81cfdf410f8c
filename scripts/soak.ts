/**
 * `npm run soak`: many sealed requests at once against one worker on loopback, its keys changing every few seconds, clients
 * leaving at random.
 *
 *   npm run soak [-- --seconds N] [-- --requests N] [-- --concurrent N] [-- --aborts SHARE]
 *
 * Each lane sends one request after another under its own session token. Every answer must be the one to its own prompt,
 * every receipt must verify against what passed, and a chain may lack only receipts of answers the lane abandoned. Memory
 * is printed as a slope, after full collections. Exit status 0 if all of it held, 1 if not, 2 on misuse.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { fetchLine } from '../client/lines.js'
import { withReceipt } from '../client/receipts.js'
import { createTransport } from '../client/transport.js'
import { GatewayRefusedError } from '../client/transport-errors.js'
import { parseBundle } from '../verifier/protocol/bundle.js'
import { type Bytes, toBase64Url, toBytes, utf8 } from '../verifier/protocol/bytes.js'
import { parseKeyConfigurations } from '../verifier/protocol/ohttp-keys.js'
import { parseClaims } from '../verifier/protocol/statement.js'
import { receiptDigest } from '../verifier/receipt.js'
import { createBenchWorker, workerOnLoopback } from './bench/channel-worker.js'
import { createEchoModel } from './soak/echo-engine.js'

export interface SoakOptions {
  readonly seconds: number
  readonly requests: number
  readonly concurrent: number
  /** Share of requests whose client leaves early, 0 to 1. */
  readonly aborts: number
}

export interface SoakReport {
  readonly answered: number
  readonly abandoned: number
  readonly receipts: number
  /** Configurations sealed to: rotation happened if there was more than one. */
  readonly keys: number
  /** Sealed anew because the key had gone. */
  readonly resealed: number
  readonly failures: readonly string[]
  readonly requestsPerSecond: number
  /** Of what is left after full collections, over the second half of the run. */
  readonly heapMiBPerMinute: number
  readonly rssMiBPerMinute: number
}

const KEY_LIFETIME_S = 6

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

export async function soak({ seconds, requests, concurrent, aborts }: SoakOptions): Promise<SoakReport> {
  const echo = createEchoModel(2)
  const { worker } = await createBenchWorker(echo, 'tick', { keyLifetimeS: KEY_LIFETIME_S })
  const origin = await workerOnLoopback(worker)
  const bundle = parseBundle(await get(new URL('/.well-known/attestation', origin)))
  const { statement, statementDigest } = parseClaims(bundle.claims)
  // What an accepted result would hold; nothing is appraised here.
  const verified = { statement, statementDigest, keyConfigurations: [], validUntil: new Date(8.64e15) }
  const keys = new Set<string>()
  let configuration: Bytes = new Uint8Array()
  const renewKey = async (): Promise<void> => {
    const list = parseKeyConfigurations(await get(new URL('/.well-known/ohttp-keys', origin)))
    configuration = list[0]?.encoded ?? configuration
    keys.add(toBase64Url(configuration))
  }
  await renewKey()
  const transport = createTransport({
    endpoint: new URL('/ohttp', origin),
    line: fetchLine(globalThis.fetch),
    keyConfiguration: () => configuration,
    now: () => new Date(),
  })

  const started = performance.now()
  const elapsedS = (): number => (performance.now() - started) / 1000
  const failures: string[] = []
  const memory: { readonly at: number; readonly heap: number; readonly rss: number }[] = []
  const tally = { sent: 0, answered: 0, abandoned: 0, receipts: 0, resealed: 0 }

  /** @throws whatever the channel throws; its failures are the caller's to judge. */
  async function exchange(prompt: string, token: string, signal: AbortSignal) {
    const stream = randomInt(2) === 0
    const message = { model: echo.model.id, messages: [{ role: 'user', content: prompt }], stream }
    const body = utf8(JSON.stringify(message))
    const headers = { 'content-type': 'application/json', 'subrosa-session': token }
    const send = () =>
      transport(new Request(new URL('/v1/chat/completions', origin), { method: 'POST', headers, body, signal }))
    const sealed = await send().catch(async (error: unknown) => {
      if (!(error instanceof GatewayRefusedError) || error.code !== 'transport.key-refused') throw error
      tally.resealed += 1
      await renewKey()
      return send()
    })
    const { response, receipt } = await withReceipt(sealed, toBytes(body), verified)
    const text = await response.text()
    if (response.status !== 200) throw new Error(`status ${response.status}`)
    return { answer: stream ? streamedText(text) : wholeText(text), receipt: await receipt }
  }

  async function lane(): Promise<void> {
    const token = toBase64Url(new Uint8Array(randomBytes(32)))
    // As little as shows a gap: whole receipts would look like a leak.
    const chain: Link[] = []
    let abandoned = 0
    while (tally.sent < requests && elapsedS() < seconds) {
      tally.sent += 1
      const prompt = randomBytes(randomInt(4, 200)).toString('hex')
      const leave = new AbortController()
      const leaving = Math.random() < aborts
      const timer = leaving ? setTimeout(() => leave.abort(), randomInt(120)) : undefined
      try {
        const { answer, receipt } = await exchange(prompt, token, leave.signal)
        tally.answered += 1
        if (answer !== prompt) failures.push('an answer is not the one to its prompt')
        if (receipt.verdict !== 'accepted') failures.push(`a receipt is ${receipt.verdict}`)
        tally.receipts += 1
        chain.push({
          seq: receipt.payload?.seq ?? -1,
          prev: receipt.payload?.prev ?? null,
          digest: receiptDigest(receipt.jws),
        })
      } catch (error) {
        if (!leave.signal.aborted)
          failures.push(error instanceof Error ? `${error.name}: ${error.message}` : String(error))
        tally.abandoned += 1
        abandoned += 1
      } finally {
        clearTimeout(timer)
      }
    }
    failures.push(...gapsOf(chain, abandoned))
  }

  const watch = setInterval(() => {
    collect()
    const { heapUsed, rss } = process.memoryUsage()
    memory.push({ at: elapsedS(), heap: heapUsed, rss })
    Promise.all([worker.refresh(), renewKey()]).catch((error: unknown) => failures.push(String(error)))
  }, 1000)
  await Promise.all(Array.from({ length: concurrent }, lane))
  clearInterval(watch)
  const requestsPerSecond = tally.sent / elapsedS()
  await worker.close()
  const late = memory.slice(Math.floor(memory.length / 2))
  return {
    answered: tally.answered,
    abandoned: tally.abandoned,
    receipts: tally.receipts,
    keys: keys.size,
    resealed: tally.resealed,
    failures,
    requestsPerSecond,
    heapMiBPerMinute: slope(late.map(({ at, heap }) => [at / 60, heap / 2 ** 20])),
    rssMiBPerMinute: slope(late.map(({ at, rss }) => [at / 60, rss / 2 ** 20])),
  }
}

interface Link {
  readonly seq: number
  readonly prev: string | null
  readonly digest: string
}

/** Numbers only rise, neighbours name each other, and no more are missing than answers were abandoned. */
function gapsOf(chain: readonly Link[], abandoned: number): string[] {
  const out: string[] = []
  for (const [i, { seq, prev }] of chain.entries()) {
    const before = chain[i - 1]
    const last = before?.seq ?? -1
    if (seq <= last) out.push('receipt numbers do not rise')
    if (seq === last + 1 && prev !== (before?.digest ?? null)) out.push('a receipt names another as the one before')
  }
  const missing = (chain.at(-1)?.seq ?? -1) + 1 - chain.length
  if (missing > abandoned) out.push(`${missing} receipts are missing, ${abandoned} answers were abandoned`)
  return out
}

async function get(url: URL): Promise<Bytes> {
  const response = await fetch(url)
  if (response.status !== 200) throw new Error(`${url.pathname}: status ${response.status}`)
  return new Uint8Array(await response.arrayBuffer())
}

interface ChatText {
  readonly choices?: readonly { readonly message?: { content?: string }; readonly delta?: { content?: string } }[]
}

function wholeText(text: string): string {
  return (JSON.parse(text) as ChatText).choices?.[0]?.message?.content ?? ''
}

function streamedText(text: string): string {
  const data = text.split('\n').filter((line) => line.startsWith('data: {'))
  return data.map((line) => (JSON.parse(line.slice(6)) as ChatText).choices?.[0]?.delta?.content ?? '').join('')
}

/** Least squares. */
function slope(points: readonly (readonly [number, number])[]): number {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
  const [x, y] = [mean(points.map((point) => point[0])), mean(points.map((point) => point[1]))]
  const over = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0)
  const under = points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0)
  return under === 0 ? 0 : over / under
}

async function main(): Promise<number> {
  const defaults = { seconds: '60', requests: '2000', concurrent: '32', aborts: '0.15' }
  const option = (name: keyof typeof defaults) => ({ type: 'string', default: defaults[name] }) as const
  let options: SoakOptions
  try {
    const names = ['seconds', 'requests', 'concurrent', 'aborts'] as const
    const { values } = parseArgs({ options: Object.fromEntries(names.map((name) => [name, option(name)])) })
    const number = (name: keyof typeof defaults): number => {
      const value = Number(values[name])
      if (!(value >= 0)) throw new Error(`--${name}: expected a number`)
      return value
    }
    const [seconds, requests, concurrent, aborts] = [
      number('seconds'),
      number('requests'),
      number('concurrent'),
      number('aborts'),
    ]
    options = { seconds, requests, concurrent, aborts }
  } catch (error) {
    process.stderr.write(`soak: ${error instanceof Error ? error.message : String(error)}\n`)
    return 2
  }
  const { failures, ...figures } = await soak(options)
  for (const [name, value] of Object.entries(figures))
    process.stdout.write(`${name.padEnd(18)} ${Number(value.toFixed(2))}\n`)
  for (const failure of new Set(failures)) {
    process.stdout.write(`FAILED  ${failures.filter((other) => other === failure).length} × ${failure}\n`)
  }
  process.stdout.write(failures.length === 0 ? 'every answer was its own, every receipt held\n' : '')
  return failures.length === 0 ? 0 : 1
}

if (process.argv[1] === import.meta.filename) process.exit(await main())

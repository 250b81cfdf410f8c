/**
 * `npm run soak`: many sealed requests at once against one worker on loopback, its keys changing every few seconds, clients
 * leaving at random.
 *
 *   npm run soak [-- --requests N] [-- --concurrent N] [-- --aborts SHARE] [-- --rotations N] [-- --key-lifetime S] [-- --seconds N]
 *
 * Each lane sends one request after another under its own session token. Every answer must be the one to its own prompt,
 * every receipt must verify against what passed, and a chain may lack only receipts of answers the lane abandoned. A request
 * refused for want of its key is sealed anew, and fails if its key was current. The worker is a process of its own, and what its
 * memory grows by, after full collections and a warm-up, is judged too (`soak/judge.ts`).
 * Exit status 0 if all of it held, 1 if not, 2 on misuse.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { fetchLine } from '../client/lines.js'
import { withReceipt } from '../client/receipts.js'
import { createTransport, type Transport } from '../client/transport.js'
import { GatewayRefusedError } from '../client/transport-errors.js'
import { parseBundle } from '../verifier/protocol/bundle.js'
import { type Bytes, toBase64Url, toBytes, utf8 } from '../verifier/protocol/bytes.js'
import { MEDIA_TYPE_SIGNED_KEYS } from '../verifier/protocol/constants.js'
import { parseSignedKeyConfigurations } from '../verifier/protocol/key-configuration.js'
import { parseClaims } from '../verifier/protocol/statement.js'
import { receiptDigest } from '../verifier/receipt.js'
import { gapsOf, type Link } from './soak/chain.js'
import { growthOf, judge, type MemorySample, type SoakOptions, type SoakReport } from './soak/judge.js'
import { startWorkerProcess } from './soak/worker-process.js'

/** What one key of the worker's is sealed to with. */
interface ClientKey {
  /** Seconds since the epoch; worker and client have one clock here. */
  readonly notAfter: number
  readonly transport: Transport
}

/** Where worker or client stood still for longer than connecting may take, nothing was sent: it connects again. */
const fetch: typeof globalThis.fetch = async (input, init) => {
  for (;;) {
    try {
      return await globalThis.fetch(input, init)
    } catch (error) {
      const cause = error instanceof Error ? error.cause : undefined
      if (!(cause instanceof Error && 'code' in cause && cause.code === 'UND_ERR_CONNECT_TIMEOUT')) throw error
    }
  }
}

/** Memory is measured so often in the course of the requests that were asked for. */
const MEASUREMENTS = 50

export async function soak(options: SoakOptions): Promise<SoakReport> {
  const worker = await startWorkerProcess(options.keyLifetimeS)
  try {
    return await soakWorker(worker, options)
  } finally {
    await worker.close()
  }
}

async function soakWorker(
  { origin, measure }: Awaited<ReturnType<typeof startWorkerProcess>>,
  { requests, concurrent, aborts, rotations, seconds }: SoakOptions,
): Promise<SoakReport> {
  const bundle = parseBundle(await get(new URL('/.well-known/attestation', origin)))
  const { statement, statementDigest } = parseClaims(bundle.claims)
  const modelId = statement.model.id
  // What an accepted result would hold; nothing is appraised here.
  const verified = { statement, statementDigest, keyConfigurations: [], validUntil: new Date(8.64e15) }

  const keys = new Map<string, ClientKey>()
  let current = await newestKey()
  async function newestKey(): Promise<ClientKey> {
    const list = parseSignedKeyConfigurations(
      await get(new URL('/.well-known/ohttp-keys', origin), MEDIA_TYPE_SIGNED_KEYS),
    )
    const [newest] = list
    if (newest === undefined) throw new Error('the worker publishes no key')
    const { configuration, notAfter } = newest
    const id = toBase64Url(configuration)
    const known = keys.get(id)
    if (known !== undefined) return known
    const transport = createTransport({
      endpoint: new URL('/ohttp', origin),
      line: fetchLine(fetch),
      keyConfiguration: () => configuration,
      now: () => new Date(),
    })
    const key = { notAfter, transport }
    keys.set(id, key)
    return key
  }
  const renewKey = async (): Promise<void> => {
    const newest = await newestKey()
    if (newest.notAfter >= current.notAfter) current = newest
  }

  const ended = new AbortController()
  const timer = setTimeout(() => ended.abort(), 1000 * seconds)
  const failures: string[] = []
  const memory: MemorySample[] = []
  const tally = { sent: 0, answered: 0, abandoned: 0, receipts: 0, resealed: 0 }
  const enough = (): boolean => tally.sent >= requests && keys.size > rotations

  /** Until it is answered: a key may end while a request to it is on its way, more than once where the machine is slow. */
  async function send(request: () => Request): Promise<Awaited<ReturnType<Transport>>> {
    for (;;) {
      const key = current
      try {
        return await key.transport(request())
      } catch (error) {
        if (!(error instanceof GatewayRefusedError) || error.code !== 'transport.key-refused') throw error
        if (Date.now() / 1000 < key.notAfter) throw new Error('a request was refused although its key was current')
        tally.resealed += 1
        await renewKey()
      }
    }
  }

  /** @throws whatever the channel throws; its failures are the caller's to judge. */
  async function exchange(prompt: string, token: string, signal: AbortSignal) {
    const stream = randomInt(2) === 0
    const body = utf8(JSON.stringify({ model: modelId, messages: [{ role: 'user', content: prompt }], stream }))
    const headers = { 'content-type': 'application/json', 'subrosa-session': token }
    const url = new URL('/v1/chat/completions', origin)
    const sealed = await send(() => new Request(url, { method: 'POST', headers, body, signal }))
    const { response, receipt } = await withReceipt(sealed, toBytes(body), verified)
    const text = await response.text()
    if (response.status !== 200) throw new Error(`status ${response.status}`)
    return { answer: stream ? streamedText(text) : wholeText(text), receipt: await receipt }
  }

  async function lane(): Promise<void> {
    const token = toBase64Url(new Uint8Array(randomBytes(32)))
    const chain: Link[] = []
    let unreceived = 0
    while (!enough() && !ended.signal.aborted) {
      tally.sent += 1
      const prompt = randomBytes(randomInt(4, 200)).toString('hex')
      const leave = new AbortController()
      const leaving = Math.random() < aborts ? setTimeout(() => leave.abort(), randomInt(120)) : undefined
      try {
        const { answer, receipt } = await exchange(prompt, token, AbortSignal.any([leave.signal, ended.signal]))
        tally.answered += 1
        if (answer !== prompt) failures.push('an answer is not the one to its prompt')
        if (receipt.verdict === 'accepted') tally.receipts += 1
        else failures.push(`a receipt is ${receipt.verdict}`)
        const { seq, prev } = receipt.payload ?? {}
        chain.push({ seq: seq ?? -1, prev: prev ?? null, digest: receiptDigest(receipt.jws) })
      } catch (error) {
        unreceived += 1
        if (leave.signal.aborted) tally.abandoned += 1
        else if (ended.signal.aborted) failures.push('a request was not answered when the time was over')
        else failures.push(error instanceof Error ? `${error.name}: ${error.message}` : String(error))
      } finally {
        clearTimeout(leaving)
      }
    }
    failures.push(...gapsOf(chain, unreceived))
  }

  let measuring: Promise<void> | undefined
  const watch = setInterval(() => {
    renewKey().catch((error: unknown) => failures.push(String(error)))
    if (tally.sent < (memory.length * requests) / MEASUREMENTS) return
    measuring ??= measure()
      .then(
        (sample) => void memory.push({ requests: tally.sent, ...sample }),
        (error: unknown) => void failures.push(String(error)),
      )
      .finally(() => {
        measuring = undefined
      })
  }, 250)
  await Promise.all(Array.from({ length: concurrent }, lane))
  clearInterval(watch)
  clearTimeout(timer)
  await measuring
  return { ...tally, rotations: keys.size - 1, memory, failures }
}

async function get(url: URL, accept = '*/*'): Promise<Bytes> {
  const response = await fetch(url, { headers: { accept } })
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

const DEFAULTS = {
  requests: '10000',
  concurrent: '64',
  aborts: '0.15',
  rotations: '10',
  'key-lifetime': '12',
  seconds: '3600',
} as const

/** @throws Error on misuse. */
function optionsOf(args: readonly string[]): SoakOptions {
  const names = Object.keys(DEFAULTS) as (keyof typeof DEFAULTS)[]
  const { values } = parseArgs({
    args: [...args],
    options: Object.fromEntries(names.map((name) => [name, { type: 'string', default: DEFAULTS[name] } as const])),
  })
  const number = (name: keyof typeof DEFAULTS, least: number, most = Number.MAX_SAFE_INTEGER): number => {
    const value = Number(values[name])
    if (!(value >= least && value <= most)) throw new Error(`--${name}: expected a number from ${least} to ${most}`)
    return value
  }
  return {
    requests: number('requests', 1),
    concurrent: number('concurrent', 1),
    aborts: number('aborts', 0, 1),
    rotations: number('rotations', 0),
    keyLifetimeS: number('key-lifetime', 2, 600),
    seconds: number('seconds', 1, 1_000_000),
  }
}

async function main(): Promise<number> {
  let options: SoakOptions
  try {
    options = optionsOf(process.argv.slice(2))
  } catch (error) {
    process.stderr.write(`soak: ${error instanceof Error ? error.message : String(error)}\n`)
    return 2
  }
  const started = performance.now()
  const report = await soak(options)
  const { failures, memory, ...counts } = report
  const say = (name: string, value: number | string): void => void process.stdout.write(`${name.padEnd(30)} ${value}\n`)
  for (const [name, value] of Object.entries(counts)) say(name, value)
  say('requests per second', ((1000 * report.sent) / (performance.now() - started)).toFixed(1))
  const growth = growthOf(memory)
  say('heap, MiB per 1,000 requests', growth?.heap.toFixed(2) ?? 'not judged: too few requests')
  say('RSS, MiB per 1,000 requests', growth?.rss.toFixed(2) ?? 'not judged: too few requests')
  const problems = judge(options, report)
  for (const problem of problems) process.stdout.write(`FAILED  ${problem}\n`)
  if (problems.length > 0) return 1
  process.stdout.write('every answer was its own, every receipt held, no chain has a gap\n')
  return 0
}

if (process.argv[1] === import.meta.filename) process.exit(await main())

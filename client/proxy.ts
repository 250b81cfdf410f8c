/**
 * `subrosa proxy`: a local OpenAI-compatible address for programs in any language. Whatever they ask is sealed to a worker
 * that this process has verified; while none is, they get an error and nothing is sent. Node only.
 */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { priceHeld } from '../verifier/directory/listing.js'
import { UsageError } from '../verifier/errors.js'
import { parseWorkerUrl } from '../verifier/fetch-evidence.js'
import { resolveFlags } from '../verifier/options.js'
import { printable } from '../verifier/text.js'
import type { CommandStreams } from './cli-run.js'
import { type IntentFlags, intentFlagsGiven, routerFor } from './directory/options.js'
import { type LocalDoor, openLocalDoor, refuse } from './local-door.js'
import { connect } from './node.js'
import type { ProveWhen } from './possession.js'
import { refuseUnsafe } from './prompt-safety.js'
import { forward } from './proxy-forward.js'
import { proxyPage } from './proxy-page.js'
import { readersOf } from './readers.js'
import type { ConnectOptions } from './session.js'
import { stopSignal } from './stop-signal.js'
import { inOrder, NoWorkerError, type WorkerFinder, WorkerPool } from './worker-pool.js'

export interface ProxyFlags extends IntentFlags {
  readonly worker?: readonly string[]
  readonly port: string
  readonly tokenOut?: string
  readonly session?: boolean
  readonly prove: ProveWhen
  readonly verbose?: boolean
}

export interface ProxyOptions {
  /** Workers, preferred first; or what finds them. */
  readonly workers: readonly string[] | WorkerFinder
  /** 0 takes any free port. */
  readonly port: number
  readonly connect: ConnectOptions
  /** How often to look for a worker when none is held, and whether evidence is due for renewal. */
  readonly intervalMs?: number
  /** How long the door stays shut for the first look at the workers. Default 10 s. */
  readonly firstLookMs?: number
  /** Receives one line when something should be known that no caller can be told. */
  readonly notice?: (line: string) => void
}

export interface RunningProxy extends Pick<LocalDoor, 'origin' | 'token' | 'close'> {
  /** For `OPENAI_BASE_URL`. */
  readonly baseURL: string
  /** Who can read what is sent now, or why nobody is being sent anything. */
  describe(): { readonly ready: boolean; readonly text: string }
}

const INTERVAL_MS = 5_000
const FIRST_LOOK_MS = 10_000

/**
 * Opens the door after a first look at the workers, or when that takes too long. That none of them verifies is no reason to fail: one may, later.
 * @throws UsageError or PolicyError on what can never work.
 */
export async function startProxy(options: ProxyOptions): Promise<RunningProxy> {
  const {
    workers,
    port,
    connect,
    intervalMs = INTERVAL_MS,
    firstLookMs = FIRST_LOOK_MS,
    notice = () => undefined,
  } = options
  const pool = new WorkerPool('length' in workers ? finderOf(workers, connect) : workers, connect.now)
  let receipts = 0
  const describe = () => {
    const { held, refusal } = pool
    if (held !== undefined) return { ready: true, text: readersOf(held.session) }
    const reason = refusal?.message ?? 'not verified yet'
    return { ready: false, text: `no verified worker, nothing is sent: ${printable(reason)}` }
  }
  const handle = async (request: IncomingMessage, response: ServerResponse, path: string): Promise<void> => {
    if (path.startsWith('/v1/')) {
      return forward(request, response, pool, ({ verdict, checks, payload }, { url, listing }) => {
        if (verdict === 'accepted') receipts++
        else notice(`A RECEIPT DOES NOT HOLD: ${checks.find((check) => check.status === 'fail')?.id}`)
        const listed = listing?.endpoint.price ?? null
        if (payload !== undefined && priceHeld(payload, listed) === 'above') {
          notice(`A RECEIPT ASKS FOR MORE THAN WAS LISTED: ${printable(url)}`)
        }
      })
    }
    if (request.method === 'POST') return notFound(response)
    if (path === '/healthz') return plain(response, 200, 'alive')
    if (path === '/readyz')
      return pool.held === undefined ? plain(response, 503, 'not ready') : plain(response, 200, 'ready')
    if (path === '/')
      return proxyPage(response, { ...describe(), worker: pool.held?.url, failures: pool.failures, receipts })
    notFound(response)
  }

  const first = await Promise.race([
    pool.acquire().catch((error: unknown) => error),
    new Promise((resolve) => setTimeout(resolve, firstLookMs).unref()),
  ])
  if (first instanceof Error && !(first instanceof NoWorkerError)) throw first
  const door = await openLocalDoor({
    port,
    open: new Set(['/healthz', '/readyz']),
    pages: new Set(['/']),
    handle,
  }).catch((error: unknown) => {
    pool.close()
    throw error
  })
  const timer = setInterval(() => void pool.acquire().catch(() => undefined), intervalMs)
  timer.unref()
  return {
    origin: door.origin,
    token: door.token,
    baseURL: `${door.origin}/v1`,
    describe,
    async close() {
      clearInterval(timer)
      pool.close()
      await door.close()
    },
  }
}

function finderOf(workers: readonly string[], options: ConnectOptions): WorkerFinder {
  for (const worker of workers) parseWorkerUrl(worker)
  return inOrder(workers, (url) => connect(url, options))
}

function plain(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(`${text}\n`)
}

function notFound(response: ServerResponse): void {
  refuse(response, { status: 404, code: 'unknown_url', message: 'this proxy has /v1/…, /healthz, /readyz and /' })
}

/** Runs until it is told to stop. */
export async function runProxy(flags: ProxyFlags, streams: CommandStreams): Promise<number> {
  refuseUnsafe(flags)
  const port = parsePort(flags.port)
  const { workers, connect } = await workersOf(flags)
  const proxy = await startProxy({
    workers,
    port,
    connect,
    notice: (line) => streams.stderr.write(`subrosa proxy: ${line}\n`),
  })
  try {
    if (flags.tokenOut !== undefined) await writeToken(flags.tokenOut, proxy.token)
    streams.stdout.write(banner(proxy, flags.tokenOut))
    await stopSignal()
  } finally {
    await proxy.close()
  }
  return 0
}

/** @throws UsageError unless workers are named in one way, and everything said of them is looked at. */
async function workersOf(flags: ProxyFlags): Promise<Pick<ProxyOptions, 'workers' | 'connect'>> {
  const { worker, directory } = flags
  if ((worker === undefined) === (directory === undefined)) {
    throw new UsageError('option.worker', 'name workers with --worker URL…, or a list of them with --directory URL…')
  }
  if (directory !== undefined) return { workers: await routerFor({ ...flags, directory }), connect: {} }
  const [idle] = intentFlagsGiven(flags)
  if (idle !== undefined) {
    throw new UsageError('option.directory', `${idle} is about listed workers: it needs --directory, or leave it out`)
  }
  const { policy, endorsements, sigstore } = await resolveFlags(flags)
  const connect = { policy: { resolved: policy }, endorsements, session: flags.session === true, prove: flags.prove }
  return { workers: worker ?? [], connect: { ...connect, ...(sigstore === undefined ? {} : { sigstore }) } }
}

function banner(proxy: RunningProxy, tokenFile: string | undefined): string {
  const { ready, text } = proxy.describe()
  return [
    `subrosa proxy at ${proxy.baseURL}`,
    `  API key   ${tokenFile === undefined ? proxy.token : `in ${printable(tokenFile)}`}`,
    `  ${ready ? 'readers ' : 'NOT READY'}  ${text}`,
    `  status    ${proxy.origin}/ (any user name, the API key as password); ${proxy.origin}/readyz`,
    '',
  ].join('\n')
}

/** Readable by this user only, also when the file was there before. A symbolic link is not followed. */
async function writeToken(file: string, token: string): Promise<void> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW = 0 } = constants
  try {
    const handle = await open(file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600)
    try {
      await handle.chmod(0o600)
      await handle.writeFile(`${token}\n`)
    } finally {
      await handle.close()
    }
  } catch (cause) {
    throw new UsageError('option.token-out', `--token-out: cannot write ${file}`, { cause })
  }
}

function parsePort(text: string): number {
  const port = Number(text)
  if (/^\d{1,5}$/.test(text) && port <= 65_535) return port
  throw new UsageError('option.port', `--port: expected a number from 0 to 65535, got ${text.slice(0, 20)}`)
}

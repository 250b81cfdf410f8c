/**
 * `subrosa endorsements`: a relay on the host for workers without a network (PROTOCOL.md §14). It takes a worker's evidence,
 * asks the makers' services about it, and answers with what they said. It fetches from those services and nowhere else,
 * whatever a question says; it can withhold and replay, and forge nothing. Node only.
 *
 * A host without a network of its own hands out files instead (`--files`, `--offline`): somebody else brings them.
 */
import { once } from 'node:events'
import { unlink } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { createEndorsementFetcher } from '../verifier/endorsement-fetch.js'
import { createEndorsementStore, defaultStoreFolder } from '../verifier/endorsement-store.js'
import { UnavailableError, UsageError } from '../verifier/errors.js'
import { parseWorkerUrl } from '../verifier/fetch-evidence.js'
import { loadEndorsements } from '../verifier/files.js'
import { type GatherOptions, gatherEndorsements } from '../verifier/gather-endorsements.js'
import { NVIDIA_OCSP, NVIDIA_RIM_SERVICE } from '../verifier/gpu/nvidia-fetch.js'
import { MAX_ENDORSEMENTS, type StapledEndorsement } from '../verifier/protocol/bundle.js'
import { type Bytes, toBytes, toHex } from '../verifier/protocol/bytes.js'
import { encodeDrainAnswer, parseDrainQuestion } from '../verifier/protocol/drain-exchange.js'
import {
  type EndorsementAnswer,
  encodeAnswer,
  FRAME_HEAD_BYTES,
  framed,
  frameLength,
  MAX_ANSWER_BYTES,
  MAX_QUESTION_BYTES,
  parseQuestion,
} from '../verifier/protocol/endorsement-exchange.js'
import { FormatError } from '../verifier/protocol/errors.js'
import { sha256 } from '../verifier/protocol/hash.js'
import { asStapled } from '../verifier/save.js'
import { AMD_KDS } from '../verifier/snp/kds.js'
import { INTEL_CERTIFICATES, INTEL_PCS } from '../verifier/tdx/pcs.js'
import type { CommandStreams } from './cli-run.js'
import { isToLeave } from './drain.js'
import { stopSignal } from './stop-signal.js'

export interface RelayFlags {
  readonly listen: string
  readonly files?: readonly string[]
  readonly offline?: boolean
  /** Boot ids of workers that are to leave, as `subrosa drain` writes them; read again at every question. */
  readonly drain?: string
  readonly kds?: string
  readonly pccs?: string
  readonly rim?: string
  readonly ocsp?: string
}

/** A guest asks a few times a day; whoever opens more at once is no guest. */
const MAX_CONNECTIONS = 64
const QUESTION_TIMEOUT_MS = 10_000
/** Leaves room for the frame around the items. */
const MAX_ITEM_BYTES = MAX_ANSWER_BYTES - 256 * 1024

/** Runs until it is told to stop. */
export async function runRelay(flags: RelayFlags, { stdout, stderr }: CommandStreams): Promise<number> {
  const relay = await startRelay(flags, { fetch, note: (line) => stderr.write(`${line}\n`) })
  stdout.write(`endorsements for workers at ${relay.address}\n`)
  await stopSignal()
  await relay.close()
  return 0
}

export interface RunningRelay {
  /** As it was given, with the port it got. */
  readonly address: string
  close(): Promise<void>
}

export interface RelayWorld {
  readonly fetch: typeof fetch
  readonly note?: (line: string) => void
  readonly now?: () => Date
  readonly sleep?: (ms: number) => Promise<void>
  /** Where fetched endorsements are kept; default the user's cache folder. */
  readonly storeFolder?: string
}

/** @throws UsageError on an address or a service that is none, and on an address that is taken */
export async function startRelay(flags: RelayFlags, world: RelayWorld): Promise<RunningRelay> {
  const place = parsePlace(flags.listen)
  if (flags.offline === true && flags.files === undefined) {
    throw new UsageError('option.offline', '--offline has nothing to hand out without --files')
  }
  const now = world.now ?? (() => new Date())
  const gather = flags.offline === true ? undefined : gatherer(flags, world, now)
  const note = world.note ?? (() => undefined)
  const server = createServer((socket) => {
    serve(socket, async (frame) => {
      const boot = parseDrainQuestion(frame)
      if (boot !== undefined) return encodeDrainAnswer(await isToLeave(flags.drain, boot))
      const question = parseQuestion(frame)
      const files = asStapled(await loadEndorsements(flags.files ?? []))
      const asked = await gather?.(question)
      const answer = {
        endorsements: bounded([...files, ...(asked?.endorsements ?? [])]),
        missing: asked?.missing ?? [],
      }
      note(`answered with ${answer.endorsements.length} endorsements${reasons(answer)}`)
      return encodeAnswer(answer)
    }).catch((error: unknown) => {
      // One guest's nonsense is no other guest's business.
      note(`not answered: ${error instanceof Error ? error.message : 'unknown failure'}`)
      socket.destroy()
    })
  })
  server.maxConnections = MAX_CONNECTIONS
  return listen(server, place)
}

type Gather = (question: ReturnType<typeof parseQuestion>) => Promise<EndorsementAnswer>

function gatherer(flags: RelayFlags, world: RelayWorld, now: () => Date): Gather {
  const origin = (name: 'kds' | 'pccs' | 'rim' | 'ocsp'): URL | undefined => {
    const value = flags[name]
    return value === undefined ? undefined : parseWorkerUrl(value)
  }
  const [kds, pccs, rim, ocsp] = [origin('kds'), origin('pccs'), origin('rim'), origin('ocsp')]
  const fetcher = createEndorsementFetcher({
    fetch: onlyFrom(world.fetch, kds, [
      kds?.origin ?? AMD_KDS,
      ...(pccs === undefined ? [INTEL_PCS, INTEL_CERTIFICATES] : [pccs.origin]),
      rim?.origin ?? NVIDIA_RIM_SERVICE,
      new URL(ocsp ?? NVIDIA_OCSP).origin,
    ]),
    sleep: world.sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms))),
    random: Math.random,
    store: createEndorsementStore(world.storeFolder ?? defaultStoreFolder(process.env), now),
  })
  const options: Omit<GatherOptions, 'now'> = {
    fetcher,
    ...(pccs === undefined ? {} : { origin: pccs.origin }),
    nvidia: {
      ...(rim === undefined ? {} : { rim: rim.origin }),
      ...(ocsp === undefined ? {} : { ocsp: ocsp.href }),
    },
  }
  return (question) => gatherEndorsements(question, { ...options, now: now() })
}

/** Addresses are built from evidence that anybody may have written: the hosts they may name are fixed here. */
function onlyFrom(inner: typeof fetch, kds: URL | undefined, origins: readonly string[]): typeof fetch {
  return (input, init) => {
    const asked = new URL(input instanceof Request ? input.url : input)
    const url = kds !== undefined && asked.origin === AMD_KDS ? new URL(asked.pathname + asked.search, kds) : asked
    if (!origins.includes(url.origin)) {
      return Promise.reject(new UnavailableError('endorsement.host', `${url.origin} is none of the named services`))
    }
    return inner(url, init)
  }
}

async function serve(socket: Socket, answer: (question: Bytes) => Promise<Bytes>) {
  const timer = setTimeout(() => socket.destroy(new Error('no question in time')), QUESTION_TIMEOUT_MS)
  socket.on('error', () => undefined)
  try {
    const question = await readFrame(socket)
    clearTimeout(timer)
    socket.end(framed(await answer(question)))
  } finally {
    clearTimeout(timer)
  }
}

async function readFrame(socket: Socket): Promise<Bytes> {
  let bytes = Buffer.alloc(0)
  return new Promise((resolve, reject) => {
    const onData = (piece: Buffer): void => {
      bytes = Buffer.concat([bytes, piece])
      if (bytes.length < FRAME_HEAD_BYTES) return
      try {
        const end = FRAME_HEAD_BYTES + frameLength(bytes, MAX_QUESTION_BYTES)
        if (bytes.length < end) return
        socket.off('data', onData)
        resolve(toBytes(new Uint8Array(bytes.subarray(FRAME_HEAD_BYTES, end))))
      } catch (error) {
        reject(error)
      }
    }
    socket.on('data', onData)
    socket.on('close', () => reject(new FormatError('endorsement-exchange', 'the question ended early')))
  })
}

/** Each once, and never more than an answer holds. */
function bounded(items: readonly StapledEndorsement[]): readonly StapledEndorsement[] {
  const distinct = new Map(items.map((item) => [toHex(sha256(item.bytes)), item]))
  let size = 0
  return [...distinct.values()]
    .filter(({ bytes }) => {
      size += bytes.length
      return size <= MAX_ITEM_BYTES
    })
    .slice(0, MAX_ENDORSEMENTS)
}

function reasons({ missing }: EndorsementAnswer): string {
  return missing.length === 0 ? '' : `; missing: ${missing.join('; ')}`
}

type Place = { readonly path: string } | { readonly host: string; readonly port: number }

/** `unix:PATH` or `tcp:HOST:PORT`. */
function parsePlace(text: string): Place {
  const [, path] = /^unix:(.{1,100})$/.exec(text) ?? []
  if (path !== undefined) return { path }
  const [, host, port] = /^tcp:(\S{1,253}):(\d{1,5})$/.exec(text) ?? []
  if (host !== undefined && Number(port) <= 65_535) {
    return { host: host.replace(/^\[(.*)\]$/, '$1'), port: Number(port) }
  }
  throw new UsageError('option.listen', `--listen: expected unix:PATH or tcp:HOST:PORT, got ${text}`)
}

async function listen(server: Server, place: Place): Promise<RunningRelay> {
  try {
    server.listen(place)
    await once(server, 'listening')
  } catch (cause) {
    throw new UsageError('option.listen', '--listen: the address is taken, or not for this user', { cause })
  }
  const bound = server.address()
  return {
    address:
      'path' in place
        ? `unix:${place.path}`
        : `tcp:${place.host}:${typeof bound === 'object' ? (bound?.port ?? 0) : 0}`,
    async close() {
      server.close()
      // A socket file that stays would keep the next relay from starting.
      if ('path' in place) await unlink(place.path).catch(() => undefined)
    },
  }
}

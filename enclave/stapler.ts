/**
 * Endorsements to staple, from relays on the host: asked for at the start and again before they grow old, kept until better
 * ones come. The worker itself has no network and knows no maker's address; it hands out its evidence, which everybody may
 * see, and takes back bytes it trusts for nothing. Clients verify each of them to a pinned root.
 *
 * A relay that fails is asked again after longer and longer waits, with chance in them, so that many guests of one host do not
 * come back all at once.
 */
import { MAX_ENDORSEMENTS, type StapledEndorsement } from '../verifier/protocol/bundle.js'
import { toHex } from '../verifier/protocol/bytes.js'
import { type EndorsementQuestion, encodeQuestion, parseAnswer } from '../verifier/protocol/endorsement-exchange.js'
import { sha256 } from '../verifier/protocol/hash.js'
import { askInTurn, type RelayAddress } from './relay-stream.js'

/** Room that endorsements may take in a bundle of at most 16 MiB. */
const MAX_STAPLED_BYTES = 8 * 1024 * 1024
const DEFAULT_TIMEOUT_MS = 60_000
/** Revocation data change daily; an answer of last hour is never the oldest thing in a bundle. */
const DEFAULT_REFRESH_MS = 3_600_000
const FIRST_BACK_OFF_MS = 15_000
const MAX_BACK_OFF_MS = 1_800_000

export interface StaplerOptions {
  /** Asked in this order, until one answers. */
  readonly relays: readonly RelayAddress[]
  /** Evidence of this machine, current enough to name it. */
  readonly evidence: () => Promise<EndorsementQuestion>
  /** Told what came of each round: endorsements and reasons for missing ones, or nothing at all. */
  readonly onRound?: (endorsements: number, missing: number, error?: unknown) => void
  readonly timeoutMs?: number
  readonly refreshMs?: number
  /** In [0, 1). */
  readonly random?: () => number
  /** Calls back after that many milliseconds, and returns what stops it. */
  readonly after?: (ms: number, then: () => void) => () => void
}

export interface Stapler {
  /** The last ones that came; none at first. */
  current(): readonly StapledEndorsement[]
  /** Asks now. @throws WorkerError `worker.relay` when no relay answers */
  ask(question: EndorsementQuestion): Promise<readonly StapledEndorsement[]>
  /** Asks about this machine from now on. */
  start(): void
  close(): void
}

export function createStapler(options: StaplerOptions): Stapler {
  const {
    relays,
    evidence,
    timeoutMs = DEFAULT_TIMEOUT_MS,
    refreshMs = DEFAULT_REFRESH_MS,
    random = Math.random,
  } = options
  const after = options.after ?? afterTimeout
  let current: readonly StapledEndorsement[] = []
  let failures = 0
  let closed = false
  let stop = (): void => undefined

  const ask = (question: EndorsementQuestion) => askInTurn(relays, encodeQuestion(question), parseAnswer, timeoutMs)

  async function round(): Promise<void> {
    try {
      const { endorsements, missing } = await ask(await evidence())
      // An answer of nothing is no reason to forget what there was.
      if (endorsements.length > 0) current = endorsements
      failures = missing.length === 0 ? 0 : failures + 1
      options.onRound?.(endorsements.length, missing.length)
    } catch (error) {
      failures += 1
      options.onRound?.(0, 0, error)
    }
    if (closed) return
    stop = after(failures === 0 ? refreshMs * (0.9 + 0.2 * random()) : backOff(failures, random), () => void round())
  }

  return {
    current: () => current,
    ask: async (question) => (await ask(question)).endorsements,
    start() {
      if (relays.length > 0) void round()
    },
    close() {
      closed = true
      stop()
    },
  }
}

/** Between half of it and all of it, doubling up to half an hour. */
function backOff(failures: number, random: () => number): number {
  return Math.min(FIRST_BACK_OFF_MS * 2 ** (failures - 1), MAX_BACK_OFF_MS) * (0.5 + 0.5 * random())
}

/** Each item once, the machine's own first, as many as a bundle holds. */
export function mergeStapled(...lists: readonly (readonly StapledEndorsement[])[]): readonly StapledEndorsement[] {
  const seen = new Set<string>()
  const out: StapledEndorsement[] = []
  let size = 0
  for (const item of lists.flat()) {
    const digest = toHex(sha256(item.bytes))
    if (seen.has(digest) || out.length === MAX_ENDORSEMENTS || size + item.bytes.length > MAX_STAPLED_BYTES) continue
    seen.add(digest)
    size += item.bytes.length
    out.push(item)
  }
  return out
}

function afterTimeout(ms: number, then: () => void): () => void {
  const timer = setTimeout(then, ms)
  timer.unref()
  return () => clearTimeout(timer)
}

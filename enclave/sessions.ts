/**
 * Receipt chains (PROTOCOL.md P-10.3, P-10.4): receipts of requests that carry the same session token are numbered, and
 * each names the one before it. The token is the client's own random choice; only its hash is kept or shown, so receipts
 * of different sessions link nobody.
 */
import { type Bytes, fromBase64Url, toBase64Url } from '../verifier/protocol/bytes.js'
import { SESSION_HEADER } from '../verifier/protocol/constants.js'
import { sha256 } from '../verifier/protocol/hash.js'
import type { ReceiptPayload } from '../verifier/protocol/receipt.js'
import { OpenAIError } from './openai-error.js'

const TOKEN_BYTES = 32

export type ChainLink = Pick<ReceiptPayload, 'session' | 'seq' | 'prev'>

/** The chain of one session token under one receipt key. */
export interface ReceiptChain {
  /** Signs the next receipt. Calls wait for each other, so that the numbers have no gap and no fork. */
  append(sign: (link: ChainLink) => Promise<string>): Promise<string>
}

export interface SessionTable {
  /** The chain of a token. @throws OpenAIError 400 on a malformed token, 503 when there is no room for another. */
  chainOf(token: string, boot: object): ReceiptChain
}

export interface SessionTableOptions {
  /** Milliseconds, monotonic: whoever sets the clock forth must not make it forget. */
  readonly monotonicMs: () => number
  /** Most sessions kept. A full table refuses new ones: to forget a chain would look like a lost receipt. Default 10,000. */
  readonly maxSessions?: number
  /** How long an unused one is kept. Default 3,600 s. */
  readonly idleS?: number
}

interface Chain extends ReceiptChain {
  readonly boot: object
  usedAt: number
}

export function createSessionTable({
  monotonicMs,
  maxSessions = 10_000,
  idleS = 3600,
}: SessionTableOptions): SessionTable {
  const idleMs = 1000 * idleS
  const chains = new Map<string, Chain>()

  const makeRoom = (at: number): void => {
    for (const [old, { usedAt }] of chains) {
      if (usedAt + idleMs > at) break
      chains.delete(old)
    }
    if (chains.size >= maxSessions) throw new OpenAIError(503, 'overloaded', 'too many receipt sessions are open')
  }

  return {
    chainOf(token, boot) {
      const session = toBase64Url(sha256(tokenBytes(token)))
      const at = monotonicMs()
      const known = chains.get(session)
      // Another boot signs with another key: its chains begin anew.
      const usable = known !== undefined && known.boot === boot && known.usedAt + idleMs > at
      if (known !== undefined) chains.delete(session)
      if (!usable) makeRoom(at)
      const chain = usable ? known : createChain(session, boot, at)
      chain.usedAt = at
      // Moved to the end: the map is in order of last use.
      chains.set(session, chain)
      return chain
    },
  }
}

function createChain(session: string, boot: object, usedAt: number): Chain {
  let last: Promise<{ readonly seq: number; readonly prev: string | null }> = Promise.resolve({ seq: 0, prev: null })
  return {
    boot,
    usedAt,
    append(sign) {
      const before = last
      const signed = before.then(({ seq, prev }) => sign({ session, seq, prev }))
      last = signed.then(
        async (jws) => ({ seq: (await before).seq + 1, prev: toBase64Url(sha256(new TextEncoder().encode(jws))) }),
        () => before,
      )
      return signed
    },
  }
}

function tokenBytes(token: string): Bytes {
  try {
    const bytes = fromBase64Url(token)
    if (bytes.length === TOKEN_BYTES) return bytes
  } catch {
    // Refused below, like a token of another length.
  }
  throw new OpenAIError(400, 'invalid_value', `${SESSION_HEADER}: expected base64url of ${TOKEN_BYTES} bytes`)
}

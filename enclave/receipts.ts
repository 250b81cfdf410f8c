/**
 * Receipts (PROTOCOL.md §10): one signed statement for each answer about what was asked, what was answered and by what.
 *
 * Commitments are HMACs under salts exported from the request's own HPKE context, so only its two ends can open them.
 * A receipt names no prompt, no answer and no evidence fetch. Recent receipts are kept in memory, bounded in number and
 * age, and found only by their random id, inside the encryption.
 */
import { createHmac } from 'node:crypto'
import { setImmediate as nextLoop } from 'node:timers/promises'
import { CompactSign } from 'jose'
import { type Bytes, toBase64Url, utf8 } from '../verifier/protocol/bytes.js'
import { hmacSha256 } from '../verifier/protocol/hash.js'
import { configurationHash } from '../verifier/protocol/ohttp-keys.js'
import {
  RECEIPT_REQUEST_SALT,
  RECEIPT_RESPONSE_SALT,
  RECEIPT_TYPE,
  type ReceiptPayload,
} from '../verifier/protocol/receipt.js'
import type { Channel } from './channel.js'
import type { Boot } from './keys.js'
import type { ChainLink, ReceiptChain } from './sessions.js'

/** What an answer was made of, known once it has ended. */
export interface AnswerFacts {
  readonly final: boolean
  readonly sampling: ReceiptPayload['sampling']
  /** Null where nothing was drawn. */
  readonly seed: number | null
  readonly determinism: ReceiptPayload['determinism']
  readonly promptTokens: number
  readonly completionTokens: number
}

/** The receipt of one answer in the making: feed it every body record exactly as sent, then sign once. */
export interface OpenReceipt {
  /** 16 random bytes, base64url. */
  readonly id: string
  record(bytes: Uint8Array): void
  /** Compact JWS. */
  sign(facts: AnswerFacts): Promise<string>
}

export interface ReceiptBook {
  /** With a chain, the receipt takes its place in it when it is signed. */
  open(
    channel: Pick<Channel, 'exportSecret' | 'configuration'>,
    boot: Boot,
    requestBody: Bytes,
    chain?: ReceiptChain,
  ): Promise<OpenReceipt>
  /** The compact JWS with that id, while it is kept. */
  find(id: string): string | undefined
}

export interface ReceiptBookOptions {
  /** Seconds since the epoch. */
  readonly now: () => number
  /** Most receipts kept. Default 1,024. */
  readonly maxKept?: number
  /** How long one is kept. Default 900 s. */
  readonly keptS?: number
}

/** Inner header naming the receipt of an answer, for clients that cannot read trailers. */
export const RECEIPT_ID_HEADER = 'subrosa-receipt-id'

const SALT_BYTES = 32

/** A receipt without a session follows none. */
const UNCHAINED: ReceiptChain = { append: (sign) => sign({ session: null, seq: null, prev: null }) }

export function createReceiptBook({ now, maxKept = 1024, keptS = 900 }: ReceiptBookOptions): ReceiptBook {
  const kept = new Map<string, { readonly jws: string; readonly until: number }>()

  const keep = (id: string, jws: string): void => {
    const at = now()
    for (const [old, { until }] of kept) {
      if (until > at && kept.size < maxKept) break
      kept.delete(old)
    }
    kept.set(id, { jws, until: at + keptS })
  }

  return {
    async open(channel, boot, requestBody, chain = UNCHAINED) {
      const id = toBase64Url(crypto.getRandomValues(new Uint8Array(16)))
      const response = createHmac('sha256', await channel.exportSecret(RECEIPT_RESPONSE_SALT, SALT_BYTES))
      // Beside the engine's first run, not before it.
      const requestCommit = nextLoop().then(async () => {
        const salt = await channel.exportSecret(RECEIPT_REQUEST_SALT, SALT_BYTES)
        return toBase64Url(hmacSha256(salt, requestBody))
      })
      requestCommit.catch(() => undefined) // an answer that is never signed must not end the process
      let chunks = 0
      return {
        id,
        record(bytes) {
          response.update(bytes)
          chunks += 1
        },
        async sign(facts) {
          const { model } = boot.statement
          const payload: Omit<ReceiptPayload, keyof ChainLink> = {
            jti: id,
            iat: Math.floor(now()),
            stmt: toBase64Url(boot.statementDigest),
            key: toBase64Url(configurationHash(channel.configuration)),
            req: { commit: await requestCommit },
            res: { commit: toBase64Url(response.digest()), chunks, final: facts.final },
            model: {
              id: model.id,
              weights: toBase64Url(model.weightsRoot),
              tokenizer: toBase64Url(model.tokenizerDigest),
              template: toBase64Url(model.templateDigest),
            },
            sampling: facts.sampling,
            seed: facts.seed,
            determinism: facts.determinism,
            usage: {
              prompt_tokens: facts.promptTokens,
              completion_tokens: facts.completionTokens,
              total_tokens: facts.promptTokens + facts.completionTokens,
            },
            price: null,
          }
          const jws = await chain.append((link) =>
            new CompactSign(utf8(JSON.stringify({ ...payload, ...link })))
              .setProtectedHeader({ alg: 'EdDSA', typ: RECEIPT_TYPE })
              .sign(boot.receiptKey),
          )
          keep(id, jws)
          return jws
        },
      }
    },
    find(id) {
      const found = kept.get(id)
      return found !== undefined && now() < found.until ? found.jws : undefined
    },
  }
}

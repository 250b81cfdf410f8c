/**
 * Receipt checks (PROTOCOL.md §10): signature by the attested receipt key, tie to the statement, and, for the two ends that
 * hold the salts, the commitments to request and response.
 */
import { compactVerify, importJWK } from 'jose'
import {
  type Check,
  type CheckDefinition,
  type Finding,
  fail,
  pass,
  Transcript,
  type Verdict,
  waived,
} from './checks.js'
import { type Bytes, equalBytes, fromBase64Url, fromUtf8, toBase64Url } from './protocol/bytes.js'
import { FormatError } from './protocol/errors.js'
import { hmacSha256, sha256 } from './protocol/hash.js'
import { parseReceiptPayload, RECEIPT_TYPE, type ReceiptPayload } from './protocol/receipt.js'

export const RECEIPT_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'receipt.parse',
    title: 'The receipt is one compact JWS of the receipt type',
    spec: 'PROTOCOL.md §10, RFC 7515 §7.1',
    gain: 'A token made for another purpose could be shown as a receipt.',
    malformed: true,
  },
  {
    id: 'receipt.signature',
    title: 'The attested receipt key signed it',
    spec: 'PROTOCOL.md §10, RFC 8037',
    gain: 'Anyone could write a receipt for an answer no enclave ever gave.',
    needs: ['receipt.parse'],
  },
  {
    id: 'receipt.statement',
    title: 'It names the statement that was attested, and that statement’s model',
    spec: 'PROTOCOL.md P-10.1',
    gain: 'A receipt of one worker could vouch for another’s answer.',
    needs: ['receipt.signature'],
  },
  {
    id: 'receipt.key',
    title: 'It names the key configuration the request was sealed to',
    spec: 'PROTOCOL.md §10',
    gain: 'A receipt could be moved to an exchange under another key.',
    needs: ['receipt.signature'],
  },
  {
    id: 'receipt.request',
    title: 'It commits to the request that was sent',
    spec: 'PROTOCOL.md §10',
    gain: 'A receipt for another question could be passed off as this one’s.',
    needs: ['receipt.signature'],
  },
  {
    id: 'receipt.response',
    title: 'It commits to the whole answer that arrived',
    spec: 'PROTOCOL.md P-10.2',
    gain: 'A receipt for another answer could be passed off as this one’s.',
    needs: ['receipt.signature'],
  },
]

/** What the receipt is held against; every member comes from an accepted attestation or from the channel itself. */
export interface ReceiptContext {
  /** Raw Ed25519 receipt key of the attested statement, 32 bytes. */
  readonly receiptKey: Bytes
  readonly statementDigest: Bytes
  /** Weights root the statement names. */
  readonly weightsRoot: Bytes
  /** What the two ends alone know. Without it the commitments are not opened, and the result says so. */
  readonly opening?: {
    /** SHA-256 of the key configuration the request was sealed to. */
    readonly keyDigest: Bytes
    readonly requestSalt: Bytes
    readonly requestBody: Uint8Array
    readonly responseSalt: Bytes
    /** HMAC-SHA256 under `responseSalt` over the answer, or the answer itself. */
    readonly responseBody: Uint8Array | { readonly mac: Bytes }
  }
}

export interface ReceiptResult {
  readonly verdict: Verdict
  readonly checks: readonly Check[]
  readonly payload?: ReceiptPayload
}

/** Checks one receipt. Never throws on its contents. */
export async function verifyReceipt(jws: string, context: ReceiptContext): Promise<ReceiptResult> {
  const t = new Transcript(RECEIPT_CHECKS)
  const payload = t.check('receipt.parse', () => pass(parseReceipt(jws)))
  if (payload !== undefined) {
    await t.checkAsync('receipt.signature', async () =>
      (await verifySignature(jws, context.receiptKey))
        ? pass()
        : fail('the signature is not by the attested receipt key'),
    )
    t.check('receipt.statement', () => {
      if (payload.stmt !== toBase64Url(context.statementDigest)) {
        return fail('it names another statement', {
          expected: toBase64Url(context.statementDigest),
          actual: payload.stmt,
        })
      }
      const weights = toBase64Url(context.weightsRoot)
      return payload.model.weights === weights
        ? pass()
        : fail('it names another model', { expected: weights, actual: payload.model.weights })
    })
    const { opening } = context
    t.check('receipt.key', () => {
      if (opening === undefined) return waived('the opening was not given: the exchange is not known')
      const expected = toBase64Url(opening.keyDigest)
      return payload.key === expected ? pass() : fail('it names another key', { expected, actual: payload.key })
    })
    t.check('receipt.request', () => {
      if (opening === undefined) return waived('the opening was not given: commitments are not checked')
      return matches(payload.req.commit, hmacSha256(opening.requestSalt, opening.requestBody), 'request')
    })
    t.check('receipt.response', () => {
      if (opening === undefined) return waived('the opening was not given: commitments are not checked')
      if (!payload.res.final) return fail('it says that the answer was cut short')
      const body = opening.responseBody
      return matches(payload.res.commit, 'mac' in body ? body.mac : hmacSha256(opening.responseSalt, body), 'answer')
    })
  }
  return { verdict: t.verdict(), checks: t.checks(), ...(payload === undefined ? {} : { payload }) }
}

/** SHA-256 of the compact form, base64url: what the next receipt of the session names as `prev`. */
export function receiptDigest(jws: string): string {
  return toBase64Url(sha256(new TextEncoder().encode(jws)))
}

function parseReceipt(jws: string): ReceiptPayload {
  const parts = jws.split('.')
  const [header, body, signature] = parts
  if (jws.length > 16_384 || parts.length !== 3 || header === undefined || body === undefined || !signature) {
    throw new FormatError('receipt.format', 'receipt: expected a compact JWS')
  }
  const protectedHeader = json(header)
  if (typeof protectedHeader !== 'object' || protectedHeader === null) {
    throw new FormatError('receipt.format', 'receipt: expected a JWS header')
  }
  const { alg, typ } = protectedHeader as { alg?: unknown; typ?: unknown }
  if (alg !== 'EdDSA' || typ !== RECEIPT_TYPE) {
    throw new FormatError('receipt.format', `receipt: expected alg EdDSA and typ ${RECEIPT_TYPE}`)
  }
  return parseReceiptPayload(json(body))
}

function json(part: string): unknown {
  const text = fromUtf8(fromBase64Url(part))
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new FormatError('receipt.format', 'receipt: expected JSON', { cause })
  }
}

async function verifySignature(jws: string, receiptKey: Bytes): Promise<boolean> {
  try {
    const key = await importJWK({ kty: 'OKP', crv: 'Ed25519', x: toBase64Url(receiptKey) }, 'EdDSA')
    await compactVerify(jws, key, { algorithms: ['EdDSA'] })
    return true
  } catch {
    return false
  }
}

function matches(commitment: string, mac: Bytes, what: string): Finding {
  if (equalBytes(new TextEncoder().encode(commitment), new TextEncoder().encode(toBase64Url(mac)))) return pass()
  return fail(`it commits to another ${what}`)
}

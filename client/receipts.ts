/**
 * Receipts as they arrive: the answer passes through a MAC on its way to the caller, and when it has ended the signed
 * receipt in its trailer is checked against the attested keys and against what really passed.
 */
import { type Bytes, toBytes } from '../verifier/protocol/bytes.js'
import { createHmacSha256, sha256 } from '../verifier/protocol/hash.js'
import { RECEIPT_REQUEST_SALT, RECEIPT_RESPONSE_SALT, RECEIPT_TRAILER } from '../verifier/protocol/receipt.js'
import { type ReceiptResult, verifyReceipt } from '../verifier/receipt.js'
import type { VerifiedWorker } from '../verifier/result.js'
import { ReceiptError } from './errors.js'
import type { SealedExchange } from './transport.js'

/** A receipt and the outcome of every check on it; trust it only when `verdict` is `accepted`. */
export interface ReceivedReceipt extends ReceiptResult {
  /** Compact JWS, to keep: `verify-attestation receipt` checks it again later. */
  readonly jws: string
  /** SHA-256 of the key configuration the request was sealed to. */
  readonly keyDigest: Bytes
}

/** The response to hand on, and a promise of its receipt that settles when its body has been read to the end. */
export async function withReceipt(
  exchange: SealedExchange,
  requestBody: Bytes,
  worker: VerifiedWorker,
): Promise<{ response: Response; receipt: Promise<ReceivedReceipt> }> {
  const requestSalt = await exchange.exportSecret(RECEIPT_REQUEST_SALT, 32)
  const responseSalt = await exchange.exportSecret(RECEIPT_RESPONSE_SALT, 32)
  const mac = createHmacSha256(responseSalt)
  const { response } = exchange
  const body = response.body?.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform: (piece, controller) => {
        mac.update(piece)
        controller.enqueue(piece)
      },
    }),
  )
  const keyDigest = sha256(exchange.configuration)
  const receipt = exchange.trailers.then(async (trailers) => {
    const jws = trailers.get(RECEIPT_TRAILER)
    if (jws === null) throw new ReceiptError('client.receipt-missing', 'the answer carries no receipt')
    const result = await verifyReceipt(jws, {
      receiptKey: toBytes(worker.statement.keys.receipt),
      statementDigest: worker.statementDigest,
      weightsRoot: worker.statement.model.weightsRoot,
      opening: { keyDigest, requestSalt, requestBody, responseSalt, responseBody: { mac: mac.digest() } },
    })
    return { ...result, jws, keyDigest }
  })
  receipt.catch(() => undefined) // a caller that never asks for the receipt must not crash the process
  const { status, statusText, headers } = response
  return { response: new Response(body ?? null, { status, statusText, headers }), receipt }
}

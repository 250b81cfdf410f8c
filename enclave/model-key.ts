/**
 * `POST /v1/model-key`, inside the encryption (PROTOCOL.md P-8.4 to P-8.6): takes the key to encrypted weights from the model's
 * owner and from nobody else. The owner is the one whose public key the host configuration names, so it is measured; the
 * release is signed for one boot and one model, and the weights it opens must be those of the statement.
 *
 * Every refusal is the same to whoever sent it. The key stays in this process only as long as it takes to decrypt; that
 * JavaScript then erases it cannot be promised.
 */
import { compactVerify, importJWK } from 'jose'
import { type Bytes, fromUtf8, toBase64Url } from '../verifier/protocol/bytes.js'
import { CLOCK_SKEW_S } from '../verifier/protocol/constants.js'
import { FormatError } from '../verifier/protocol/errors.js'
import {
  MAX_MODEL_KEY_LIFETIME_S,
  MODEL_KEY_TYPE,
  type ModelKeyPayload,
  parseModelKeyPayload,
} from '../verifier/protocol/model-key.js'
import type { Statement } from '../verifier/protocol/statement.js'
import { WorkerError } from './errors.js'
import type { LockedEngine } from './inference/locked.js'

export interface ModelLock {
  /** Whether chats are refused because the key has not come. */
  locked(): boolean
  /**
   * Checks a release and opens the weights with it. Doing so again is no error.
   * @throws WorkerError `worker.model-key` when it is not the owner's word for this boot and this model; EngineError when its
   * key does not open the weights the manifest lists.
   */
  unlock(jws: string, boot: { readonly statement: Statement; readonly statementDigest: Bytes }): Promise<void>
}

export interface ModelLockOptions {
  readonly engine: LockedEngine
  /** The model owner's raw Ed25519 public key, 32 bytes, from the measured host configuration. */
  readonly ownerKey: Bytes
  /** Seconds since the epoch. */
  readonly now: () => number
}

const MAX_RELEASE_CHARACTERS = 16 * 1024

export function createModelLock({ engine, ownerKey, now }: ModelLockOptions): ModelLock {
  return {
    locked: engine.locked,
    async unlock(jws, { statement, statementDigest }) {
      const payload = await verified(jws, ownerKey)
      const at = now()
      const current =
        payload.iat - CLOCK_SKEW_S <= at &&
        at < payload.exp + CLOCK_SKEW_S &&
        payload.exp - payload.iat <= MAX_MODEL_KEY_LIFETIME_S
      if (
        !current ||
        payload.stmt !== toBase64Url(statementDigest) ||
        payload.weights !== toBase64Url(statement.model.weightsRoot)
      ) {
        throw refused()
      }
      await engine.unlock(payload.key)
    },
  }
}

async function verified(jws: string, ownerKey: Bytes): Promise<ModelKeyPayload> {
  if (jws.length > MAX_RELEASE_CHARACTERS) throw refused()
  try {
    const key = await importJWK({ kty: 'OKP', crv: 'Ed25519', x: toBase64Url(ownerKey) }, 'EdDSA')
    const { payload, protectedHeader } = await compactVerify(jws, key, { algorithms: ['EdDSA'] })
    if (protectedHeader.typ !== MODEL_KEY_TYPE) throw refused()
    return parseModelKeyPayload(JSON.parse(fromUtf8(payload)))
  } catch (cause) {
    if (cause instanceof WorkerError) throw cause
    // Neither the library's words nor the parser's: both may quote what they choked on.
    throw refused(cause instanceof FormatError ? cause : undefined)
  }
}

function refused(cause?: FormatError): WorkerError {
  return new WorkerError('worker.model-key', "not the model owner's word for this boot and this model", { cause })
}

/**
 * Who may go on with what an earlier request computed (PROTOCOL.md P-10.5): whoever sends back a token that this worker
 * issued to that session token, and nobody else. The session token is the client's choice, and two clients may choose alike;
 * of the tokens issued here no two are, and none can be made up.
 *
 * A token is 16 random bytes and 16 of a MAC over them, the session token and the statement, so nothing is remembered.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { type Bytes, concat, fromBase64Url, toBase64Url, utf8 } from '../verifier/protocol/bytes.js'
import { NEW_REUSE_TOKEN, REUSE_HEADER } from '../verifier/protocol/constants.js'
import { sha256 } from '../verifier/protocol/hash.js'
import { OpenAIError } from './openai-error.js'

const RANDOM_BYTES = 16
const TOKEN_BYTES = 32

export interface Reuse {
  /** For `GenerateOptions.reuseKey`: says nothing of the tokens. */
  readonly key: string
  /** To be returned inside the encryption, where the request did not bring it. */
  readonly issued: string | undefined
}

export interface ReuseTokens {
  /**
   * @param value of the request's header: `new`, or a token. One that was not issued here, to that session token under
   * that statement, counts as `new`.
   * @param session the session token, checked by its own table. @throws OpenAIError 400 on any other form of either.
   */
  open(value: string, session: string | undefined, statementDigest: Bytes): Reuse
}

export function createReuseTokens(): ReuseTokens {
  const tokenSecret = randomBytes(32)
  const keySecret = randomBytes(32)

  return {
    open(value, session, statementDigest) {
      if (session === undefined) throw malformed('expected subrosa-session beside it')
      const scope = concat(statementDigest, sha256(utf8(session)))
      const tokenOf = (random: Uint8Array): Bytes => {
        const mac = createHmac('sha256', tokenSecret).update(scope).update(random).digest()
        return concat(random, mac.subarray(0, TOKEN_BYTES - RANDOM_BYTES))
      }
      const given = value === NEW_REUSE_TOKEN ? undefined : tokenBytes(value)
      const known = given !== undefined && timingSafeEqual(given, tokenOf(given.subarray(0, RANDOM_BYTES)))
      const token = known ? given : tokenOf(randomBytes(RANDOM_BYTES))
      return {
        key: createHmac('sha256', keySecret).update(scope).update(token).digest('base64'),
        issued: known ? undefined : toBase64Url(token),
      }
    },
  }
}

function tokenBytes(value: string): Bytes {
  try {
    const bytes = fromBase64Url(value)
    if (bytes.length === TOKEN_BYTES) return bytes
  } catch {
    // Refused below, like a token of another length.
  }
  throw malformed(`expected ${NEW_REUSE_TOKEN}, or base64url of ${TOKEN_BYTES} bytes`)
}

function malformed(message: string): OpenAIError {
  return new OpenAIError(400, 'invalid_value', `${REUSE_HEADER}: ${message}`)
}

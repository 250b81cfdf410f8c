/**
 * The bare signature verifications inside a full one: recorded as the verifier asks WebCrypto for them, then replayed with
 * the same imported keys, signatures and messages, one after the other. The count is checked, so that neither side can
 * get away with less arithmetic than the other.
 */
import { isSignedBy } from '../../verifier/signature.js'
import type { Certificate } from '../../verifier/x509.js'

type Verify = typeof crypto.subtle.verify

/** As many answers as the verifier remembers. */
const REMEMBERED = 256
let forgotten = 0

/**
 * Makes the verifier forget every signature it verified, by giving it more to remember than it has room for. It has no
 * switch for that, and needs none. Imported keys stay, as they do on the bare side.
 */
export async function forgetSignatures(any: Certificate): Promise<void> {
  const { stackTraceLimit } = Error
  // Each is refused before any arithmetic; stacks of 256 refusals would be rubbish to collect while the clock runs.
  Error.stackTraceLimit = 0
  const unsigned = { ...any, signatureAlgorithm: new Uint8Array() }
  for (let i = 0; i < REMEMBERED; i++) {
    await isSignedBy({ ...unsigned, sha256Hex: `forgotten ${forgotten++}` }, any, 'ecdsa-p256-sha256')
  }
  Error.stackTraceLimit = stackTraceLimit
}

/**
 * Carries out `full` and returns the signature verifications it asked for, as one function that does nothing else.
 * @throws Error unless there were exactly `expected` of them, all good.
 */
export async function bareVerifications(expected: number, full: () => Promise<unknown>): Promise<() => Promise<void>> {
  const { subtle } = globalThis.crypto
  const verify = subtle.verify.bind(subtle)
  const calls: Parameters<Verify>[] = []
  subtle.verify = (...call: Parameters<Verify>) => {
    calls.push(call)
    return verify(...call)
  }
  try {
    await full()
  } finally {
    subtle.verify = verify
  }
  const bare = async (): Promise<void> => {
    for (const call of calls) if (!(await verify(...call))) throw new Error('a recorded signature does not verify')
  }
  if (calls.length !== expected) throw new Error(`expected ${expected} signature verifications, saw ${calls.length}`)
  await bare()
  return bare
}

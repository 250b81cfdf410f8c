/** Are these descriptors their providers' own, in force, and the newest? (PROTOCOL.md §15) Being so makes no worker trusted. */
import { compactVerify, importJWK } from 'jose'
import { type Check, type Finding, fail, pass, Transcript, type Verdict } from '../checks.js'
import { fromBase64Url, fromUtf8 } from '../protocol/bytes.js'
import { CLOCK_SKEW_S } from '../protocol/constants.js'
import { FormatError } from '../protocol/errors.js'
import { DESCRIPTOR_CHECKS } from './checks.js'
import {
  DESCRIPTOR_TYPE,
  type DescriptorPayload,
  MAX_DESCRIPTOR_BYTES,
  MAX_DESCRIPTOR_LIFETIME_S,
  parseDescriptorPayload,
} from './descriptor.js'

export interface DescriptorResult {
  readonly verdict: Verdict
  readonly checks: readonly Check[]
  /** The compact JWS it is about, as it came. */
  readonly jws: string
  /** Present when it could be read; the provider's word only where the verdict is `accepted`. */
  readonly payload?: DescriptorPayload
}

/**
 * Holds descriptors to their signatures, to this instant and to one another; results are in the order given. `floors`: by
 * provider, the highest `seq` seen before. Never throws on what they hold.
 */
export async function verifyDescriptors(
  list: readonly string[],
  now: Date,
  floors: ReadonlyMap<string, number> = new Map(),
): Promise<readonly DescriptorResult[]> {
  const read = await Promise.all(list.map(async (jws) => ({ jws, ...(await authenticate(jws)) })))
  const newest = new Map<string, { readonly seq: number; readonly signed: Set<string> }>()
  for (const { t, jws, payload } of read) {
    if (payload === undefined || !t.passed('descriptor.signature')) continue
    const known = newest.get(payload.provider)
    if (known === undefined || payload.seq > known.seq) {
      newest.set(payload.provider, { seq: payload.seq, signed: new Set([jws]) })
    } else if (payload.seq === known.seq) known.signed.add(jws)
  }
  const seen = new Set<string>()
  return read.map(({ t, jws, payload }) => {
    if (payload !== undefined) {
      t.check('descriptor.window', () => windowOf(payload, now))
      t.check('descriptor.newest', () => {
        const { seq = 0, signed } = newest.get(payload.provider) ?? {}
        const floor = Math.max(seq, floors.get(payload.provider) ?? 0)
        if (payload.seq < floor) return fail(`its provider signed number ${floor} since`, detail(floor, payload.seq))
        if ((signed?.size ?? 0) > 1) return fail(`its provider signed two under number ${payload.seq}`)
        if (seen.has(jws)) return fail('it is there twice')
        seen.add(jws)
        return pass()
      })
    }
    return { verdict: t.verdict(), checks: t.checks(), jws, ...(payload === undefined ? {} : { payload }) }
  })
}

const detail = (expected: number, actual: number) => ({ expected: String(expected), actual: String(actual) })

async function authenticate(
  jws: string,
): Promise<{ readonly t: Transcript; readonly payload: DescriptorPayload | undefined }> {
  const t = new Transcript(DESCRIPTOR_CHECKS)
  const payload = t.check('descriptor.parse', () => pass(parseDescriptor(jws)))
  if (payload !== undefined) {
    await t.checkAsync('descriptor.signature', async () =>
      (await isSignedBy(payload.provider, jws)) ? pass() : fail('the signature is not by the provider key it names'),
    )
  }
  return { t, payload }
}

function parseDescriptor(jws: string): DescriptorPayload {
  if (jws.length > MAX_DESCRIPTOR_BYTES) {
    throw new FormatError('descriptor.format', `descriptor: more than ${MAX_DESCRIPTOR_BYTES} characters`)
  }
  const [header, body, signature, ...rest] = jws.split('.')
  if (header === undefined || body === undefined || signature === undefined || rest.length > 0) {
    throw new FormatError('descriptor.format', 'descriptor: expected a compact JWS')
  }
  const { alg, typ, ...others } = json(header) as Record<string, unknown>
  if (alg !== 'EdDSA' || typ !== DESCRIPTOR_TYPE || Object.keys(others).length > 0) {
    throw new FormatError('descriptor.format', `descriptor: expected a header of alg EdDSA and typ ${DESCRIPTOR_TYPE}`)
  }
  fromBase64Url(signature)
  return parseDescriptorPayload(json(body))
}

/** An object. */
function json(part: string): object {
  let value: unknown
  try {
    value = JSON.parse(fromUtf8(fromBase64Url(part)))
  } catch (cause) {
    throw new FormatError('descriptor.format', 'descriptor: expected JSON', { cause })
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  throw new FormatError('descriptor.format', 'descriptor: expected a JSON object')
}

async function isSignedBy(provider: string, jws: string): Promise<boolean> {
  try {
    const key = await importJWK({ kty: 'OKP', crv: 'Ed25519', x: provider }, 'EdDSA')
    await compactVerify(jws, key, { algorithms: ['EdDSA'] })
    return true
  } catch {
    return false
  }
}

function windowOf({ iat, exp }: DescriptorPayload, now: Date): Finding {
  const seconds = now.getTime() / 1000
  if (exp <= iat || exp - iat > MAX_DESCRIPTOR_LIFETIME_S) {
    return fail(`its window is empty or longer than ${MAX_DESCRIPTOR_LIFETIME_S / 86_400} days`)
  }
  if (iat - CLOCK_SKEW_S > seconds) return fail(`it is not in force before ${instant(iat)}`)
  return seconds < exp ? pass() : fail(`it expired at ${instant(exp)}`)
}

function instant(seconds: number): string {
  const date = new Date(seconds * 1000)
  return Number.isNaN(date.getTime()) ? `${seconds} s` : date.toISOString()
}

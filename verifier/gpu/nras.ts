/**
 * NVIDIA's remote verifier as an alternative to looking at the evidence: an EAT (RFC 9711) for the platform with detached
 * digests of one token a device, all signed with ES384. Never trusted unless the policy names it.
 *
 * The key set is not believed because of where it came from: every key used must be certified by a pinned intermediate.
 * Tokens say something about evidence; they do not prove who sent it, so the evidence's own nonce, chain and signature
 * remain worth checking.
 */
import { compactVerify, importJWK } from 'jose'
import { type Finding, fail, pass, type Transcript, unavailable, waived } from '../checks.js'
import { childrenOf, readDer, wholeBits } from '../der.js'
import type { EndorsementPool } from '../endorsements.js'
import { type Bytes, equalBytes, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { isSignedBy } from '../signature.js'
import type { TrustAnchor } from '../trust-anchors.js'
import { type Certificate, inValidity, namesIssuer } from '../x509.js'
import { maySignData } from './chain.js'
import { judgeEach } from './each.js'
import { judgeClaims } from './nras-claims.js'
import {
  isObject,
  type NrasKey,
  type NrasResponse,
  type NrasToken,
  parseKeySet,
  parseNrasResponse,
  shown,
} from './nras-token.js'
import type { GpuPolicy } from './policy.js'

export interface NrasInput {
  /** JSON. Untrusted. */
  readonly response: Bytes
  /** Key sets among them; untrusted until certified. */
  readonly endorsements: EndorsementPool
  /** Keys besides NVIDIA's intermediates that may certify token keys. */
  readonly anchors: readonly TrustAnchor[]
  /** 32 bytes. Omitting it lets any recorded verdict pass: the check is then waived. */
  readonly expectedNonce?: Bytes
  readonly now: Date
  readonly policy: GpuPolicy
}

export interface NrasFindings {
  readonly devices: readonly {
    readonly name: string
    readonly ueid: string | undefined
    readonly model: string | undefined
    readonly driver: string | undefined
    readonly vbios: string | undefined
  }[]
  readonly privateAnchor: boolean
  /** The key sets the tokens were checked with. */
  readonly endorsementBytes: readonly Bytes[]
  /** When the first token expires. */
  readonly validUntil: Date
  readonly notProven: readonly { readonly id: string; readonly text: string }[]
}

const ISSUER = 'https://nras.attestation.nvidia.com'
const ALGORITHM = 'ES384'

/** Carries out NRAS_CHECKS. Undefined when there is no answer to speak of. */
export async function verifyNras(t: Transcript, input: NrasInput): Promise<NrasFindings | undefined> {
  const response = t.check('gpu.nras.parse', () => pass(parseNrasResponse(input.response)))
  if (response === undefined) return undefined
  const { policy, now } = input
  const tokens: readonly NrasToken[] = [response.overall, ...response.devices]
  const each = (id: string, judge: (token: NrasToken) => Finding | Promise<Finding>, of = tokens) =>
    t.checkAsync(id, () =>
      judgeEach(
        of.map((token) => ({ name: token.name, item: token })),
        judge,
      ),
    )
  t.check('gpu.nras.trusted', () =>
    policy.nras === 'refused' ? fail('your policy does not accept NVIDIA’s remote verifier') : pass(),
  )
  await each('gpu.nras.algorithm', judgeHeader)
  const sets = readKeySets(input.endorsements)
  const keyOf = (token: NrasToken) => sets.keys.find(({ kid }) => kid === token.header['kid'])
  await each('gpu.nras.key', (token) => (keyOf(token) === undefined ? sets.problem : pass()))
  const used = [...new Set(tokens.flatMap((token) => keyOf(token) ?? []))].map((key) => ({ name: key.kid, item: key }))
  await t.checkAsync('gpu.nras.key-chain', () => judgeEach(used, (key) => judgeKeyChain(key, input)))
  await t.checkAsync('gpu.nras.key-window', () => judgeEach(used, (key) => judgeKeyWindow(key, now)))
  await each('gpu.nras.signature', async (token) =>
    (await isTokenSigned(token, keyOf(token))) ? pass() : fail('the signature does not verify'),
  )
  await each('gpu.nras.issuer', ({ claims }) =>
    claims['iss'] === ISSUER
      ? pass()
      : fail('another issuer', { expected: ISSUER, actual: shown(claims['iss']).slice(0, 100) }),
  )
  const skew = policy.nras === 'refused' ? 0 : policy.nras.skewSeconds
  await each('gpu.nras.window', (token) => judgeWindow(token, skew, now))
  // A token that reports an error carries no nonce; that it does is another check's failure.
  const answering = tokens.filter((token) => token === response.overall || judgeErrors(token).status === 'pass')
  await each('gpu.nras.nonce', (token) => judgeNonce(token, input.expectedNonce), answering)
  await each('gpu.nras.overall', judgeOverall, [response.overall])
  t.check('gpu.nras.submodules', () => judgeSubmodules(response))
  await each('gpu.nras.errors', judgeErrors, response.devices)
  const version = response.overall.claims['x-nvidia-ver']
  await each('gpu.nras.devices', ({ claims }) => judgeClaims(claims, version, response.kind), response.devices)
  t.check('gpu.nras.distinct', () => judgeDistinct(response.devices))
  t.check('gpu.nras.count', () => {
    const gpus = response.kind === 'gpu' ? response.devices.length : 0
    const detail = { expected: String(policy.count), actual: String(gpus) }
    if (policy.count === 'any' || policy.count === gpus) return pass(undefined, detail)
    return fail('not as many GPUs as expected', detail)
  })
  return {
    devices: response.devices.map(describe),
    privateAnchor: used.some(({ item }) => isAdded(item.certificates[1], input.anchors)),
    endorsementBytes: sets.bytes,
    validUntil: new Date(Math.min(...tokens.map(({ claims }) => instant(claims['exp']) ?? 0)) * 1000),
    notProven: NOT_PROVEN,
  }
}

/** `crit` would mean "refuse me unless you understand this" (RFC 7515 §4.1.11). */
function judgeHeader({ header }: NrasToken): Finding {
  if (header['crit'] !== undefined) return fail('the token has critical headers nobody here understands')
  const { alg } = header as { readonly alg?: unknown }
  return alg === ALGORITHM
    ? pass()
    : fail('another algorithm', { expected: ALGORITHM, actual: shown(alg).slice(0, 20) })
}

interface KeySets {
  readonly keys: readonly NrasKey[]
  readonly bytes: readonly Bytes[]
  /** What to say of a key that is not among them. */
  readonly problem: Finding
}

function readKeySets(pool: EndorsementPool): KeySets {
  const documents = pool.documents.filter(({ kind }) => kind === 'jwks')
  const keys: NrasKey[] = []
  let problem: Finding =
    documents.length === 0 ? unavailable('no key set is at hand') : fail('the key is in no key set at hand')
  for (const { name, bytes } of documents.slice(0, 16)) {
    try {
      keys.push(...parseKeySet(bytes))
    } catch (error) {
      if (!(error instanceof FormatError)) throw error
      problem = fail(`${name}: ${error.message}`)
    }
  }
  return { keys, bytes: documents.map(({ bytes }) => bytes), problem }
}

async function judgeKeyChain({ certificates, point }: NrasKey, { policy, anchors }: NrasInput): Promise<Finding> {
  const [leaf, intermediate] = certificates
  if (leaf === undefined || intermediate === undefined) return fail('the key set carries no certificates for this key')
  if (!equalBytes(publicPoint(leaf), point)) return fail('the certificate is for another key')
  const pinned = policy.nras !== 'refused' && policy.nras.intermediates.includes(intermediate.spkiSha256Hex)
  if (!pinned && !isAdded(intermediate, anchors)) {
    return fail('certified by nobody the policy names', {
      actual: `${intermediate.subjectCommonName ?? '?'} (SPKI ${intermediate.spkiSha256Hex})`,
    })
  }
  const entitled = intermediate.isCa && intermediate.keyUsage?.certSign === true && !leaf.isCa && maySignData(leaf)
  if (!entitled || !namesIssuer(leaf, intermediate)) return fail('the certificates are not entitled to what they do')
  const signed =
    (await isSignedBy(leaf, intermediate, 'rsassa-pkcs1-sha256')) ||
    (await isSignedBy(leaf, intermediate, 'ecdsa-p384-sha384'))
  return signed ? pass() : fail('the key’s certificate is not signed by the intermediate')
}

function judgeKeyWindow({ certificates }: NrasKey, now: Date): Finding {
  const outside = certificates.find((certificate) => !inValidity(certificate, now))
  if (outside === undefined) return pass()
  return fail(`${outside.subjectCommonName ?? 'a certificate'} is outside its validity`, {
    expected: now.toISOString(),
    actual: `${outside.notBefore.toISOString()} to ${outside.notAfter.toISOString()}`,
  })
}

function isAdded(certificate: Certificate | undefined, anchors: readonly TrustAnchor[]): boolean {
  return anchors.some(({ kind, spkiSha256Hex }) => kind === 'nvidia' && spkiSha256Hex === certificate?.spkiSha256Hex)
}

function publicPoint({ spki }: Certificate): Bytes {
  return wholeBits(childrenOf(readDer(spki, 'key'), 'key')[1], 'key')
}

async function isTokenSigned({ jwt }: NrasToken, key: NrasKey | undefined): Promise<boolean> {
  if (key === undefined) return false
  try {
    await compactVerify(jwt, await importJWK(key.jwk, ALGORITHM), { algorithms: [ALGORITHM] })
    return true
  } catch {
    // Whatever the library's reason: this token is not signed by this key.
    return false
  }
}

/** NumericDate (RFC 7519 §2). */
function instant(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 && value < 1e11 ? value : undefined
}

function judgeWindow({ claims }: NrasToken, skew: number, now: Date): Finding {
  const notBefore = instant(claims['nbf'])
  const expiry = instant(claims['exp'])
  if (notBefore === undefined || expiry === undefined) return fail('the token does not say when it holds')
  const seconds = now.getTime() / 1000
  const detail = {
    expected: now.toISOString(),
    actual: `${new Date(notBefore * 1000).toISOString()} to ${new Date(expiry * 1000).toISOString()}`,
  }
  if (seconds < notBefore - skew) return fail('the token is not in force yet', detail)
  return seconds < expiry + skew ? pass(undefined, detail) : fail('the token has expired', detail)
}

function judgeNonce({ claims }: NrasToken, expected: Bytes | undefined): Finding {
  if (expected === undefined) return waived('no nonce of yours was given: a recorded verdict would pass')
  const actual = claims['eat_nonce']
  if (typeof actual === 'string' && actual.toLowerCase() === toHex(expected)) return pass()
  return fail('another challenge was answered', { expected: toHex(expected), actual: shown(actual).slice(0, 128) })
}

function judgeOverall({ claims }: NrasToken): Finding {
  return claims['x-nvidia-overall-att-result'] === true ? pass() : fail('the remote verifier refused the evidence')
}

/** NVIDIA spells the algorithm in two ways. */
const DIGEST_NAMES: readonly unknown[] = ['SHA-256', 'SHA256']

function judgeSubmodules({ overall, devices }: NrasResponse): Finding {
  const named = overall.claims['submods']
  if (!isObject(named)) return fail('the overall token names no devices')
  const expected = Object.keys(named).sort().join(', ')
  const actual = devices
    .map(({ name }) => name)
    .sort()
    .join(', ')
  if (expected !== actual) return fail('other devices than the overall token names', { expected, actual })
  const stray = devices.find(({ name, sha256Hex }) => {
    const entry: unknown = named[name]
    const [kind, digest] = Array.isArray(entry) ? (entry as readonly unknown[]) : []
    const [algorithm, value] = Array.isArray(digest) ? (digest as readonly unknown[]) : []
    const right = kind === 'DIGEST' && DIGEST_NAMES.includes(algorithm) && typeof value === 'string'
    return !right || value.toLowerCase() !== sha256Hex
  })
  return stray === undefined ? pass() : fail(`${stray.name}: not the token whose digest the overall token names`)
}

function judgeErrors({ claims }: NrasToken): Finding {
  const details = claims['x-nvidia-error-details']
  if (details === undefined || details === null) return pass()
  const { code, message } = isObject(details) ? details : {}
  return fail('the remote verifier reports an error', { actual: `${shown(code)} ${shown(message)}`.slice(0, 120) })
}

function judgeDistinct(devices: readonly NrasToken[]): Finding {
  const seen = new Set<unknown>()
  for (const token of devices) {
    const { name, claims } = token
    const { ueid } = claims as { readonly ueid?: unknown }
    if (typeof ueid !== 'string' || ueid === '') {
      // A device that was never judged has no name; that it was not is another check's failure.
      if (judgeErrors(token).status === 'fail') continue
      return fail(`${name}: the token names no device`)
    }
    if (seen.has(ueid)) return fail(`${name}: a device another token is about`, { actual: ueid.slice(0, 64) })
    seen.add(ueid)
  }
  return pass()
}

function describe({ name, claims }: NrasToken): NrasFindings['devices'][number] {
  const text = (claim: string) => {
    const value = claims[claim]
    return typeof value === 'string' ? value.slice(0, 100) : undefined
  }
  return {
    name,
    ueid: text('ueid'),
    model: text('hwmodel'),
    driver: text('x-nvidia-gpu-driver-version'),
    vbios: text('x-nvidia-gpu-vbios-version') ?? text('x-nvidia-switch-bios-version'),
  }
}

const NOT_PROVEN: NrasFindings['notProven'] = [
  {
    id: 'gpu.nras',
    text: 'anything NVIDIA’s remote verifier did not look at itself: this verdict is its word, not a check of the evidence',
  },
  {
    id: 'gpu.relay',
    text: 'that these GPUs sit in the machine whose CPU was attested: a genuine answer can be about a GPU elsewhere',
  },
]

/**
 * From a verified report to a vTPM quote: REPORT_DATA → runtime claims → HCLAkPub → quote → nonce and PCRs.
 *
 * The nonce is in the quote's qualifying data, never in REPORT_DATA. What the quote measures was measured by the cloud's
 * paravisor; nothing here identifies software launched by the guest's owner.
 */
import { type Finding, fail, pass, type Transcript, unavailable, waived } from '../checks.js'
import { type Bytes, equalBytes, fromUtf8, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import type { TpmEvidence } from './evidence.js'
import { type HclEnvelope, reportDataOfClaims } from './hcl.js'
import type { SnpReport } from './report.js'
import { matchPcrs, readTpmQuote } from './tpm-quote.js'

interface RsaPublicJwk {
  readonly n: string
  readonly e: string
}

const MIN_RSA_BITS = 2048

export function checkHcl(t: Transcript, report: SnpReport, hcl: HclEnvelope): void {
  t.check('snp.hcl.claims', () => {
    const expected = reportDataOfClaims(hcl)
    if (equalBytes(expected, report.reportData)) return pass(undefined, { actual: hcl.hash })
    const detail = { expected: toHex(expected), actual: toHex(report.reportData) }
    return fail(`REPORT_DATA is not the ${hcl.hash} of the runtime claims`, detail)
  })
}

/** `expectedNonce` is the qualifying data the caller asked for. */
export async function checkVtpm(
  t: Transcript,
  hcl: HclEnvelope,
  evidence: TpmEvidence | undefined,
  expectedNonce: Bytes | undefined,
): Promise<void> {
  const jwk = t.check('snp.tpm.key', () => pass(attestationKey(hcl.claims)))
  const quote = t.check('snp.tpm.quote', () =>
    evidence === undefined ? unavailable('the evidence carries no TPM quote') : pass(readTpmQuote(evidence.message)),
  )
  await t.checkAsync('snp.tpm.signature', async () =>
    jwk !== undefined && evidence !== undefined && (await isQuoteSignedBy(jwk, evidence))
      ? pass()
      : fail('the quote is not signed by the key in the claims'),
  )
  t.check('snp.tpm.nonce', () => matchQualifyingData(quote?.qualifyingData, expectedNonce))
  t.check('snp.tpm.pcrs', () =>
    quote !== undefined && matchPcrs(quote, evidence?.pcrs ?? [])
      ? pass()
      : fail('the PCR values do not hash to the digest in the quote'),
  )
}

function matchQualifyingData(actual: Bytes | undefined, expected: Bytes | undefined): Finding {
  if (expected === undefined) return waived('no nonce was asked for: the quote may be a recording')
  const detail = { expected: toHex(expected), actual: actual === undefined ? 'none' : toHex(actual) }
  return actual !== undefined && expected.length > 0 && equalBytes(actual, expected)
    ? pass(undefined, detail)
    : fail('the quote answers another nonce', detail)
}

/** @throws FormatError unless the claims are JSON with exactly one key called HCLAkPub, an RSA public key. */
function attestationKey(claims: Bytes): RsaPublicJwk {
  let parsed: unknown
  try {
    parsed = JSON.parse(fromUtf8(claims))
  } catch (cause) {
    throw new FormatError('snp.tpm.claims', 'runtime claims: not JSON', { cause })
  }
  const keys = isRecord(parsed) && Array.isArray(parsed['keys']) ? parsed['keys'] : []
  const named = keys.filter((key) => isRecord(key) && key['kid'] === 'HCLAkPub') as Record<string, unknown>[]
  const [key, second] = named
  const { kty, n, e } = key ?? {}
  if (second !== undefined || kty !== 'RSA' || typeof n !== 'string' || typeof e !== 'string') {
    throw new FormatError('snp.tpm.claims', 'runtime claims: expected one RSA key called HCLAkPub')
  }
  return { n, e }
}

async function isQuoteSignedBy({ n, e }: RsaPublicJwk, evidence: TpmEvidence): Promise<boolean> {
  const { subtle } = globalThis.crypto
  const algorithm = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
  try {
    const key = await subtle.importKey('jwk', { kty: 'RSA', n, e }, algorithm, false, ['verify'])
    const { modulusLength } = key.algorithm as { readonly modulusLength?: number }
    if (modulusLength === undefined || modulusLength < MIN_RSA_BITS) return false
    return await subtle.verify(algorithm, key, evidence.signature, evidence.message)
  } catch {
    // WebCrypto's errors differ by runtime; an unusable key signed nothing.
    return false
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * The first half of the TDX recipe: form, PCK chain, revocation, quoting enclave and signatures. Each function carries
 * out a group of checks in plan order and hands on what later groups need; nothing is handed on that a failed check
 * would have stood for.
 */
import { type Finding, fail, pass, type Transcript } from '../checks.js'
import type { EndorsementPool } from '../endorsements.js'
import { type Bytes, equalBytes, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { importP256Point, importVerifyKey, verifyP256 } from '../signature.js'
import type { TrustAnchor } from '../trust-anchors.js'
import {
  CERTIFICATION_PCK_CHAIN,
  CERTIFICATION_QE_REPORT,
  certificationName,
  type QeReportCertification,
} from './certification-data.js'
import {
  checkRoles,
  checkValidity,
  PCK_AUTHORITIES,
  type PckChain,
  readPckChain,
  trustRoot,
  verifyChain,
} from './chain.js'
import { isDebugEnclave } from './enclave-report.js'
import { readTdxEvidence, type TdxEvidence } from './evidence.js'
import { readHclTdxEnvelope } from './hcl.js'
import { type PckClaims, readPckClaims } from './pck.js'
import { matchKeyBinding } from './qe.js'
import {
  BODY_TYPE,
  INTEL_QE_VENDOR_ID,
  isReadable,
  KEY_TYPE_ECDSA_P256,
  parseQuoteHeader,
  parseTdxQuote,
  type QuoteHeader,
  type TdxQuote,
  TEE_TYPE_SGX,
  TEE_TYPE_TDX,
} from './quote.js'
import { type CrlOutcome, checkCrl, notRevoked, type Revocation } from './revocation.js'

export interface ReadEvidence {
  readonly evidence: TdxEvidence
  readonly quote: TdxQuote
}

/** Form: is this a quote whose every part this verifier can read? */
export function checkForm(t: Transcript, bytes: Bytes, hclReport: Bytes | undefined): ReadEvidence | undefined {
  const read = t.check('tdx.quote.parse', () => {
    const carried = readTdxEvidence(bytes)
    const evidence = hclReport === undefined ? carried : { ...carried, hcl: readHclTdxEnvelope(hclReport) }
    const header = parseQuoteHeader(evidence.quote)
    return pass({ evidence, header, quote: isReadable(header) ? parseTdxQuote(evidence.quote) : undefined })
  })
  if (read === undefined) return undefined
  const { evidence, header, quote } = read
  t.check('tdx.quote.version', () => {
    const detail = { expected: '4 or 5', actual: String(header.version) }
    if (header.version === 4 || header.version === 5) return pass(undefined, detail)
    return fail(header.version === 3 ? 'version 3 is an SGX quote' : 'unknown quote version', detail)
  })
  t.check('tdx.quote.tee-type', () => checkTeeType(header))
  t.check('tdx.quote.key-type', () => {
    const detail = { expected: `${KEY_TYPE_ECDSA_P256} (ECDSA P-256)`, actual: String(header.attestationKeyType) }
    return header.attestationKeyType === KEY_TYPE_ECDSA_P256
      ? pass(undefined, detail)
      : fail('the attestation key is of another kind', detail)
  })
  t.check('tdx.quote.qe-vendor', () => {
    const detail = { expected: toHex(INTEL_QE_VENDOR_ID), actual: toHex(header.qeVendorId) }
    return equalBytes(header.qeVendorId, INTEL_QE_VENDOR_ID)
      ? pass(undefined, detail)
      : fail('the quoting enclave is another vendor’s', detail)
  })
  t.check('tdx.quote.certification', () => {
    const type = quote?.certificationType ?? 0
    if (quote?.certification === undefined) {
      return fail(`certification data of type ${certificationName(type)} do not hold a QE report`, {
        expected: certificationName(CERTIFICATION_QE_REPORT),
      })
    }
    const { innerType } = quote.certification
    if (innerType === CERTIFICATION_PCK_CHAIN) return pass()
    return fail(`the quote carries ${certificationName(innerType)} instead of its PCK certificate chain`, {
      expected: certificationName(CERTIFICATION_PCK_CHAIN),
    })
  })
  return quote === undefined ? undefined : { evidence, quote }
}

function checkTeeType({ teeType, bodyType }: QuoteHeader): Finding {
  const body = bodyType === undefined ? '' : `, body type ${bodyType}`
  const detail = { expected: `0x${TEE_TYPE_TDX.toString(16)}`, actual: `0x${teeType.toString(16)}${body}` }
  if (teeType === TEE_TYPE_SGX) return fail('the quote speaks of an SGX enclave, not of a TD', detail)
  if (teeType !== TEE_TYPE_TDX) return fail('the quote speaks of an unknown kind of environment', detail)
  if (bodyType === undefined || bodyType === BODY_TYPE.td10 || bodyType === BODY_TYPE.td15)
    return pass(undefined, detail)
  const kind = bodyType === BODY_TYPE.sgx ? 'an SGX report' : 'an unknown report'
  return fail(`the header speaks of a TD and the body is ${kind}`, detail)
}

export interface Certified {
  readonly chain: PckChain
  /** The root's key is Intel's or one the policy adds. */
  readonly trusted: boolean
  /** The root's key is Intel's. */
  readonly pinned: boolean
  readonly pck: PckClaims | undefined
}

/** The chain in the quote, each property a check of its own. */
export async function checkChain(
  t: Transcript,
  quote: TdxQuote,
  anchors: readonly TrustAnchor[],
  now: Date,
): Promise<Certified | undefined> {
  const chain = t.check('tdx.pck.parse', () => pass(readPckChain(quote)))
  if (chain === undefined) return undefined
  const trust = t.check('tdx.pck.root', () => trustRoot(chain.root, anchors))
  t.check('tdx.pck.roles', () => checkRoles(chain))
  await t.checkAsync('tdx.pck.chain', () => verifyChain(chain))
  t.check('tdx.pck.validity', () => checkValidity([chain.leaf, chain.intermediate, chain.root], now))
  const pck = t.check('tdx.pck.extension', () => pass(readPckClaims(chain.leaf)))
  return { chain, trusted: trust !== undefined, pinned: trust?.pinned === true, pck }
}

export interface CrlOutcomes {
  readonly root: CrlOutcome
  readonly pck: CrlOutcome
}

/** The root's CRL for the intermediate, the intermediate's for the leaf: never the other way round. */
export async function checkPathRevocation(
  t: Transcript,
  { leaf, intermediate, root }: PckChain,
  input: { readonly mode: Revocation; readonly pool: EndorsementPool; readonly now: Date },
): Promise<CrlOutcomes> {
  const rootCrl = await checkCrl(t, 'root', root, [root.subjectCommonName ?? ''], input)
  t.check('tdx.crl.intermediate-status', () => notRevoked([intermediate], rootCrl))
  const pckCrl = await checkCrl(t, 'pck', intermediate, PCK_AUTHORITIES, input)
  t.check('tdx.crl.leaf-status', () => notRevoked([leaf], pckCrl))
  return { root: rootCrl, pck: pckCrl }
}

/** PCK key signs the QE report, the QE report binds the attestation key, the attestation key signs the quote. */
export async function checkSignatures(t: Transcript, quote: TdxQuote, chain: PckChain | undefined): Promise<void> {
  const { certification } = quote
  if (certification === undefined) return
  // Started together: each waits for a thread of its own.
  const qeSigned = chain === undefined ? Promise.resolve(false) : isQeReportSigned(certification, chain)
  const quoteSigned = isQuoteSigned(quote)
  await t.checkAsync('tdx.qe.signature', async () =>
    (await qeSigned) ? pass() : fail('the PCK key did not sign this QE report'),
  )
  t.check('tdx.qe.binding', () => matchKeyBinding(quote, certification))
  await t.checkAsync('tdx.quote.signature', async () =>
    (await quoteSigned) ? pass() : fail('the attestation key did not sign these bytes'),
  )
  t.check('tdx.qe.debug', () =>
    isDebugEnclave(certification.qeReport) ? fail('the quoting enclave runs in debug mode') : pass(),
  )
}

async function isQeReportSigned(
  { qeReportBytes, qeReportSignature }: QeReportCertification,
  { leaf }: PckChain,
): Promise<boolean> {
  try {
    return await verifyP256(await importVerifyKey(leaf, 'ecdsa-p256-sha256'), qeReportSignature, qeReportBytes)
  } catch (error) {
    if (error instanceof FormatError) return false
    throw error
  }
}

async function isQuoteSigned({ attestationKey, signature, signedBytes }: TdxQuote): Promise<boolean> {
  const key = await importP256Point(attestationKey)
  return key !== undefined && (await verifyP256(key, signature, signedBytes))
}

/** Warm verification of SEV-SNP reports. */
import { gunzipSync } from 'node:zlib'
import { verifyEvidence } from '../../verifier/appraise.js'
import { type EndorsementFile, sortEndorsements } from '../../verifier/endorsements.js'
import { type AppraisalPolicy, STRICT_POLICY } from '../../verifier/policy.js'
import { fromBase64, toBytes, utf8 } from '../../verifier/protocol/bytes.js'
import { parseTcbFloor } from '../../verifier/snp/policy.js'
import { parseTrustAnchors } from '../../verifier/trust-anchors.js'
import { parseCertificate } from '../../verifier/x509.js'
import { bareVerifications, forgetSignatures } from './arithmetic.js'
import { capturedFiles, readCaptured, snpSample } from './inputs.js'
import { type Benchmark, type Contest, MissingInput } from './measure.js'

/** Report by VEK, VEK by intermediate, intermediate by root, root by itself, CRL by root. */
const SNP_SIGNATURES = 5

const HARDWARE_ONLY: AppraisalPolicy = {
  ...STRICT_POLICY,
  measurements: 'any',
  snp: { ...STRICT_POLICY.snp, tcbFloor: parseTcbFloor('none') },
}

export const SNP_BENCHMARKS: readonly Benchmark[] = [
  {
    name: 'snp.warm.bare',
    against: `the ${SNP_SIGNATURES} WebCrypto verifications in it alone, keys imported on both sides; ours verifies all of them anew each time and remembers only what parsed certificates and the CRL say`,
    target: 1.5,
    rounds: 300,
    prepare: () => againstBare(true),
  },
  {
    name: 'snp.warm.remembered',
    against: `the same ${SNP_SIGNATURES} WebCrypto verifications; ours remembers the chain and CRL it met before, by exact bytes, and verifies the report’s signature anew`,
    target: 1,
    rounds: 300,
    prepare: () => againstBare(false),
  },
  {
    name: 'snp.warm.tinfoil',
    against:
      '@tinfoilsh/verifier on the same gzipped Genoa report and VCEK, no CRL on either side; ours verifies every signature anew and remembers what parsed certificates say',
    target: 1,
    rounds: 200,
    prepare: againstTinfoil,
  },
]

async function againstBare(anew: boolean): Promise<Contest> {
  const { report, endorsements, at, rootsPem } = await snpSample()
  const pool = sortEndorsements(endorsements)
  const trustAnchors = rootsPem === undefined ? [] : parseTrustAnchors(utf8(rootsPem))
  const options = { policy: { ...HARDWARE_ONLY, trustAnchors }, endorsements: pool, now: at }
  const ours = (): Promise<void> => accepted(verifyEvidence(report, options))
  const [any] = pool.certificates
  if (any === undefined) throw new Error('the sample has no certificate')
  await ours()
  await forgetSignatures(any)
  const theirs = await bareVerifications(SNP_SIGNATURES, ours)
  return { ours, theirs, ...(anew ? { before: () => forgetSignatures(any) } : {}) }
}

async function againstTinfoil(): Promise<Contest> {
  const folder = 'snp/conformance/200-real-sev-snp-happy'
  const input = JSON.parse(new TextDecoder().decode(readCaptured(`${folder}/input.json`))) as Record<string, string>
  const body = input['attestation_doc_b64'] ?? ''
  const vcekBase64 = input['vcek_der_b64'] ?? ''
  const chain = ['roots/amd-ask-genoa.der', 'roots/amd-ark-genoa.der'].flatMap(capturedFiles)
  const vcek = fromBase64(vcekBase64)
  const { notAfter } = parseCertificate(vcek)
  // The other side reads the clock itself.
  if (new Date() > notAfter) throw new MissingInput(`the VCEK expired on ${notAfter.toISOString()}`)

  const files: readonly EndorsementFile[] = [{ name: 'vcek', bytes: vcek }, ...chain]
  const policy: AppraisalPolicy = { ...HARDWARE_ONLY, revocation: 'available' }
  const ours = (): Promise<void> => {
    const report = toBytes(new Uint8Array(gunzipSync(fromBase64(body))))
    return accepted(verifyEvidence(report, { policy, endorsements: sortEndorsements(files), now: new Date() }))
  }
  const tinfoil = await import('@tinfoilsh/verifier')
  const document = { format: tinfoil.PredicateType.SevGuestV2, body }
  const any = parseCertificate(vcek)
  return {
    before: () => forgetSignatures(any),
    ours,
    // Throws unless it accepts.
    theirs: () => tinfoil.verifyAttestation(document, vcekBase64),
  }
}

async function accepted(result: ReturnType<typeof verifyEvidence>): Promise<void> {
  const { verdict, checks } = await result
  if (verdict === 'accepted') return
  const first = checks.find(({ status }) => status === 'fail')
  throw new Error(`the sample is ${verdict}: ${first?.id ?? 'something is missing'}`)
}

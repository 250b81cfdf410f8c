/**
 * `--format cmw`: what was appraised and what came of it as one RATS conceptual message wrapper in JSON
 * (draft-ietf-rats-msg-wrap): a collection with the evidence, the endorsements stapled to it, and the attestation result
 * as a signed EAR under `result`.
 *
 * The bundle's own `digest` member is left out: it covers the CBOR form, and a collection in JSON has no place for it.
 */
import { detectEvidence } from './detect.js'
import { EAR_MEDIA_TYPE, signEar } from './ear.js'
import { UsageError } from './errors.js'
import { type Bytes, toBase64Url, utf8 } from './protocol/bytes.js'
import { CborFields, decodeCbor, expectArray, expectBytes } from './protocol/cbor.js'
import {
  BUNDLE_TYPE,
  MAX_BUNDLE_BYTES,
  MEDIA_TYPE_NVIDIA_EVIDENCE,
  MEDIA_TYPE_SNP_REPORT,
  MEDIA_TYPE_TDX_QUOTE,
} from './protocol/constants.js'
import type { AttestationResult } from './result.js'

/** CM type indicator bits. */
const EVIDENCE = 4
const ATTESTATION_RESULTS = 8

/** Media type, base64url without padding, indicator. */
export type CmwRecord = readonly [mediaType: string, value: string, indicator: number]
export type CmwCollection = Readonly<Record<string, string | CmwRecord>>

const RAW_TYPES = { snp: MEDIA_TYPE_SNP_REPORT, tdx: MEDIA_TYPE_TDX_QUOTE, gpu: MEDIA_TYPE_NVIDIA_EVIDENCE } as const

/** @throws UsageError when there is no one piece of readable evidence to wrap. */
export async function wrapEvidence(result: AttestationResult, evidence: Bytes | undefined): Promise<CmwCollection> {
  if (evidence === undefined || result.verdict === 'malformed') {
    throw new UsageError('option.format', '--format cmw wraps one readable bundle or report, and this is not one')
  }
  const { kind, bytes } = detectEvidence(evidence)
  const members =
    kind === 'bundle'
      ? bundleMembers(bytes)
      : { evidence: [RAW_TYPES[kind], toBase64Url(bytes), EVIDENCE] satisfies CmwRecord }
  const ear = await signEar(result)
  return {
    __cmwc_t: BUNDLE_TYPE,
    ...members,
    result: [EAR_MEDIA_TYPE, toBase64Url(utf8(ear)), ATTESTATION_RESULTS],
  }
}

/** Every member as it stands in a bundle that parsed. */
function bundleMembers(bytes: Bytes): Record<string, CmwRecord> {
  const decoded = decodeCbor(bytes, MAX_BUNDLE_BYTES)
  const fields = new CborFields(decoded, 'bundle')
  const names = decoded instanceof Map ? [...decoded.keys()].map(String) : []
  return Object.fromEntries(
    names
      .filter((name) => name !== 'digest' && name !== '__cmwc_t')
      .map((name) => {
        const [type, value, indicator] = expectArray(fields.raw(name), `bundle: ${name}`, 3)
        return [name, [String(type), toBase64Url(expectBytes(value, `bundle: ${name}`)), Number(indicator)]]
      }),
  )
}

/** Making a saved bundle self-contained: the evidence as it came, plus the endorsements its verdict used. */

import { type EndorsementFile, sortEndorsements } from './endorsements.js'
import { UsageError } from './errors.js'
import {
  type Bundle,
  type EndorsementType,
  encodeBundle,
  MAX_ENDORSEMENTS,
  parseBundle,
  type StapledEndorsement,
} from './protocol/bundle.js'
import { type Bytes, equalBytes } from './protocol/bytes.js'
import {
  MEDIA_TYPE_CERTIFICATE,
  MEDIA_TYPE_CRL,
  MEDIA_TYPE_JSON,
  MEDIA_TYPE_OCSP,
  MEDIA_TYPE_RELEASE,
  MEDIA_TYPE_RELEASE_INDEX,
  MEDIA_TYPE_RIM,
  MEDIA_TYPE_SIGSTORE,
  MEDIA_TYPE_TLOG_PROOF,
} from './protocol/constants.js'

/** @throws FormatError when `bundle` is not a bundle; UsageError when they are more than a bundle holds. */
export function addEndorsements(bundle: Bytes, endorsements: readonly Bytes[]): Bytes {
  const parsed: Bundle = parseBundle(bundle)
  const missing = endorsements.filter((der) => !parsed.endorsements.some((item) => equalBytes(item.bytes, der)))
  const added = missing.map((bytes) => ({ type: typeOf(bytes), bytes }))
  const all = [...parsed.endorsements, ...added]
  if (all.length <= MAX_ENDORSEMENTS) return encodeBundle({ ...parsed, endorsements: all })
  // What the worker stapled and nothing rested on gives way to what the verdict rests on.
  const used = parsed.endorsements.filter((item) => endorsements.some((der) => equalBytes(item.bytes, der)))
  if (used.length + added.length > MAX_ENDORSEMENTS) {
    throw new UsageError(
      'option.save',
      `--save: the verdict rests on ${used.length + added.length} endorsements and a bundle holds ${MAX_ENDORSEMENTS}; name fewer with --endorsements`,
    )
  }
  return encodeBundle({ ...parsed, endorsements: [...used, ...added] })
}

const DOCUMENT_TYPES = {
  'tdx-collateral': MEDIA_TYPE_JSON,
  jwks: MEDIA_TYPE_JSON,
  rim: MEDIA_TYPE_RIM,
  ocsp: MEDIA_TYPE_OCSP,
  release: MEDIA_TYPE_RELEASE,
  'release-index': MEDIA_TYPE_RELEASE_INDEX,
  'tlog-proof': MEDIA_TYPE_TLOG_PROOF,
  'sigstore-bundle': MEDIA_TYPE_SIGSTORE,
} as const

/** Whatever files hold, in the forms bundles carry: PEM and containers taken apart, each item once. Unrecognised files are left out. */
export function asStapled(files: readonly EndorsementFile[]): readonly StapledEndorsement[] {
  const { certificates, crls, documents } = sortEndorsements(files)
  return [
    ...certificates.map(({ der }) => ({ type: MEDIA_TYPE_CERTIFICATE, bytes: der }) as const),
    ...crls.map(({ der }) => ({ type: MEDIA_TYPE_CRL, bytes: der }) as const),
    ...documents.map(({ kind, bytes }) => ({ type: DOCUMENT_TYPES[kind], bytes })),
  ]
}

/** By content, as every endorsement is told from the others. */
function typeOf(bytes: Bytes): EndorsementType {
  const { documents, crls } = sortEndorsements([{ name: 'used', bytes }])
  const [document] = documents
  if (document !== undefined) return DOCUMENT_TYPES[document.kind]
  return crls.length > 0 ? MEDIA_TYPE_CRL : MEDIA_TYPE_CERTIFICATE
}

/** Making a saved bundle self-contained: the evidence as it came, plus the endorsements its verdict used. */

import { sortEndorsements } from './endorsements.js'
import { type Bundle, type EndorsementType, encodeBundle, parseBundle } from './protocol/bundle.js'
import { type Bytes, equalBytes } from './protocol/bytes.js'
import { MEDIA_TYPE_CERTIFICATE, MEDIA_TYPE_CRL, MEDIA_TYPE_JSON } from './protocol/constants.js'

/** @throws FormatError when `bundle` is not a bundle. `endorsements` are DER. */
export function addEndorsements(bundle: Bytes, endorsements: readonly Bytes[]): Bytes {
  const parsed: Bundle = parseBundle(bundle)
  const missing = endorsements.filter((der) => !parsed.endorsements.some((item) => equalBytes(item.bytes, der)))
  return encodeBundle({
    ...parsed,
    endorsements: [...parsed.endorsements, ...missing.map((bytes) => ({ type: typeOf(bytes), bytes }))],
  })
}

function typeOf(bytes: Bytes): EndorsementType {
  const pool = sortEndorsements([{ name: 'used', bytes }])
  if (pool.documents.length > 0) return MEDIA_TYPE_JSON
  return pool.crls.length > 0 ? MEDIA_TYPE_CRL : MEDIA_TYPE_CERTIFICATE
}

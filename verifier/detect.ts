/**
 * What a piece of evidence is, by its bytes: a bundle, a TDX quote, NVIDIA or SNP evidence, binary or as hex or base64 text. Says nothing
 * about validity; whatever is not recognised is handed to the SNP reader, which refuses it by name.
 */
import { isGpuEvidence } from './gpu/evidence.js'
import { looksLikeBundle } from './protocol/bundle.js'
import { type Bytes, fromBase64, fromHex } from './protocol/bytes.js'
import { looksLikeSnpContainer } from './snp/evidence.js'
import { looksLikeTdxContainer } from './tdx/evidence.js'
import { looksLikeRawTdReport } from './tdx/quote.js'

export interface DetectedEvidence {
  readonly kind: 'bundle' | 'snp' | 'tdx' | 'gpu'
  readonly bytes: Bytes
}

export function detectEvidence(bytes: Bytes): DetectedEvidence {
  const decoded = undoText(bytes)
  return { kind: kindOf(decoded), bytes: decoded }
}

function kindOf(bytes: Bytes): DetectedEvidence['kind'] {
  if (looksLikeBundle(bytes)) return 'bundle'
  if (looksLikeQuote(bytes) || looksLikeTdxContainer(bytes)) return 'tdx'
  if (isGpuEvidence(bytes)) return 'gpu'
  return looksLikeRawTdReport(bytes) && !beginsLikeSnp(bytes) ? 'tdx' : 'snp'
}

/** What is cut short to a TDREPORT's length is still refused as what it was. */
function beginsLikeSnp(bytes: Bytes): boolean {
  const [version = 0, ...high] = bytes.subarray(0, 4)
  return looksLikeSnpContainer(bytes) || (version >= 2 && version <= 5 && high.every((byte) => byte === 0))
}

/** A quote header of any version: an attestation key type where an SNP report has the zero half of its version. */
function looksLikeQuote(bytes: Bytes): boolean {
  const [version = 0, versionHigh, keyType = 0, keyTypeHigh] = bytes
  return version >= 3 && version <= 5 && versionHigh === 0 && keyType >= 2 && keyType <= 3 && keyTypeHigh === 0
}

/** Hex or base64 (either alphabet's padded form, line breaks allowed) back to bytes; anything else is left as it is. */
function undoText(bytes: Bytes): Bytes {
  if (bytes.length === 0 || bytes.length > 64 * 1024 * 1024) return bytes
  const printable = (byte: number) => (byte >= 0x20 && byte < 0x7f) || byte === 0x0a || byte === 0x0d || byte === 0x09
  if (!bytes.every(printable)) return bytes
  const raw = new TextDecoder().decode(bytes)
  if (raw.includes('-----BEGIN')) return bytes
  const text = raw.replace(/\s+/g, '')
  const hex = text.startsWith('0x') ? text.slice(2) : text
  if (hex.length > 0 && hex.length % 2 === 0 && /^[0-9a-fA-F]+$/.test(hex)) return fromHex(hex)
  try {
    const standard = text.replaceAll('-', '+').replaceAll('_', '/')
    return fromBase64(standard + '='.repeat((4 - (standard.length % 4)) % 4))
  } catch {
    return bytes
  }
}

/**
 * Extra roots for private or simulated hardware (`--trust-anchor`, `trustAnchors` in a policy).
 *
 * Each is scoped to one vendor kind, so that a root made for a simulated CPU can never vouch for a GPU. The kind is
 * declared by an explanatory line `Kind: snp`, `Kind: tdx` or `Kind: nvidia` before the PEM block (RFC 7468 §2), or else
 * follows from the subject. An anchor that says neither is the caller's mistake and is refused.
 */

import { UsageError } from './errors.js'
import { looksLikePem, readPem } from './pem.js'
import { FormatError } from './protocol/errors.js'
import type { VendorKind } from './roots.js'
import { type Certificate, parseCertificate } from './x509.js'

/**
 * A trust anchor file cannot be used. What to do: mend the file or name another; nothing was verified.
 */
export class TrustAnchorError extends UsageError {}

export interface TrustAnchor {
  readonly kind: VendorKind
  readonly certificate: Certificate
  /** Lower-case hex SHA-256 of the root's SubjectPublicKeyInfo: what is trusted is the key. */
  readonly spkiSha256Hex: string
}

/**
 * Every anchor in a PEM or DER file, in order.
 * @throws TrustAnchorError on a damaged file, a file without certificates, or a certificate of no declared kind.
 */
export function parseTrustAnchors(bytes: Uint8Array, name = 'trust anchor'): readonly TrustAnchor[] {
  try {
    if (!looksLikePem(bytes)) return [anchorOf(parseCertificate(bytes), undefined, name)]
    const anchors = readPem(bytes).map(({ label, der, explanatory }) => {
      if (label !== 'CERTIFICATE')
        throw new TrustAnchorError('trust-anchor.label', `${name}: unexpected ${label} block`)
      return anchorOf(parseCertificate(der), declaredKind(explanatory, name), name)
    })
    if (anchors.length === 0) throw new TrustAnchorError('trust-anchor.empty', `${name}: no certificate found`)
    return anchors
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    throw new TrustAnchorError('trust-anchor.malformed', `${name}: ${error.message}`, { cause: error })
  }
}

/** The vendor kind a root's subject implies, for reporting and for files that declare none. */
export function kindOfSubject(commonName: string | undefined): VendorKind | undefined {
  if (commonName === undefined) return undefined
  if (commonName.startsWith('ARK-')) return 'snp'
  if (commonName === 'Intel SGX Root CA') return 'tdx'
  return commonName.includes('NVIDIA') ? 'nvidia' : undefined
}

function anchorOf(certificate: Certificate, declared: VendorKind | undefined, name: string): TrustAnchor {
  const { subjectCommonName, spkiSha256Hex } = certificate
  const kind = declared ?? kindOfSubject(subjectCommonName)
  if (kind === undefined) {
    throw new TrustAnchorError(
      'trust-anchor.kind',
      `${name}: ${subjectCommonName ?? 'certificate'} declares no vendor kind; expected a line "Kind: snp", "Kind: tdx" or "Kind: nvidia"`,
    )
  }
  return { kind, certificate, spkiSha256Hex }
}

function declaredKind(explanatory: readonly string[], name: string): VendorKind | undefined {
  const declared = explanatory.flatMap((line) => /^Kind:\s*(\S+)\s*$/.exec(line)?.slice(1) ?? [])
  const [kind, second] = declared
  if (second !== undefined) throw new TrustAnchorError('trust-anchor.kind', `${name}: more than one Kind line`)
  if (kind === undefined || kind === 'snp' || kind === 'tdx' || kind === 'nvidia') return kind
  throw new TrustAnchorError('trust-anchor.kind', `${name}: unknown kind "${kind.slice(0, 20)}"`)
}

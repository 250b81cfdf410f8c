/**
 * What a chain of NVIDIA certificates must be (RFC 5280 §6.1, with P-384 and SHA-384 throughout), devices' and manifests'
 * alike: one function a rule, over certificates leaf first and root last.
 */
import { type Finding, fail, pass } from '../checks.js'
import { expectTag, readDer, TAG } from '../der.js'
import { findPinnedRoot } from '../roots.js'
import { isSignedBy } from '../signature.js'
import type { TrustAnchor } from '../trust-anchors.js'
import { type Certificate, inValidity, namesIssuer } from '../x509.js'
import { unknownCritical } from '../x509-extensions.js'

export type Chain = readonly Certificate[]
/** Which of NVIDIA's two roots may answer. */
export type RootPurpose = 'device' | 'rim'

/** `pinned`: NVIDIA's own key; `added`: one the policy adds; undefined: nobody's. A name is no reason. */
export function trustOf(
  root: Certificate | undefined,
  purpose: RootPurpose,
  anchors: readonly TrustAnchor[],
): 'pinned' | 'added' | undefined {
  if (root === undefined) return undefined
  if (findPinnedRoot('nvidia', root.spkiSha256Hex)?.product === purpose) return 'pinned'
  const added = anchors.some((anchor) => anchor.kind === 'nvidia' && anchor.spkiSha256Hex === root.spkiSha256Hex)
  return added ? 'added' : undefined
}

export function judgeRoot(chain: Chain, purpose: RootPurpose, anchors: readonly TrustAnchor[]): Finding {
  const root = chain.at(-1)
  if (trustOf(root, purpose, anchors) !== undefined) return pass()
  return fail('the chain does not end in a pinned root key', {
    actual: `${root?.subjectCommonName ?? '?'} (SPKI ${root?.spkiSha256Hex ?? '?'})`,
  })
}

/** Exactly so many certificates, each naming the next as its issuer, none twice. */
export function judgeShape(chain: Chain, length: number): Finding {
  if (chain.length !== length) {
    return fail('the chain is not as long as it must be', {
      expected: `${length} certificates`,
      actual: `${chain.length}`,
    })
  }
  if (new Set(chain.map((certificate) => certificate.sha256Hex)).size !== chain.length) {
    return fail('a certificate occurs twice in the chain')
  }
  const stray = chain.findIndex((certificate, i) => !namesIssuer(certificate, chain[i + 1] ?? certificate))
  return stray < 0 ? pass() : fail(`certificate ${stray} does not name the next one as its issuer`)
}

/** Every certificate signed by the next one's key, the root by its own. */
export async function judgeSignatures(chain: Chain): Promise<Finding> {
  for (const [i, certificate] of chain.entries()) {
    if (!(await isSignedBy(certificate, chain[i + 1] ?? certificate, 'ecdsa-p384-sha384'))) {
      return fail(`certificate ${i} (${certificate.subjectCommonName ?? '?'}) is not signed by the one above it`)
    }
  }
  return pass()
}

/** The leaf may sign evidence and nothing else; everything above may sign certificates, as deep as it is. */
export function judgeAuthority(chain: Chain): Finding {
  const [leaf, ...authorities] = chain
  if (leaf === undefined) return fail('there is no leaf')
  if (leaf.isCa || leaf.keyUsage?.certSign === true) return fail('the leaf is a certificate authority')
  if (!maySignData(leaf)) return fail('the leaf’s key may not be used for signatures')
  for (const [i, authority] of authorities.entries()) {
    const name = `certificate ${i + 1} (${authority.subjectCommonName ?? '?'})`
    if (!authority.isCa) return fail(`${name} is not a certificate authority`)
    if (authority.keyUsage?.certSign !== true) return fail(`${name} may not sign certificates`)
    if (authority.pathLength !== undefined && authority.pathLength < i) return fail(`${name} stands too high up`)
  }
  return pass()
}

export function judgeExtensions(chain: Chain): Finding {
  const unknown = chain.flatMap((certificate) => unknownCritical(certificate))
  return unknown.length === 0 ? pass() : fail(`critical extensions nobody here understands: ${unknown.join(', ')}`)
}

export function judgeValidity(chain: Chain, now: Date): Finding {
  const index = chain.findIndex((certificate) => !inValidity(certificate, now))
  const outside = chain[index]
  if (outside === undefined) return pass()
  const name = outside.subjectCommonName ?? '?'
  return fail(`certificate ${index} (${name}) ${now < outside.notBefore ? 'is not valid yet' : 'has expired'}`, {
    expected: now.toISOString(),
    actual: `${outside.notBefore.toISOString()} to ${outside.notAfter.toISOString()}`,
  })
}

const KEY_USAGE = '2.5.29.15'
const DIGITAL_SIGNATURE = 0x80

/** keyUsage has digitalSignature (RFC 5280 §4.2.1.3). Without the extension: no. @throws FormatError when malformed. */
export function maySignData(certificate: Certificate): boolean {
  const extension = certificate.extensions.get(KEY_USAGE)
  if (extension === undefined) return false
  const { content } = expectTag(readDer(extension.value, 'keyUsage'), TAG.bitString, 'keyUsage')
  return ((content[1] ?? 0) & DIGITAL_SIGNATURE) !== 0
}

/**
 * Sigstore in place of a log of one's own (sigstore.dev "bundle" v0.3): a message signature over the manifest's exact
 * bytes, whose certificate, certificate log and transparency log are held to a trusted root that the policy carries. By
 * Sigstore's own libraries, offline: no TUF, no network. Node only, so callers hand it in; elsewhere such a policy finds it
 * unavailable.
 *
 * What it shows is that the identity a provider of identities vouched for signed these bytes, and that Rekor's operator
 * logged it. Rekor has witnesses of its own, which these libraries do not check.
 */
import { bundleFromJSON } from '@sigstore/bundle'
import { TrustedRoot } from '@sigstore/protobuf-specs'
import { toSignedEntity, toTrustMaterial, Verifier } from '@sigstore/verify'
import { fromUtf8 } from '../protocol/bytes.js'
import type { SigstoreVerdict } from './logged.js'
import type { SigstorePolicy } from './policy.js'

export type { SigstorePolicy, SigstoreVerdict }

/** Holds one bundle over `artifact` to the policy. Never throws: whatever is wrong with hostile bytes is a reason. */
export function verifySigstoreBundle(
  bundle: Uint8Array,
  artifact: Uint8Array,
  policy: SigstorePolicy,
): SigstoreVerdict {
  try {
    const root = TrustedRoot.fromJSON(JSON.parse(policy.trustedRoot))
    const verifier = new Verifier(toTrustMaterial(root), { ctlogThreshold: 1, tlogThreshold: 1 })
    const read = bundleFromJSON(JSON.parse(fromUtf8(bundle)))
    // Of an envelope (DSSE) the library holds nothing against the artifact: anything the identity ever attested would do.
    if (read.content.$case !== 'messageSignature') {
      return { holds: false, reason: 'expected a message signature over the manifest, got an envelope of its own' }
    }
    const entity = toSignedEntity(read, Buffer.from(artifact))
    verifier.verify(entity, { subjectAlternativeName: exactly(policy.identity), extensions: { issuer: policy.issuer } })
    return { holds: true }
  } catch (error) {
    return { holds: false, reason: error instanceof Error ? error.message.slice(0, 200) : 'not a Sigstore bundle' }
  }
}

/** The library reads an identity as a pattern: this one matches the text itself and nothing more. */
function exactly(text: string): string {
  return `^${text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')}$`
}

/**
 * What an attack on a manifest is, and the attacks that are markup: text that different readers and canonicalisers take
 * differently, around content and signature that are genuine.
 */
import type { KeyObject } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { buildRim, type RimBreak, type RimFields, type RimSigner } from './gpu-rim.js'

export interface RimAttackInput {
  readonly genuine: RimFields
  readonly signer: RimSigner
  /** The attacker's content: other golden values, say. */
  readonly forged: RimFields
  /** The attacker's key and certificates, which lead to no pinned root. */
  readonly attacker: RimSigner & { readonly publicKey: KeyObject }
}

export interface RimAttack {
  readonly title: string
  /**
   * What holds under the genuine key, by the letter of XML Signature. `all`: digest and signature, so that only the profile
   * objects. `signature`: the signature over SignedInfo, not the digest. `none`: neither, or the text is not XML.
   */
  readonly holds: 'all' | 'signature' | 'none'
  readonly build: (input: RimAttackInput) => Bytes
}

export const MARKUP_ATTACKS = {
  doctype: text(
    'a document type with an entity',
    'all',
    (xml) => `<!DOCTYPE SoftwareIdentity [<!ENTITY a "b">]>${xml}`,
  ),
  'bare-doctype': text('a document type', 'all', (xml) => `<!DOCTYPE SoftwareIdentity>\n${xml}`),
  'comment-before-root': text('a comment before the tag', 'all', (xml) => `<!-- -->${xml}`),
  'comment-in-payload': text('a comment in the Payload', 'all', (xml) => xml.replace('<ns0:Resource', '<!-- -->$&')),
  'comment-in-certificate': text('a comment in a certificate', 'all', (xml) =>
    after(xml, '<ds:X509Certificate>', '<!---->'),
  ),
  'comment-in-digest': text('a comment in DigestValue', 'all', (xml) => after(xml, '<ds:DigestValue>', '<!---->')),
  'comment-in-signature': text('a comment in SignatureValue', 'all', (xml) =>
    after(xml, '<ds:SignatureValue>', '<!---->'),
  ),
  'cdata-in-signature': text('SignatureValue as CDATA', 'all', (xml) =>
    xml.replace(/(<ds:SignatureValue>)([^<]*)/, '$1<![CDATA[$2]]>'),
  ),
  'processing-instruction': text('a processing instruction in KeyInfo', 'all', (xml) =>
    after(xml, '<ds:KeyInfo>', '<?pi?>'),
  ),
  'character-reference': text('a character reference', 'all', (xml) => xml.replace('revision="r', 'revision="&#x72;')),
  'other-encoding': text(
    'a declaration of another encoding',
    'none',
    (xml) => `<?xml version="1.0" encoding="UTF-16"?>${xml}`,
  ),
  'duplicate-attribute': text('an attribute twice', 'none', (xml) => xml.replace('ns2:Hash0="', 'ns2:Hash0="00" $&')),
  'duplicate-attribute-by-namespace': text('an attribute twice, by two prefixes of one namespace', 'none', (xml) =>
    xml.replace('ns2:Hash0="', 'SHA384:Hash0="00" $&'),
  ),
  'unbound-prefix': text('a prefix that nothing declares', 'none', (xml) => xml.replace('<ns0:Entity', '$& x:y="z"')),
  'second-root': text('a second document element', 'none', (xml) => `${xml}${xml}`),
  'trailing-text': text('text after the tag', 'none', (xml) => `${xml}x`),
  'nul-byte': text('a NUL after the tag', 'none', (xml) => `${xml}\0`),
} as const satisfies Readonly<Record<string, RimAttack>>

/** The genuine manifest, broken in one way. */
export function genuineBroken(
  title: string,
  holds: RimAttack['holds'],
  broken: (input: RimAttackInput) => RimBreak,
): RimAttack {
  return { title, holds, build: (input) => buildRim(input.genuine, input.signer, broken(input)) }
}

function text(title: string, holds: RimAttack['holds'], editText: (xml: string) => string): RimAttack {
  return genuineBroken(title, holds, () => ({ editText }))
}

function after(xml: string, tag: string, inserted: string): string {
  return xml.replace(tag, `${tag}${inserted}`)
}

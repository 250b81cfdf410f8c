import {
  buildRim,
  buildSoftwareIdentity,
  RIM_ALGORITHM,
  RIM_NAMESPACE,
  type RimBreak,
  type RimFields,
  signRim,
  x509Data,
} from './gpu-rim.js'
import { genuineBroken, MARKUP_ATTACKS, type RimAttack, type RimAttackInput } from './gpu-rim-markup.js'
import { appendXml, mapXml, prependXml, withAttribute, writeXml, type XmlElement, type XmlNode } from './gpu-rim-xml.js'

const attacks = {
  // Wrapping: what is signed and what is read are not the same.
  'payload-in-object': genuineBroken(
    'the forged Payload in the Signature, which the digest leaves out',
    'all',
    ({ forged }) => ({
      editSignature: (signature) => appendXml(signature, { name: 'ds:Object', children: payloadOf(forged) }),
    }),
  ),
  'payload-in-key-info': genuineBroken('the forged Payload in KeyInfo', 'all', ({ forged }) => ({
    editSignature: (signature) => inKeyInfo(signature, ...payloadOf(forged)),
  })),
  'genuine-inside-forged': document('a forged tag around the whole genuine one', 'signature', (input) =>
    appendXml(buildSoftwareIdentity(input.forged), signedTag(input)),
  ),
  'genuine-inside-object': document('a forged tag whose Signature holds the genuine one', 'signature', (input) => {
    const root = buildSoftwareIdentity(input.genuine)
    const object = { name: 'ds:Object', children: [root] }
    return appendXml(buildSoftwareIdentity(input.forged), appendXml(signRim(root, input.signer), object))
  }),
  'reference-by-id': document('a signature by Id over the genuine tag, moved below a forged one', 'all', (input) => {
    const { tag, signature } = signedById(input)
    return appendXml(buildSoftwareIdentity(input.forged), { name: 'ns0:Evidence', children: [tag] }, signature)
  }),
  'duplicate-id': document('two elements with the Id that the Reference names', 'all', (input) => {
    const { tag, signature } = signedById(input)
    return appendXml(withAttribute(buildSoftwareIdentity(input.forged), 'Id', 'signed'), tag, signature)
  }),
  'second-payload': genuineBroken('a forged Payload after the genuine one', 'signature', ({ forged }) => ({
    place: (root, signature) => appendXml(root, ...payloadOf(forged), signature),
  })),
  'first-payload': genuineBroken('a forged Payload before the genuine one', 'signature', ({ forged }) => ({
    place: (root, signature) => appendXml(prependXml(root, ...payloadOf(forged)), signature),
  })),
  'second-signature': document('the attacker’s Signature after the genuine one', 'signature', (input) => {
    const { tag, genuine, forged } = twoSignatures(input)
    return appendXml(tag, genuine, forged)
  }),
  'first-signature': document('the attacker’s Signature before the genuine one', 'signature', (input) => {
    const { tag, genuine, forged } = twoSignatures(input)
    return appendXml(tag, forged, genuine)
  }),
  'signature-first': genuineBroken('the Signature as the first child', 'all', () => ({
    place: (root, signature) => prependXml(root, signature),
  })),
  'signature-in-payload': genuineBroken('the Signature in the Payload', 'all', () => ({
    inherited: { SHA384: RIM_NAMESPACE.hash },
    place: (root, signature) => mapXml(root, 'ns0:Payload', (payload) => appendXml(payload, signature)),
  })),
  'no-signature': genuineBroken('no Signature', 'none', () => ({ place: (root) => root })),

  // Keys: what verifies the signature and what leads to the root are not the same.
  'attacker-signed': forgery('the genuine certificates', ({ attacker }) => ({ signWith: attacker.privateKey })),
  'attacker-certificate-first': forgery(
    'the attacker’s certificate before the genuine ones',
    ({ signer, attacker }) => ({
      signWith: attacker.privateKey,
      editSignature: (signature) => keyInfo(signature, x509Data([...attacker.chain.slice(0, 1), ...signer.chain])),
    }),
  ),
  'attacker-certificate-last': forgery('the attacker’s certificate after the genuine ones', ({ signer, attacker }) => ({
    signWith: attacker.privateKey,
    editSignature: (signature) => keyInfo(signature, x509Data([...signer.chain, ...attacker.chain.slice(0, 1)])),
  })),
  'second-x509-data': forgery('the attacker’s certificates in a second X509Data', ({ attacker }) => ({
    signWith: attacker.privateKey,
    editSignature: (signature) => inKeyInfo(signature, x509Data(attacker.chain)),
  })),
  'key-value': forgery('the attacker’s key beside the genuine certificates', ({ attacker }) => ({
    signWith: attacker.privateKey,
    editSignature: (signature) => inKeyInfo(signature, keyValue(attacker)),
  })),
  'key-name': genuineBroken('a KeyName beside X509Data', 'all', () => ({
    editSignature: (signature) => inKeyInfo(signature, { name: 'ds:KeyName', children: ['other'] }),
  })),

  // Algorithms outside the profile, properly signed.
  'second-reference': genuineBroken('two References', 'all', () => ({
    editSignedInfo: (info) => appendXml(info, ...(info.children ?? []).slice(-1)),
  })),
  'xpath-transform': {
    title: 'a transform that selects nothing, so that any content has the same digest',
    holds: 'all',
    build: ({ forged, signer }) =>
      buildRim(forged, signer, {
        digested: () => '',
        editSignedInfo: (info) =>
          mapXml(info, 'ds:Transforms', ({ children = [], ...transforms }) => ({
            ...transforms,
            children: [...children.slice(0, 1), XPATH_TRANSFORM, ...children.slice(1)],
          })),
      }),
  },
  'no-canonicalization-transform': genuineBroken('the enveloped transform alone', 'all', () => ({
    editSignedInfo: (info) =>
      mapXml(info, 'ds:Transforms', ({ children = [], ...transforms }) => ({
        ...transforms,
        children: children.slice(0, 1),
      })),
  })),
  'canonicalization-with-comments': genuineBroken('canonicalisation that keeps comments', 'all', () => ({
    editSignedInfo: (info) => algorithm(info, RIM_ALGORITHM.canonicalization, '#WithComments'),
  })),
  'sha1-digest': genuineBroken('a SHA-1 digest', 'all', () => ({
    digestHash: 'sha1',
    editSignedInfo: (info) => algorithm(info, RIM_ALGORITHM.digest, 'http://www.w3.org/2000/09/xmldsig#sha1'),
  })),
  'sha256-signature': genuineBroken('an ECDSA signature over SHA-256', 'all', () => ({
    hash: 'sha256',
    editSignedInfo: (info) =>
      algorithm(info, RIM_ALGORITHM.signature, 'http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256'),
  })),
  'hmac-signature': genuineBroken('an HMAC SignatureMethod', 'none', () => ({
    editSignedInfo: (info) =>
      algorithm(info, RIM_ALGORITHM.signature, 'http://www.w3.org/2001/04/xmldsig-more#hmac-sha384'),
  })),
  'der-signature': genuineBroken('an ASN.1 SignatureValue', 'none', () => ({ signature: 'der' })),

  // Markup that readers and canonicalisers differ over.
  ...MARKUP_ATTACKS,
  'rebound-prefix': genuineBroken('golden values in a namespace that their prefix was rebound to', 'all', () => ({
    editRoot: (root) =>
      mapXml(root, 'ns0:Payload', (payload) => ({
        ...payload,
        namespaces: { ...payload.namespaces, ns2: 'http://simulated.invalid/hash' },
      })),
  })),
  'unprefixed-hash': genuineBroken('golden values in no namespace', 'all', () => ({
    editRoot: (root) =>
      mapXml(root, 'ns0:Resource', ({ attributes = [], ...resource }) => ({
        ...resource,
        attributes: attributes.map(([name, value]) => [name.replace('ns2:', ''), value] as const),
      })),
  })),
  'xml-space': genuineBroken('an xml: attribute, which canonicalisation treats apart', 'all', () => ({
    editRoot: (root) => withAttribute(root, 'xml:space', 'preserve'),
  })),
} as const satisfies Readonly<Record<string, RimAttack>>

export type RimAttackName = keyof typeof attacks

export const RIM_ATTACKS: Readonly<Record<RimAttackName, RimAttack>> = attacks

const XPATH_TRANSFORM: XmlElement = {
  name: 'ds:Transform',
  attributes: [['Algorithm', 'http://www.w3.org/TR/1999/REC-xpath-19991116']],
  children: [{ name: 'ds:XPath', children: ['false()'] }],
}

/** Forged content under the attacker's key, passed off in some way. */
function forgery(title: string, broken: (input: RimAttackInput) => RimBreak): RimAttack {
  return {
    title: `forged content and ${title}`,
    holds: 'none',
    build: (input) => buildRim(input.forged, input.signer, broken(input)),
  }
}

function document(title: string, holds: RimAttack['holds'], build: (input: RimAttackInput) => XmlElement): RimAttack {
  return { title, holds, build: (input) => new TextEncoder().encode(`${writeXml(build(input))}\n`) }
}

function signedTag({ genuine, signer }: RimAttackInput): XmlElement {
  const root = buildSoftwareIdentity(genuine)
  return appendXml(root, signRim(root, signer))
}

function signedById({ genuine, signer }: RimAttackInput): { tag: XmlElement; signature: XmlElement } {
  const tag = withAttribute(buildSoftwareIdentity(genuine), 'Id', 'signed')
  const signature = signRim(tag, signer, {
    editSignedInfo: (info) =>
      mapXml(info, 'ds:Reference', (reference) => ({ ...reference, attributes: [['URI', '#signed']] })),
  })
  return { tag, signature }
}

/** A forged tag with the genuine Signature, and the attacker's over both. */
function twoSignatures({ genuine, signer, forged, attacker }: RimAttackInput): {
  tag: XmlElement
  genuine: XmlElement
  forged: XmlElement
} {
  const tag = buildSoftwareIdentity(forged)
  const signature = signRim(buildSoftwareIdentity(genuine), signer)
  return { tag, genuine: signature, forged: signRim(appendXml(tag, signature), attacker) }
}

function payloadOf(fields: RimFields): XmlNode[] {
  const children = buildSoftwareIdentity(fields).children ?? []
  return children.filter((child) => typeof child !== 'string' && 'name' in child && child.name === 'ns0:Payload')
}

function inKeyInfo(signature: XmlElement, ...nodes: readonly XmlNode[]): XmlElement {
  return mapXml(signature, 'ds:KeyInfo', (info) => appendXml(info, ...nodes))
}

function keyInfo(signature: XmlElement, node: XmlNode): XmlElement {
  return mapXml(signature, 'ds:KeyInfo', (info) => ({ ...info, children: [node] }))
}

/** ECKeyValue (XML Signature 1.1 §4.5.2.3) with the attacker's point. */
function keyValue({ publicKey }: RimAttackInput['attacker']): XmlElement {
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' })
  const point = Buffer.concat([Buffer.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')])
  const members: XmlElement[] = [
    { name: 'dsig11:NamedCurve', attributes: [['URI', 'urn:oid:1.3.132.0.34']] },
    { name: 'dsig11:PublicKey', children: [point.toString('base64')] },
  ]
  const namespaces = { dsig11: 'http://www.w3.org/2009/xmldsig11#' }
  return { name: 'ds:KeyValue', children: [{ name: 'dsig11:ECKeyValue', namespaces, children: members }] }
}

/** Every use of an algorithm in SignedInfo replaced; a fragment is appended to it. */
function algorithm(info: XmlElement, from: string, to: string): XmlElement {
  const attributes = info.attributes?.map(([name, value]): readonly [string, string] =>
    value === from ? [name, to.startsWith('#') ? `${from}${to}` : to] : [name, value],
  )
  const children = info.children?.map((child) =>
    typeof child === 'string' || 'raw' in child ? child : algorithm(child, from, to),
  )
  return {
    ...info,
    ...(attributes === undefined ? {} : { attributes }),
    ...(children === undefined ? {} : { children }),
  }
}

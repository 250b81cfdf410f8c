/** What the reader of certificates and CRLs refuses, one departure from RFC 5280 or DER at a time, and what it reads. */
import { describe, expect, it } from 'vitest'
import { createAmdHierarchy, sharedAmdKeys } from '../../scripts/simulated/amd.js'
import { createIntelHierarchy } from '../../scripts/simulated/intel.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { parseCertificate, parseRevocationList } from '../../verifier/x509.js'
import { authorityKeyId } from '../../verifier/x509-extensions.js'
import { constructed, type DerNode, primitive, readTree, writeTree } from './der-tree.js'

const intel = createIntelHierarchy()
const amd = createAmdHierarchy({ product: 'Genoa', keys: await sharedAmdKeys('x509', 2048) })

type Edit = (parts: DerNode[], whole: DerNode[]) => void

/** The item after an edit of its signed part's elements and of its own three. */
function edited(der: Uint8Array, edit: Edit): Uint8Array {
  const [root] = readTree(der) ?? []
  const whole = root?.children ?? []
  edit(whole[0]?.children ?? [], whole)
  return writeTree(root!)
}

function codeOf(read: () => unknown): string | undefined {
  try {
    read()
    return undefined
  } catch (error) {
    if (error instanceof FormatError) return error.code
    throw error
  }
}

const certificateAfter = (edit: Edit) => edited(intel.platform.der, edit)
const listAfter = (edit: Edit) => edited(intel.pckCrl({ revokedSerials: [5n] }), edit)

/** Elements of a TBSCertificate. */
const [VERSION, SERIAL, ALGORITHM, ISSUER, VALIDITY, SUBJECT, KEY, EXTENSIONS] = [0, 1, 2, 3, 4, 5, 6, 7] as const

const attribute = (value: DerNode, type: readonly number[] = [0x55, 4, 3]) =>
  constructed(0x31, constructed(0x30, primitive(0x06, type), value))
const named = (...parts: DerNode[]) => certificateAfter((tbs) => tbs.splice(SUBJECT, 1, constructed(0x30, ...parts)))

/** The Platform CA with the value of one extension replaced. */
function withExtension(oid: readonly number[], value: DerNode | Uint8Array): Uint8Array {
  return certificateAfter((tbs) => {
    const list = tbs[EXTENSIONS]?.children?.[0]?.children ?? []
    const parts = list.find((item) => item.children?.[0]?.content.every((byte, i) => byte === oid[i]))?.children
    parts!.splice(-1, 1, primitive(0x04, value instanceof Uint8Array ? value : writeTree(value)))
  })
}

const KEY_USAGE = [0x55, 29, 15]
const BASIC_CONSTRAINTS = [0x55, 29, 19]
const SUBJECT_KEY_ID = [0x55, 29, 14]
const AUTHORITY_KEY_ID = [0x55, 29, 35]

it('reads what was issued', () => {
  expect(parseCertificate(certificateAfter(() => undefined))).toMatchObject({
    subjectCommonName: 'Intel SGX PCK Platform CA',
    issuerCommonName: 'Intel SGX Root CA',
    isCa: true,
    pathLength: 0,
    keyUsage: { certSign: true, crlSign: true },
  })
  expect([...parseRevocationList(listAfter(() => undefined)).revokedSerials]).toEqual(['05'])
})

describe('certificates', () => {
  it.each<readonly [string, Edit, string]>([
    ['three elements and one more', (_, whole) => whole.push(primitive(0x05, [])), 'x509.shape'],
    ['two elements', (_, whole) => whole.pop(), 'x509.shape'],
    ['no version', (tbs) => tbs.shift(), 'der.tag'],
    ['version 2', (tbs) => tbs.splice(VERSION, 1, constructed(0xa0, primitive(2, [1]))), 'x509.version'],
    ['two versions', (tbs) => tbs[VERSION]?.children?.push(primitive(2, [2])), 'x509.version'],
    ['a serial number that is none', (tbs) => tbs.splice(SERIAL, 1, primitive(4, [1])), 'der.tag'],
    ['a serial number below zero', (tbs) => tbs.splice(SERIAL, 1, primitive(2, [0x80])), 'x509.serial'],
    [
      'a serial number of 21 octets',
      (tbs) => tbs.splice(SERIAL, 1, primitive(2, [1, ...new Uint8Array(20)])),
      'x509.serial',
    ],
    [
      'a serial number of 21 octets and its sign',
      (tbs) => tbs.splice(SERIAL, 1, primitive(2, [0, 0x80, ...new Uint8Array(20)])),
      'x509.serial',
    ],
    [
      'an algorithm with two parameters',
      (tbs, whole) => {
        tbs[ALGORITHM]?.children?.push(primitive(5, []), primitive(5, []))
        whole[1]?.children?.push(primitive(5, []), primitive(5, []))
      },
      'x509.algorithm',
    ],
    [
      'an algorithm that is not named',
      (tbs, whole) => {
        tbs.splice(ALGORITHM, 1, constructed(0x30))
        whole.splice(1, 1, constructed(0x30))
      },
      'der.missing',
    ],
    [
      'another algorithm outside',
      (_, whole) => whole.splice(1, 1, constructed(0x30, primitive(6, [42]))),
      'x509.algorithm',
    ],
    ['one time', (tbs) => tbs[VALIDITY]?.children?.pop(), 'x509.shape'],
    ['three times', (tbs) => tbs[VALIDITY]?.children?.push(primitive(23, '250101000000Z')), 'x509.shape'],
    [
      'a time without seconds',
      (tbs) => tbs[VALIDITY]?.children?.splice(0, 1, primitive(23, '2501010000Z')),
      'der.time',
    ],
    ['a day that is none', (tbs) => tbs[VALIDITY]?.children?.splice(0, 1, primitive(23, '250230000000Z')), 'der.time'],
    ['a key of one element', (tbs) => tbs[KEY]?.children?.pop(), 'x509.shape'],
    ['a key of three', (tbs) => tbs[KEY]?.children?.push(primitive(5, [])), 'x509.shape'],
    ['a key that is no bit string', (tbs) => tbs[KEY]?.children?.splice(1, 1, primitive(4, [0, 1])), 'der.tag'],
    ['a key with an unnamed algorithm', (tbs) => tbs[KEY]?.children?.splice(0, 1, constructed(0x30)), 'der.missing'],
    ['extensions twice', (tbs) => tbs.push(structuredClone(tbs[EXTENSIONS]) as DerNode), 'der.order'],
    ['something after the extensions', (tbs) => tbs.push(primitive(5, [])), 'der.order'],
    [
      'unique identifiers out of order',
      (tbs) => tbs.splice(7, 0, primitive(0x82, [0]), primitive(0x81, [0])),
      'der.order',
    ],
    ['a unique identifier that is no bit string', (tbs) => tbs.splice(7, 0, primitive(0x81, [9])), 'x509.unique-id'],
    ['two lists of extensions', (tbs) => tbs[EXTENSIONS]?.children?.push(constructed(0x30)), 'x509.extensions'],
  ])('with %s are refused', (_name, edit, code) => {
    expect(codeOf(() => parseCertificate(certificateAfter(edit)))).toBe(code)
  })

  it.each([
    ['zero', [0], '00'],
    ['20 octets', [0x7f, ...new Uint8Array(19)], `7f${'00'.repeat(19)}`],
    ['20 octets and their sign', [0, 0x80, ...new Uint8Array(19)], `0080${'00'.repeat(19)}`],
  ])('may have a serial number of %s, as real ones do', (_name, content, expected) => {
    const der = certificateAfter((tbs) => tbs.splice(SERIAL, 1, primitive(2, content)))
    expect(parseCertificate(der).serialHex).toBe(expected)
  })

  it('may carry unique identifiers, which say nothing here', () => {
    const der = certificateAfter((tbs) => tbs.splice(7, 0, primitive(0x81, [0, 1]), primitive(0x82, [0])))
    expect(parseCertificate(der).subjectCommonName).toBe('Intel SGX PCK Platform CA')
  })
})

describe('names', () => {
  it.each<readonly [string, readonly DerNode[], string]>([
    ['an empty part', [constructed(0x31)], 'x509.name'],
    ['a part that is no set', [constructed(0x30)], 'der.tag'],
    ['an attribute without a value', [constructed(0x31, constructed(0x30, primitive(6, [0x55, 4, 3])))], 'x509.name'],
    [
      'an attribute with two values',
      [constructed(0x31, constructed(0x30, primitive(6, [0x55, 4, 3]), primitive(12, 'a'), primitive(12, 'b')))],
      'x509.name',
    ],
    [
      'an attribute without a type',
      [constructed(0x31, constructed(0x30, primitive(12, 'a'), primitive(12, 'b')))],
      'der.tag',
    ],
    ['text that is not UTF-8', [attribute(primitive(12, [0xc3, 0x28]))], 'utf8.invalid'],
    ['text that is not UTF-8 in another attribute', [attribute(primitive(12, [0xff]), [0x55, 4, 10])], 'utf8.invalid'],
    ['a PrintableString beyond ASCII', [attribute(primitive(19, [0xe9]))], 'x509.name'],
    // What looks like another name where it is printed, or ends early where it is read.
    ...['SEV-VCEK\0x', 'a\nb', '\x1b[1m', '\x7f', '\xc2\x85', '\xe2\x80\xae', '\xe2\x80\xa8'].map(
      (text) => [`${JSON.stringify(text)} for a name`, [attribute(primitive(12, text))], 'x509.name'] as const,
    ),
    ['a line end in a PrintableString', [attribute(primitive(19, 'a\n'))], 'x509.name'],
    ['half a character of a BMPString', [attribute(primitive(30, [0]))], 'der.text'],
    ['half a character of a UniversalString', [attribute(primitive(28, [0, 0]))], 'der.text'],
  ])('with %s are refused', (_name, parts, code) => {
    expect(codeOf(() => parseCertificate(named(...structuredClone(parts))))).toBe(code)
  })

  it.each([
    ['UTF8String', [attribute(primitive(12, 'gr\xc3\xbcn'))], 'grün'],
    ['PrintableString', [attribute(primitive(19, 'SEV-VCEK'))], 'SEV-VCEK'],
    ['no text at all', [attribute(primitive(12, ''))], ''],
    ['none', [attribute(primitive(12, 'a'), [0x55, 4, 10])], undefined],
    ['an empty name', [], undefined],
    ['two', [attribute(primitive(12, 'a')), attribute(primitive(12, 'a'))], undefined],
    ['two of different types', [attribute(primitive(12, 'a')), attribute(primitive(30, '\0b'))], undefined],
    ['BMPString', [attribute(primitive(30, '\0a'))], undefined],
    ['TeletexString', [attribute(primitive(20, 'a'))], undefined],
    ['IA5String', [attribute(primitive(22, 'a'))], undefined],
    ['octets', [attribute(primitive(4, 'a'))], undefined],
  ])('common name: %s', (_name, parts, expected) => {
    expect(parseCertificate(named(...structuredClone(parts))).subjectCommonName).toBe(expected)
  })

  it('two common names in one part are two', () => {
    const value = constructed(0x30, primitive(6, [0x55, 4, 3]), primitive(12, 'a'))
    expect(parseCertificate(named(constructed(0x31, value, structuredClone(value)))).subjectCommonName).toBeUndefined()
  })

  it('of issuers are read in the same way', () => {
    const der = certificateAfter((tbs) => tbs.splice(ISSUER, 1, constructed(0x30, constructed(0x31))))
    expect(codeOf(() => parseCertificate(der))).toBe('x509.name')
  })
})

describe('extensions', () => {
  it.each([
    ['03 02 05 20: keyCertSign by its place', [5, 0x20], { certSign: false, crlSign: false }],
    ['keyCertSign', [2, 0x04], { certSign: true, crlSign: false }],
    ['cRLSign', [1, 0x02], { certSign: false, crlSign: true }],
    ['digitalSignature and nonRepudiation', [6, 0xc0], { certSign: false, crlSign: false }],
    ['everything but the two', [7, 0xf9, 0x80], { certSign: false, crlSign: false }],
    ['everything', [7, 0xff, 0x80], { certSign: true, crlSign: true }],
    ['nothing', [0], { certSign: false, crlSign: false }],
    ['the ninth bit alone', [7, 0, 0x80], { certSign: false, crlSign: false }],
  ])('keyUsage: %s', (_name, bits, expected) => {
    expect(parseCertificate(withExtension(KEY_USAGE, primitive(3, bits))).keyUsage).toEqual(expected)
  })

  it.each([
    ['CA', [primitive(1, [0xff])], true, undefined],
    ['CA of depth 3', [primitive(1, [0xff]), primitive(2, [3])], true, 3],
    ['CA of a great depth', [primitive(1, [0xff]), primitive(2, [0x7f, 0, 0, 1])], true, 0x7f000001],
    ['nothing', [], false, undefined],
  ])('basicConstraints: %s', (_name, parts, isCa, pathLength) => {
    const der = withExtension(BASIC_CONSTRAINTS, constructed(0x30, ...structuredClone(parts)))
    expect(parseCertificate(der)).toMatchObject({ isCa, pathLength })
  })

  it('without the two, there is no authority and no restriction', () => {
    const der = certificateAfter((tbs) => tbs.splice(EXTENSIONS, 1))
    expect(parseCertificate(der)).toMatchObject({ isCa: false, pathLength: undefined, keyUsage: undefined })
  })

  const twice = (node: DerNode) => new Uint8Array(Buffer.concat([writeTree(node), writeTree(node)]))
  const yes = () => primitive(1, [0xff])
  it.each<readonly [string, readonly number[], DerNode | Uint8Array, string]>([
    ['keyUsage of three octets', KEY_USAGE, primitive(3, [0, 4, 0, 1]), 'x509.extensions'],
    ['keyUsage with unused bits set', KEY_USAGE, primitive(3, [3, 0x04]), 'der.bits'],
    ['keyUsage with more unused bits than there are', KEY_USAGE, primitive(3, [1]), 'der.bits'],
    ['keyUsage that is octets', KEY_USAGE, primitive(4, [0, 4]), 'der.tag'],
    ['keyUsage in pieces', KEY_USAGE, constructed(0x23, primitive(3, [2, 4])), 'der.tag'],
    ['keyUsage followed by another', KEY_USAGE, twice(primitive(3, [2, 4])), 'der.trailing'],
    ['basicConstraints followed by others', BASIC_CONSTRAINTS, twice(constructed(0x30, yes())), 'der.trailing'],
    ['basicConstraints with two answers', BASIC_CONSTRAINTS, constructed(0x30, yes(), yes()), 'der.tag'],
    ['basicConstraints out of order', BASIC_CONSTRAINTS, constructed(0x30, primitive(2, [1]), yes()), 'der.tag'],
    [
      'basicConstraints and something more',
      BASIC_CONSTRAINTS,
      constructed(0x30, yes(), primitive(2, [1]), primitive(2, [1])),
      'x509.extensions',
    ],
    // X.690 §11.5: a default is left out. RFC 5280 §4.2.1.9: a depth is an authority's.
    [
      'basicConstraints that write out their no',
      BASIC_CONSTRAINTS,
      constructed(0x30, primitive(1, [0])),
      'der.default',
    ],
    ['a depth of no authority', BASIC_CONSTRAINTS, constructed(0x30, primitive(2, [1])), 'der.tag'],
    [
      'a depth of what is no authority in writing',
      BASIC_CONSTRAINTS,
      constructed(0x30, primitive(1, [0]), primitive(2, [1])),
      'der.default',
    ],
    ['basicConstraints that are a set', BASIC_CONSTRAINTS, constructed(0x31, yes()), 'der.tag'],
    ['basicConstraints that are almost true', BASIC_CONSTRAINTS, constructed(0x30, primitive(1, [1])), 'der.boolean'],
    ['a negative depth', BASIC_CONSTRAINTS, constructed(0x30, yes(), primitive(2, [0xff])), 'der.integer'],
    [
      'a depth of five octets',
      BASIC_CONSTRAINTS,
      constructed(0x30, yes(), primitive(2, [1, 0, 0, 0, 0])),
      'der.integer',
    ],
    ['nothing in basicConstraints', BASIC_CONSTRAINTS, new Uint8Array(), 'der.truncated'],
    ['a subject key identifier that is text', SUBJECT_KEY_ID, primitive(12, 'a'), 'der.tag'],
    ['an authority key identifier that is a set', AUTHORITY_KEY_ID, constructed(0x31, primitive(0x80, [1])), 'der.tag'],
    [
      'two authority key identifiers',
      AUTHORITY_KEY_ID,
      constructed(0x30, primitive(0x80, [1]), primitive(0x80, [2])),
      'der.order',
    ],
  ])('%s: refused', (_name, oid, value, code) => {
    expect(codeOf(() => parseCertificate(withExtension(oid, value)))).toBe(code)
  })

  it('that write out that they are not critical are refused', () => {
    const der = certificateAfter((tbs) => {
      const [first] = tbs[EXTENSIONS]?.children?.[0]?.children ?? []
      first?.children?.splice(1, first.children.length - 2, primitive(1, [0]))
    })
    expect(codeOf(() => parseCertificate(der))).toBe('der.default')
  })

  it('an authority key identifier may name a certificate as well', () => {
    const value = constructed(0x30, primitive(0x80, [7]), constructed(0xa1), primitive(0x82, [1]))
    expect(authorityKeyId(parseCertificate(withExtension(AUTHORITY_KEY_ID, value)))).toEqual(Uint8Array.of(7))
  })
})

describe('CRLs', () => {
  const entry = (...extra: DerNode[]) =>
    constructed(0x30, primitive(2, [9]), primitive(23, '260101000000Z'), ...structuredClone(extra))
  const extension = (critical: boolean | 'written out') =>
    constructed(
      0x30,
      constructed(
        0x30,
        primitive(6, [0x55, 29, 29]),
        ...(critical === false ? [] : [primitive(1, [critical === true ? 0xff : 0])]),
        primitive(4, [5, 0]),
      ),
    )
  it.each<readonly [string, Edit, string]>([
    ['no version', (tbs) => tbs.shift(), 'der.tag'],
    ['version 3', (tbs) => tbs.splice(0, 1, primitive(2, [2])), 'x509.version'],
    ['an empty part of a name', (tbs) => tbs[2]?.children?.push(constructed(0x31)), 'x509.name'],
    ['something at the end', (tbs) => tbs.push(primitive(5, [])), 'der.order'],
    [
      'an entry of four elements',
      (tbs) => tbs[5]?.children?.push(entry(extension(false), primitive(5, []))),
      'x509.shape',
    ],
    ['an entry of one element', (tbs) => tbs[5]?.children?.push(constructed(0x30, primitive(2, [9]))), 'der.missing'],
    ['an entry with a critical extension', (tbs) => tbs[5]?.children?.push(entry(extension(true))), 'x509.critical'],
    [
      'an entry whose extension writes out that it is not',
      (tbs) => tbs[5]?.children?.push(entry(extension('written out'))),
      'der.default',
    ],
    [
      'a serial number below zero',
      (tbs) => tbs[5]?.children?.[0]?.children?.splice(0, 1, primitive(2, [0xff])),
      'x509.serial',
    ],
  ])('with %s are refused', (_name, edit, code) => {
    expect(codeOf(() => parseRevocationList(listAfter(edit)))).toBe(code)
  })

  it('entries may carry extensions that are not critical', () => {
    const der = listAfter((tbs) => tbs[5]?.children?.push(entry(extension(false))))
    expect([...parseRevocationList(der).revokedSerials]).toEqual(['05', '09'])
  })

  it('of AMD and Intel name their issuers', () => {
    expect(parseRevocationList(amd.crl()).issuerCommonName).toContain('ARK-Genoa')
    expect(parseRevocationList(intel.rootCrl()).issuerCommonName).toBe('Intel SGX Root CA')
  })
})

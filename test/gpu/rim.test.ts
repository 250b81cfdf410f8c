/**
 * Manifests: the signature-wrapping set, edits of genuine ones, and the canonicaliser. An edit is harmless only when the
 * signed octets, the signature and the certificates stay what they were.
 */
import { readdirSync, readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { simulatedRimRecords } from '../../scripts/simulated/gpu-rim.js'
import { RIM_ATTACKS } from '../../scripts/simulated/gpu-rim-attacks.js'
import { Transcript } from '../../verifier/checks.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { canonicalise } from '../../verifier/gpu/c14n.js'
import { RIM_PLAN } from '../../verifier/gpu/checks.js'
import { parseRimXml, type Rim, readRim } from '../../verifier/gpu/rim.js'
import { verifyRim } from '../../verifier/gpu/rim-verify.js'
import { parseXml } from '../../verifier/gpu/xml.js'
import { type Bytes, fromUtf8, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'
import { judge, judgeRim, makeRim, NVIDIA, policyOf, STRANGER } from './world.js'

const exhaustive = process.env['SUBROSA_ALL_BITS'] === '1'
const EDITS = exhaustive ? 1000 : 150

describe('signature wrapping', () => {
  const signer = NVIDIA.issueRimSigner({ family: 'GH100' })
  const stranger = STRANGER.issueRimSigner({ family: 'GH100' })
  const forged = simulatedRimRecords('GH100', 'driver').map((record) => ({
    ...record,
    alternatives: [new Uint8Array(48).fill(0xaa)],
  }))
  const input = {
    genuine: { family: 'GH100', kind: 'driver' },
    signer,
    forged: { family: 'GH100', kind: 'driver', records: forged },
    attacker: { privateKey: stranger.privateKey, publicKey: stranger.publicKey, chain: stranger.chain },
  } as const

  it.each(Object.entries(RIM_ATTACKS))('%s is rejected', async (_name, attack) => {
    const file = attack.build(input)
    const { verdict, failing } = await judgeRim({ file })
    expect(['rejected', 'malformed']).toContain(verdict)
    expect(failing).not.toEqual([])
    // And it endorses no device.
    const device = await judge({ driverRim: { mangle: () => file } })
    expect(device.verdict).toBe('rejected')
  })
})

const MARKUP: Readonly<Record<string, (xml: string) => string>> = {
  doctype: (xml) => `<!DOCTYPE a>${xml}`,
  'an XML declaration': (xml) => `<?xml version="1.0"?>${xml}`,
  'a byte order mark': (xml) => `\ufeff${xml}`,
  'a carriage return': (xml) => xml.replace('\n', '\r\n'),
  'a comment at the end': (xml) => `${xml}<!-- -->`,
  'a line break in an attribute': (xml) => xml.replace('edition="GPU"', 'edition="GPU\n"'),
  'an external entity': (xml) => xml.replace('edition="GPU"', 'edition="&gpu;"'),
  'an identifier': (xml) => xml.replace('<ns0:Payload', '<ns0:Payload Id="x"'),
  'a second Meta': (xml) => xml.replace('<ns0:Payload', '<ns0:Meta/><ns0:Payload'),
  'a prefix taken away': (xml) => xml.replace('<ns0:Payload ', '<ns0:Payload xmlns:ns2="" '),
  'text between elements': (xml) => xml.replace('</ds:X509Data>', '</ds:X509Data>x'),
  'a key beside the certificates': (xml) => xml.replace('</ds:KeyInfo>', '<ds:KeyName>me</ds:KeyName></ds:KeyInfo>'),
  'no certificates': (xml) => xml.replace(/<ds:X509Certificate>[\s\S]*<\/ds:X509Certificate>/, ''),
  'an attribute on the signature': (xml) => xml.replace('<ds:SignedInfo>', '<ds:SignedInfo a="b">'),
  'base64 that is not canonical': (xml) => xml.replace(/(<ds:DigestValue>)/, '$1='),
}

describe('markup outside the subset', () => {
  it.each(Object.entries(MARKUP))('%s is refused', async (_name, edit) => {
    const mangle = (xml: Bytes): Bytes => utf8(edit(fromUtf8(xml)))
    const { verdict } = await judgeRim({ mangle })
    expect(['rejected', 'malformed']).toContain(verdict)
  })

  it.each([
    '<a',
    '<a>',
    '<a></b>',
    '<a/><a/>',
    '<a b="1" b="2"/>',
    '<a b=1/>',
    '<a b="<"/>',
    '<p:a/>',
    '<a>&#65;</a>',
    '<a>&nbsp;</a>',
    '<a>& </a>',
    '<a>]]></a>',
    '<a><![CDATA[x]]></a>',
    '<a><!-- --></a>',
    '<a><?b?></a>',
    '<!DOCTYPE a><a/>',
    '<a xml:space="preserve"/>',
    '<a xmlns:xml="http://www.w3.org/XML/1998/namespace"/>',
    '<a xmlns:p="u" xmlns:q="u" p:b="1" q:b="2"/>',
    '<a ID="x"/>',
    `${'<a>'.repeat(20)}${'</a>'.repeat(20)}`,
    'text<a/>',
    '<a/>text',
    '',
  ])('%s', (text) => expect(() => parseXml(text)).toThrow(FormatError))
})

describe('canonical XML', () => {
  it('writes what W3C xml-c14n11 §3.3 and §3.4 write', () => {
    const text = `<e1 xmlns:b="http://b" xmlns:a="http://a" xmlns="http://d"
      attr2="all" b:attr="sorted" attr="I'm" a:attr="out"><e2 xmlns="http://d"/><e3 xmlns:a='http://a' q="&lt;&amp;>&quot;'">x&gt;&amp;</e3 ></e1>`
    const expected = `<e1 xmlns="http://d" xmlns:a="http://a" xmlns:b="http://b" attr="I'm" attr2="all" a:attr="out" b:attr="sorted"><e2></e2><e3 q="&lt;&amp;>&quot;'">x&gt;&amp;</e3></e1>`
    expect(fromUtf8(canonicalise(parseXml(text), new Map()))).toBe(expected)
  })

  it('is its own canonical form', () => {
    const xml = fromUtf8(makeRim('GH100', 'vbios', {}).xml)
    const once = fromUtf8(canonicalise(parseXml(xml), new Map()))
    expect(fromUtf8(canonicalise(parseXml(once), new Map()))).toBe(once)
  })

  it('any text is read or refused', () => {
    const piece = fc.constantFrom(
      '<',
      '>',
      '</',
      '/>',
      'a',
      'b',
      ' ',
      '"',
      "'",
      '=',
      '&',
      ';',
      'amp',
      ':',
      'xmlns',
      '\n',
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        try {
          const root = parseXml(pieces.join(''))
          const once = fromUtf8(canonicalise(root, new Map()))
          expect(fromUtf8(canonicalise(parseXml(once), new Map()))).toBe(once)
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError)
        }
      }),
      { numRuns: 2000 },
    )
  })
})

/** Times at which each captured manifest is in its window. */
const AT: Readonly<Record<string, string>> = {
  'hopper-535-86-09-rim-mismatch': '2025-06-01T00:00:00Z',
  'hopper-545-00-no-fwid': '2024-06-01T00:00:00Z',
  'hopper-550-90-07': '2026-05-25T00:00:00Z',
  'hopper-580-159-03': '2025-01-01T00:00:00Z',
  rims: '2025-05-01T00:00:00Z',
  'switch-ls10-96-10-55-00-01': '2026-05-20T10:00:00Z',
}

describe.skipIf(withoutVectors)(`${EDITS} single-character edits of every captured manifest`, () => {
  const folder = withoutVectors ? '' : vectorPath('nvidia')
  const files = withoutVectors
    ? []
    : (readdirSync(folder, { recursive: true }) as string[]).filter((path) => path.endsWith('.xml')).sort()
  const counts = { edits: 0, rejected: 0, identical: 0 }

  it.each(files)('%s', async (path) => {
    const genuine = fromUtf8(new Uint8Array(readFileSync(`${folder}/${path}`)))
    const now = new Date(path.includes('2026') ? '2026-06-15T00:00:00Z' : (AT[path.split('/')[0] ?? ''] ?? ''))
    const before = octets(readRim(parseRimXml(utf8(genuine))))
    const next = generator(path)
    for (let i = 0; i < EDITS; i++) {
      const edited = edit(genuine, next)
      const t = new Transcript(RIM_PLAN)
      const found = await verifyRim(t, {
        rim: utf8(edited),
        endorsements: sortEndorsements([]),
        anchors: [],
        now,
        revocation: 'off',
        policy: policyOf(),
      })
      counts.edits++
      if (t.verdict() === 'accepted') {
        counts.identical++
        expect({ edited: difference(genuine, edited), octets: found && octets(found.rim) }).toMatchObject({
          octets: before,
        })
      } else {
        counts.rejected++
        expect(['rejected', 'malformed']).toContain(t.verdict())
      }
    }
  })

  it('counts', () => {
    console.log(JSON.stringify({ suite: 'rim-edits', files: files.length, ...counts }))
    expect(counts.rejected + counts.identical).toBe(files.length * EDITS)
    expect(counts.rejected).toBeGreaterThan(counts.identical)
  })
})

/** Everything a signature over the manifest, and the trust in it, rests on. */
function octets({ documentDigest, signature }: Rim): object {
  return {
    document: toHex(documentDigest),
    signedInfo: fromUtf8(signature.signedInfo),
    value: toHex(signature.value),
    certificates: signature.certificates.map(({ sha256Hex }) => sha256Hex),
  }
}

/** Numerical Recipes' generator: the same edits on every run. */
function generator(seed: string): (below: number) => number {
  let state = [...seed].reduce((sum, character) => (sum * 31 + character.charCodeAt(0)) >>> 0, 7)
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** One character put in, taken out or replaced by another. */
function edit(text: string, next: (below: number) => number): string {
  const at = next(text.length)
  const alphabet = `${' '.repeat(3)}\n\t<>&"'=/:;#0123456789abcdefABCDEFnsHash`
  const character = alphabet[next(alphabet.length)] ?? 'x'
  const kind = next(3)
  if (kind === 0) return text.slice(0, at) + character + text.slice(at)
  if (kind === 1) return text.slice(0, at) + text.slice(at + 1)
  const other = text[at] === character ? '!' : character
  return text.slice(0, at) + other + text.slice(at + 1)
}

function difference(a: string, b: string): string {
  const at = [...a].findIndex((character, i) => character !== b[i])
  return `${at}: ${a.slice(Math.max(0, at - 20), at + 20)} | ${b.slice(Math.max(0, at - 20), at + 20)}`
}

/**
 * One bit of a real quote, or of the collateral it is held to, is turned over: nothing is accepted any more. A sample of the
 * bits by default, all of them with SUBROSA_ALL_BITS=1; the counts are printed.
 */
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type EndorsementFile, sortEndorsements } from '../../verifier/endorsements.js'
import { readPem } from '../../verifier/pem.js'
import { type Bytes, concat, toBase64, utf8 } from '../../verifier/protocol/bytes.js'
import { parseTdxQuote } from '../../verifier/tdx/quote.js'
import type { TdxInput } from '../../verifier/tdx/verify.js'
import { parseCertificate } from '../../verifier/x509.js'
import { vectorsFolder } from '../support/vectors.js'
import { filesUnder, prepareCase, readCases, run } from './cases.js'

const ALL = process.env['SUBROSA_ALL_BITS'] === '1'
/** Prime, so that a sample visits every bit position. */
const STEP = ALL ? 1 : 41
const CASES = ['tdx/v4-b0c06f-uptodate', 'tdx/v5-td15-90c06f-uptodate/2026-03'] as const

interface Tally {
  flips: number
  rejected: number
  malformed: number
  accepted: string[]
}

describe.skipIf(vectorsFolder === undefined)('single bits of real evidence (skipped without SUBROSA_VECTORS)', () => {
  for (const name of CASES) {
    const prepared = (): { input: TdxInput; files: readonly EndorsementFile[] } => {
      const found = readCases().find(([id]) => id === name)
      if (found === undefined) throw new Error(`no case ${name}`)
      const vectors = vectorsFolder ?? ''
      const files = found[1].endorsements.flatMap((path) => filesUnder(join(vectors, path)))
      return { input: prepareCase(vectors, found[1]), files: separate(files) }
    }

    it(`${name}: everything that is signed, in the quote`, { timeout: 1_800_000 }, async () => {
      const { input } = prepared()
      const tally: Tally = { flips: 0, rejected: 0, malformed: 0, accepted: [] }
      for (const [what, from, to] of regions(input.quote)) {
        for (let bit = 8 * from; bit < 8 * to; bit += STEP) {
          await count(tally, { ...input, quote: flipped(input.quote, bit) }, `${what} bit ${bit - 8 * from}`)
        }
      }
      report(name, 'quote', tally)
    })

    it(`${name}: the PCK leaf’s signature`, { timeout: 1_800_000 }, async () => {
      const { input } = prepared()
      const tally: Tally = { flips: 0, rejected: 0, malformed: 0, accepted: [] }
      const chain = parseTdxQuote(input.quote).certification?.innerData ?? new Uint8Array()
      const ders = readPem(chain).map(({ der }) => der)
      const [leaf = new Uint8Array()] = ders
      const from = leaf.length - parseCertificate(leaf).signature.length
      for (let bit = 8 * from; bit < 8 * leaf.length; bit += ALL ? 1 : 7) {
        const quote = withChain(input.quote, chain, [flipped(leaf, bit), ...ders.slice(1)])
        await count(tally, { ...input, quote }, `leaf signature bit ${bit - 8 * from}`)
      }
      expect((await run({ ...input, quote: withChain(input.quote, chain, ders) })).verdict).toBe('accepted')
      report(name, 'PCK leaf signature', tally)
    })

    it(`${name}: collateral and revocation lists`, { timeout: 1_800_000 }, async () => {
      const { input, files } = prepared()
      for (const file of files.filter((item) => isJudged(item.bytes, input.quote))) {
        const tally: Tally = { flips: 0, rejected: 0, malformed: 0, accepted: [] }
        const others = files.filter((item) => item !== file)
        for (let bit = 0; bit < 8 * file.bytes.length; bit += ALL ? 1 : 307) {
          const bytes = flipped(new Uint8Array(file.bytes), bit)
          const endorsements = sortEndorsements([...others, { name: file.name, bytes }])
          await count(tally, { ...input, endorsements }, `${file.name} bit ${bit}`)
        }
        report(name, file.name.split('/').at(-1) ?? file.name, tally)
      }
    })
  }
})

/** Regions of a quote that a signature or a digest covers, and the sizes between them. */
function regions(bytes: Bytes): readonly (readonly [what: string, from: number, to: number])[] {
  const { signedBytes, certification } = parseTdxQuote(bytes)
  const body = signedBytes.length
  const qe = body + 4 + 134
  const auth = certification?.authData.length ?? 0
  return [
    ['header and body', 0, body],
    ['signature data size', body, body + 4],
    ['quote signature', body + 4, body + 68],
    ['attestation key', body + 68, body + 132],
    ['certification type and size', body + 132, qe],
    ['QE report', qe, qe + 384],
    ['QE report signature', qe + 384, qe + 448],
    ['auth data and its size', qe + 448, qe + 450 + auth],
    ['inner type and size', qe + 450 + auth, qe + 456 + auth],
  ]
}

/** Collateral sets taken apart, issuer chains aside, so that single documents can be altered. */
function separate(files: readonly EndorsementFile[]): readonly EndorsementFile[] {
  const pool = sortEndorsements(files)
  return [
    ...pool.documents.map(({ name, bytes }) => ({ name, bytes })),
    ...pool.crls.map(({ issuerCommonName, der }) => ({ name: `CRL of ${issuerCommonName}`, bytes: der })),
    ...pool.certificates.map(({ subjectCommonName, der }) => ({ name: `${subjectCommonName}`, bytes: der })),
  ]
}

/** Certificates are left alone here, and so is TCB info of another platform, which nobody looks at. */
function isJudged(bytes: Uint8Array, quote: Bytes): boolean {
  const text = Buffer.from(bytes).toString('latin1')
  if (!text.startsWith('{')) return bytes[0] === 0x30 && !isCertificate(bytes)
  if (!text.includes('tcbInfo')) return true
  const chain = parseTdxQuote(quote).certification?.innerData ?? new Uint8Array()
  const leaf = Buffer.from(readPem(chain)[0]?.der ?? []).toString('hex')
  const fmspc = /"fmspc":"([0-9a-fA-F]{12})"/.exec(text)?.[1]?.toLowerCase() ?? 'none'
  return leaf.includes(`0406${fmspc}`)
}

function isCertificate(bytes: Uint8Array): boolean {
  try {
    parseCertificate(bytes)
    return true
  } catch {
    return false
  }
}

function flipped(bytes: Bytes, bit: number): Bytes {
  const out = bytes.slice()
  out[bit >> 3] = (out[bit >> 3] ?? 0) ^ (1 << (bit & 7))
  return out
}

/** The quote with other certificates inside, its sizes adjusted. */
function withChain(quote: Bytes, chain: Bytes, ders: readonly Bytes[]): Bytes {
  const pem = ders.map((der) => `-----BEGIN CERTIFICATE-----\n${toBase64(der)}\n-----END CERTIFICATE-----\n`)
  const inner = utf8(pem.join(''))
  const { signedBytes, certification } = parseTdxQuote(quote)
  const start = signedBytes.length
  const innerAt = start + 4 + 134 + 384 + 64 + 2 + (certification?.authData.length ?? 0)
  const head = quote.slice(0, innerAt + 6)
  const view = new DataView(head.buffer)
  const change = inner.length - chain.length
  view.setUint32(start, view.getUint32(start, true) + change, true)
  view.setUint32(start + 134, view.getUint32(start + 134, true) + change, true)
  view.setUint32(innerAt + 2, inner.length, true)
  return concat(head, inner)
}

async function count(tally: Tally, input: TdxInput, what: string): Promise<void> {
  const { verdict } = await run(input)
  tally.flips++
  if (verdict === 'rejected') tally.rejected++
  else if (verdict === 'malformed') tally.malformed++
  else tally.accepted.push(`${what}: ${verdict}`)
}

function report(name: string, what: string, { flips, rejected, malformed, accepted }: Tally): void {
  console.info(JSON.stringify({ suite: `${name} ${what}`, flips, rejected, malformed, neither: accepted.length }))
  expect(accepted).toEqual([])
  expect(flips).toBeGreaterThan(0)
}

/** What is asked of Intel's service, what is made of its answers, and that an answer is never stored when it is something else. */
import { describe, expect, it } from 'vitest'
import { createIntelHierarchy, SIMULATED_EPOCH } from '../../scripts/simulated/intel.js'
import { buildQeIdentity, buildTcbInfo } from '../../scripts/simulated/tdx-collateral.js'
import { buildTdxQuote } from '../../scripts/simulated/tdx-quote.js'
import type { EndorsementAddress } from '../../verifier/endorsement-fetch.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { type Bytes, concat, toBytes, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { readPckChain } from '../../verifier/tdx/chain.js'
import { readPckClaims } from '../../verifier/tdx/pck.js'
import { pcsAddresses } from '../../verifier/tdx/pcs.js'
import { fetchTdxEndorsements } from '../../verifier/tdx/pcs-fetch.js'
import { parseTdxQuote } from '../../verifier/tdx/quote.js'

const intel = createIntelHierarchy()
const pck = intel.issuePck()
const quote = parseTdxQuote(buildTdxQuote({ version: 5, pckPrivateKey: pck.privateKey, pckChain: intel.pckChain(pck) }))
const signer = intel.keys.tcbSigning.privateKey
const chain = utf8(`\n${intel.tcbSigningChainPem()}`)

/** Answers as the fetcher does: body, line feed, decoded header. */
function answer({ url }: EndorsementAddress): Bytes {
  const { pathname } = url
  if (pathname.endsWith('/tcb')) return concat(buildTcbInfo({ issueDate: SIMULATED_EPOCH }, signer), chain)
  if (pathname.endsWith('/qe/identity')) return concat(buildQeIdentity({ issueDate: SIMULATED_EPOCH }, signer), chain)
  if (pathname.endsWith('/rootcacrl')) return utf8(toHex(intel.rootCrl()))
  return toBytes(pathname.endsWith('.der') ? intel.rootCrl() : intel.pckCrl())
}

describe('Intel’s service', () => {
  it('is asked for this platform’s collateral and the lists of both issuers', () => {
    const read = readPckChain(quote)
    expect(pcsAddresses(read, readPckClaims(read.leaf))).toEqual({
      tcbInfo: 'https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=F0F0F0000000',
      qeIdentity: 'https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity',
      pckCrl: 'https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der',
      rootCrl: 'https://certificates.trustedservices.intel.com/IntelSGXRootCA.der',
    })
  })

  it.each([undefined, 'https://pccs.example:8081/ignored'])(
    'yields everything a verification needs (%s)',
    async (origin) => {
      const asked: EndorsementAddress[] = []
      const get = async (address: EndorsementAddress): Promise<Bytes> => {
        asked.push(address)
        const bytes = answer(address)
        expect(address.isValid(bytes)).toBe(true)
        return bytes
      }
      const needs = { collateral: true, crls: true }
      const files = await fetchTdxEndorsements(quote, needs, { get }, origin === undefined ? {} : { origin })
      const pool = sortEndorsements(files)
      expect([pool.documents.length, pool.crls.length, pool.certificates.length]).toEqual([2, 2, 2])
      expect(pool.unrecognised).toEqual([])
      expect(asked.map(({ url }) => url.origin).filter((item) => item === 'https://pccs.example:8081')).toHaveLength(
        origin === undefined ? 0 : 4,
      )
      for (const { isValid } of asked) {
        expect(isValid(utf8('<html>busy</html>'))).toBe(false)
        expect(isValid(new Uint8Array())).toBe(false)
      }
    },
  )

  it('is asked for no more than is needed', async () => {
    const asked: string[] = []
    const get = async (address: EndorsementAddress): Promise<Bytes> => {
      asked.push(address.url.pathname)
      return answer(address)
    }
    await fetchTdxEndorsements(quote, { collateral: false, crls: true }, { get })
    expect(asked).toEqual(['/IntelSGXRootCA.der', '/sgx/certification/v4/pckcrl'])
  })
})

/**
 * Fetching what endorses a quote from Intel's service or a cache of it. Everything fetched is signed and dated; a stored
 * copy stands for a day and is then asked for again.
 */
import type { EndorsementAddress, EndorsementFetcher } from '../endorsement-fetch.js'
import { type EndorsementFile, type EndorsementPool, sortEndorsements } from '../endorsements.js'
import { type Bytes, fromHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { type PckChain, readPckChain } from './chain.js'
import { type PckClaims, readPckClaims } from './pck.js'
import { type PcsOptions, pcsAddresses, QE_IDENTITY_CHAIN_HEADER, TCB_INFO_CHAIN_HEADER } from './pcs.js'
import type { TdxQuote } from './quote.js'

const DAY_MS = 86_400_000
const MAX_DOCUMENT_BYTES = 1024 * 1024
const MAX_CRL_BYTES = 8 * 1024 * 1024

/** What a verification still lacks. */
export interface TdxNeeds {
  /** TCB info, QE identity and their signer. */
  readonly collateral: boolean
  readonly crls: boolean
}

/**
 * Fetches what is needed for the platform the quote's certificate names; nothing when that cannot be read.
 * @throws UnavailableError naming what could not be had.
 */
export async function fetchTdxEndorsements(
  quote: TdxQuote,
  needs: TdxNeeds,
  fetcher: EndorsementFetcher,
  options: PcsOptions = {},
): Promise<EndorsementFile[]> {
  const platform = platformOf(quote)
  if (platform === undefined) return []
  const { tcbInfo, qeIdentity, pckCrl, rootCrl } = pcsAddresses(platform.chain, platform.pck, options)
  const addresses = [
    ...(needs.collateral
      ? [document(tcbInfo, TCB_INFO_CHAIN_HEADER), document(qeIdentity, QE_IDENTITY_CHAIN_HEADER)]
      : []),
    ...(needs.crls ? [list(rootCrl), list(pckCrl)] : []),
  ]
  const fetched = await Promise.all(addresses.map((address) => fetcher.get(address)))
  return fetched.map((bytes, i) => ({ name: addresses[i]?.url.href ?? '', bytes: fromHexText(bytes) }))
}

function platformOf(quote: TdxQuote): { readonly chain: PckChain; readonly pck: PckClaims } | undefined {
  try {
    const chain = readPckChain(quote)
    return { chain, pck: readPckClaims(chain.leaf) }
  } catch (error) {
    if (error instanceof FormatError) return undefined
    throw error
  }
}

function document(url: string, header: string): EndorsementAddress {
  const isValid = (pool: EndorsementPool): boolean => pool.documents.some(({ kind }) => kind === 'tdx-collateral')
  return { ...address(url, 'application/json', MAX_DOCUMENT_BYTES, isValid), header }
}

function list(url: string): EndorsementAddress {
  return address(url, '*/*', MAX_CRL_BYTES, ({ crls }) => crls.length === 1)
}

function address(
  url: string,
  accept: string,
  maxBytes: number,
  isValid: (pool: EndorsementPool) => boolean,
): EndorsementAddress {
  return {
    url: new URL(url),
    accept,
    maxBytes,
    maxAgeMs: DAY_MS,
    isValid: (bytes) => isValid(sortEndorsements([{ name: url, bytes: fromHexText(bytes) }])),
  }
}

/** Caches hand out CRLs as DER in hex. */
function fromHexText(bytes: Bytes): Bytes {
  if (bytes[0] === 0x30 && bytes[1] !== undefined && bytes[1] >= 0x80) return bytes
  const text = new TextDecoder().decode(bytes).trim()
  return /^(?:[0-9a-fA-F]{2})+$/.test(text) ? fromHex(text) : bytes
}

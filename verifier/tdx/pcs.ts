/**
 * What to ask Intel's provisioning certification service, or a cache of it (PCCS), for (Intel PCS API v4): addresses only,
 * no network.
 *
 * The query is made of a certificate nobody has verified yet. That is harmless: whatever comes back is an untrusted
 * candidate, signed and dated, and a wrong question gets collateral that fits no quote. Intel's service sends no CORS
 * headers: browsers need a relay, which can withhold and replay but not forge.
 */
import { toHex } from '../protocol/bytes.js'
import type { PckChain } from './chain.js'
import type { PckClaims } from './pck.js'

export const INTEL_PCS = 'https://api.trustedservices.intel.com'
export const INTEL_CERTIFICATES = 'https://certificates.trustedservices.intel.com'
const INTEL_ROOT_CRL = `${INTEL_CERTIFICATES}/IntelSGXRootCA.der`

export interface PcsAddresses {
  /** JSON; the issuer chain is in the response header `tcbInfoChainHeader`. */
  readonly tcbInfo: string
  readonly qeIdentity: string
  /** DER, or DER in hex from a cache. */
  readonly pckCrl: string
  readonly rootCrl: string
}

export const TCB_INFO_CHAIN_HEADER = 'TCB-Info-Issuer-Chain'
export const QE_IDENTITY_CHAIN_HEADER = 'SGX-Enclave-Identity-Issuer-Chain'

export interface PcsOptions {
  /** Origin of a PCCS; default Intel's own service. */
  readonly origin?: string
  /** `early` asks for the newest evaluation, which may call platforms outdated that `standard` does not yet. */
  readonly update?: 'standard' | 'early'
}

/** @throws TypeError when `origin` is no URL. */
export function pcsAddresses(chain: PckChain, pck: PckClaims, options: PcsOptions = {}): PcsAddresses {
  const origin = new URL(options.origin ?? INTEL_PCS).origin
  const update = options.update === 'early' ? '&update=early' : ''
  const authority = chain.intermediate.subjectCommonName === 'Intel SGX PCK Processor CA' ? 'processor' : 'platform'
  const early = options.update === 'early' ? '?update=early' : ''
  return {
    tcbInfo: `${origin}/tdx/certification/v4/tcb?fmspc=${toHex(pck.fmspc).toUpperCase()}${update}`,
    qeIdentity: `${origin}/tdx/certification/v4/qe/identity${early}`,
    pckCrl: `${origin}/sgx/certification/v4/pckcrl?ca=${authority}&encoding=der`,
    // Caches serve the root's CRL beside the rest; Intel itself publishes it elsewhere.
    rootCrl: origin === INTEL_PCS ? INTEL_ROOT_CRL : `${origin}/sgx/certification/v4/rootcacrl`,
  }
}

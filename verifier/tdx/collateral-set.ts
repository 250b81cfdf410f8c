/**
 * Collateral as it is found in files: one response of Intel's service, or a whole set in one JSON object of
 * `tcb_info`, `qe_identity`, their `…_signature`, `…_issuer_chain` and CRLs in hex, as quote verification services hand
 * it out; and issuer chains, percent-encoded as they stand in response headers, or after the response they came with.
 *
 * Taking a set apart puts each object back into the form Intel serves, without touching a byte of what is signed. Nothing
 * is trusted or verified here.
 */
import { type Bytes, concat, fromHex, fromUtf8, utf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'

export interface CollateralPart {
  readonly name: string
  readonly bytes: Bytes
}

const MAX_SET_BYTES = 4 * 1024 * 1024
const DOCUMENTS = [
  ['tcb_info', 'tcbInfo'],
  ['qe_identity', 'enclaveIdentity'],
] as const
const CHAINS = ['tcb_info_issuer_chain', 'qe_identity_issuer_chain', 'pck_crl_issuer_chain'] as const
const ENCODED_PEM = utf8('-----BEGIN%20')
const PEM = utf8('-----BEGIN ')
const OPEN_BRACE = 0x7b
const LINE_FEED = 0x0a
const CRLS = ['root_ca_crl', 'pck_crl'] as const

/**
 * What a file holds, part by part, when it is such a set or such a chain; undefined for any other.
 * @throws FormatError on a damaged one.
 */
export function collateralParts(bytes: Bytes): readonly CollateralPart[] | undefined {
  if (bytes.length > MAX_SET_BYTES) return undefined
  if (startsWith(bytes, ENCODED_PEM)) return [{ name: 'issuer chain', bytes: decodeIssuerChain(bytes) }]
  if (bytes.find((byte) => byte > 0x20) !== OPEN_BRACE) return undefined
  return splitIssuerChain(bytes) ?? splitCollateralSet(bytes)
}

/** A response with its issuer chain after it, as it is kept when it was fetched: JSON, one line feed, PEM. */
function splitIssuerChain(bytes: Bytes): readonly CollateralPart[] | undefined {
  for (let at = bytes.indexOf(LINE_FEED); at >= 0; at = bytes.indexOf(LINE_FEED, at + 1)) {
    // One look at most line ends: a file of nothing else takes no more than its bytes.
    if (bytes[at + 1] !== PEM[0] || !startsWith(bytes.subarray(at + 1), PEM)) continue
    return [
      { name: 'response', bytes: bytes.slice(0, at) },
      { name: 'issuer chain', bytes: bytes.slice(at + 1) },
    ]
  }
  return undefined
}

function splitCollateralSet(bytes: Bytes): readonly CollateralPart[] | undefined {
  const set = membersOf(bytes)
  if (set === undefined || !('tcb_info' in set || 'qe_identity' in set)) return undefined
  const text = (name: string): string | undefined => {
    const value = set[name]
    if (value === undefined || typeof value === 'string') return value
    throw new FormatError('tdx.collateral-set.member', `collateral set: ${name} is not text`)
  }
  const documents = DOCUMENTS.flatMap(([name, member]) => {
    const inner = text(name)
    const signature = text(`${name}_signature`)
    if (inner === undefined || signature === undefined) return []
    return {
      name,
      bytes: concat(utf8(`{"${member}":`), utf8(inner), utf8(`,"signature":${JSON.stringify(signature)}}`)),
    }
  })
  const chains = CHAINS.flatMap((name) => {
    const pem = text(name)
    return pem === undefined ? [] : { name, bytes: utf8(pem) }
  })
  const crls = CRLS.flatMap((name) => {
    const hex = text(name)
    return hex === undefined ? [] : { name, bytes: fromHexOrAsIs(hex) }
  })
  return [...documents, ...chains, ...crls]
}

/** Damaged hex stays text: it is then listed as what nobody recognises, under its own name. */
function fromHexOrAsIs(hex: string): Bytes {
  try {
    return fromHex(hex)
  } catch {
    return utf8(hex)
  }
}

function membersOf(bytes: Bytes): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(fromUtf8(bytes))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

function decodeIssuerChain(bytes: Bytes): Bytes {
  try {
    return utf8(decodeURIComponent(fromUtf8(bytes)))
  } catch (cause) {
    throw new FormatError('tdx.collateral-set.chain', 'issuer chain: malformed percent-encoding', { cause })
  }
}

function startsWith(bytes: Bytes, prefix: Bytes): boolean {
  return prefix.every((byte, index) => bytes[index] === byte)
}

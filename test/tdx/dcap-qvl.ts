/** `@phala/dcap-qvl`, the other verifier of TDX quotes in JavaScript: our cases in its terms, and its verdict on them. */
import { type KeyObject, verify, X509Certificate } from 'node:crypto'
import { constants, intel, Quote, QuoteVerifier } from '@phala/dcap-qvl'
import {
  type EndorsementFile,
  type EndorsementPool,
  preferCertificates,
  preferRevocationLists,
  sortEndorsements,
} from '../../verifier/endorsements.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { fromUtf8 } from '../../verifier/protocol/bytes.js'
import { readTdxEvidence } from '../../verifier/tdx/evidence.js'
import type { TrustAnchor } from '../../verifier/trust-anchors.js'

export type Collateral = Parameters<QuoteVerifier['verify']>[1]

export interface DcapQvlInput {
  /** A quote, or a container around one. */
  readonly evidence: Bytes
  /** By name where the name says what a file is, else by content. */
  readonly files: readonly EndorsementFile[]
  readonly anchors: readonly TrustAnchor[]
  readonly at: Date
  /** It leaves judging the status to its caller. */
  readonly statuses: readonly string[]
}

export type DcapQvlVerdict =
  | { readonly verdict: 'accepted' | 'rejected'; readonly reason: string }
  /** It cannot read the quote at all. */
  | { readonly verdict: 'unread'; readonly reason: string }

export function askDcapQvl(input: DcapQvlInput): DcapQvlVerdict {
  let quote: Bytes
  let fmspc: string
  try {
    quote = readTdxEvidence(input.evidence).quote
    fmspc = fmspcOf(Quote.parse(Buffer.from(quote)))
  } catch (error) {
    return { verdict: 'unread', reason: (error as Error).message }
  }
  const rootDer = Buffer.from(input.anchors[0]?.certificate.der ?? constants.TRUSTED_ROOT_CA_DER)
  return verdictOf(quote, collateralFor(fmspc, rootDer, input), input, rootDer)
}

/** It returns a status or throws. */
export function verdictOf(
  quote: Bytes,
  collateral: Collateral,
  { at, statuses }: Pick<DcapQvlInput, 'at' | 'statuses'>,
  rootDer: Buffer = constants.TRUSTED_ROOT_CA_DER,
): DcapQvlVerdict {
  try {
    const { status } = new QuoteVerifier(rootDer).verify(quote, collateral, at.getTime() / 1000)
    return { verdict: statuses.includes(status) ? 'accepted' : 'rejected', reason: status }
  } catch (error) {
    return { verdict: 'rejected', reason: (error as Error).message }
  }
}

/** Upper-case hex; empty where its own reader of PCK extensions finds none. */
function fmspcOf(quote: Quote): string {
  try {
    return Buffer.from(intel.getFmspc(quote)).toString('hex').toUpperCase()
  } catch {
    return ''
  }
}

/**
 * One object of collateral, every member the best there is for this platform at this time: it takes what it is given, so
 * whoever mixes sets up would be comparing nothing.
 */
function collateralFor(fmspc: string, rootDer: Buffer, { files, at }: DcapQvlInput): Collateral {
  const pool = sortEndorsements(files)
  const root = new X509Certificate(rootDer).publicKey
  const signer = signerUnder(root, pool, at)
  const chain = [signer ?? [], rootDer].flat().map(pem).join('')
  const key = signer === undefined ? undefined : new X509Certificate(signer).publicKey
  const tcbInfo = document(pool, 'tcbInfo', at, { id: 'TDX', fmspc }, key)
  const qeIdentity = document(pool, 'enclaveIdentity', at, { id: 'TD_QE' }, key)
  return {
    pck_crl_issuer_chain: '',
    root_ca_crl: named(files, 'root_crl_der_b64') ?? crl(pool, at, /Root CA/),
    pck_crl: named(files, 'pck_crl_der_b64') ?? crl(pool, at, /PCK (Platform|Processor) CA/),
    tcb_info_issuer_chain: text(files, 'tcb_info_issuer_chain_pem') ?? chain,
    tcb_info: tcbInfo.content,
    tcb_info_signature: tcbInfo.signature,
    qe_identity_issuer_chain: text(files, 'qe_identity_issuer_chain_pem') ?? chain,
    qe_identity: qeIdentity.content,
    qe_identity_signature: qeIdentity.signature,
  }
}

function named(files: readonly EndorsementFile[], name: string): string | undefined {
  const found = files.find((file) => file.name === name)
  return found === undefined ? undefined : Buffer.from(found.bytes).toString('hex')
}

function text(files: readonly EndorsementFile[], name: string): string | undefined {
  const found = files.find((file) => file.name === name)
  return found === undefined ? undefined : fromUtf8(found.bytes)
}

interface Content {
  readonly id: string
  readonly fmspc?: string
  readonly issueDate: string
  readonly nextUpdate: string
}

interface SignedText {
  /** Exactly the octets that are signed. */
  readonly content: string
  readonly signature: string
}

/** For this platform first, then signed by this key, then in window, then the newest. */
function document(
  pool: EndorsementPool,
  member: string,
  at: Date,
  want: Partial<Content>,
  key: KeyObject | undefined,
): SignedText {
  const candidates = pool.documents.flatMap(({ bytes }) => {
    const whole = fromUtf8(bytes)
    const parsed = JSON.parse(whole) as Readonly<Record<string, unknown>>
    const content = parsed[member] as Content | undefined
    const start = whole.indexOf('{', whole.indexOf(`"${member}"`))
    const end = whole.lastIndexOf('}', whole.lastIndexOf('"signature"')) + 1
    if (content === undefined) return []
    const right = Object.entries(want).every(([name, value]) => content[name as keyof Content]?.toUpperCase() === value)
    const current = new Date(content.issueDate) <= at && at <= new Date(content.nextUpdate)
    const text = whole.slice(start, end)
    const signature = String(parsed['signature'])
    const signed = key !== undefined && isSigned(text, signature, key)
    const rank = Number(right) * 4 + Number(signed) * 2 + Number(current)
    return { content: text, signature, rank, issued: Date.parse(content.issueDate) }
  })
  const [best] = candidates.sort((a, b) => b.rank - a.rank || b.issued - a.issued)
  return best ?? { content: '', signature: '' }
}

function crl(pool: EndorsementPool, at: Date, issuer: RegExp): string {
  const lists = pool.crls.filter(({ issuerCommonName }) => issuer.test(issuerCommonName ?? ''))
  const [best] = preferRevocationLists(lists, at)
  return best === undefined ? '' : Buffer.from(best.der).toString('hex')
}

function isSigned(text: string, signatureHex: string, key: KeyObject): boolean {
  const signature = Buffer.from(signatureHex, 'hex')
  return verify('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }, signature)
}

/** DER of the TCB signing certificate to use: others of that name stand under other roots. */
function signerUnder(root: KeyObject, pool: EndorsementPool, at: Date): Buffer | undefined {
  const signers = pool.certificates.filter(({ subjectCommonName }) => /TCB Sign/.test(subjectCommonName ?? ''))
  const ders = preferCertificates(signers, at).map(({ der }) => Buffer.from(der))
  return ders.find((der) => new X509Certificate(der).verify(root))
}

function pem(der: Uint8Array): string {
  const body = Buffer.from(der).toString('base64').replace(/.{64}/g, '$&\n')
  return `-----BEGIN CERTIFICATE-----\n${body}\n-----END CERTIFICATE-----\n`
}

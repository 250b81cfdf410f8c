/**
 * The forms in which GPU evidence comes: the bundle's CBOR container, a raw SPDM transcript, and JSON as NVIDIA's tools
 * write and send it (`nvattest collect-evidence`, its bare array, an NRAS request). JSON says things beside the evidence
 * that nobody signed: only the nonce and the architecture it claims are kept, to be held against the signed ones.
 */
import { looksLikePem, readPem } from '../pem.js'
import { type Bytes, fromBase64, fromUtf8, utf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { looksLikeGpuEvidence, parseGpuEvidence } from '../protocol/gpu-evidence.js'
import { looksLikeSpdmReport } from './spdm.js'

export interface EvidenceItem {
  readonly report: Bytes
  /** DER, leaf first. Undefined when the report came alone. */
  readonly chain: readonly Bytes[] | undefined
  /** What JSON claims beside it: unsigned. */
  readonly claimed: { readonly nonce?: string; readonly architecture?: string }
}

const MAX_JSON_BYTES = 4 * 1024 * 1024
const MAX_ITEMS = 64

/** Every device's evidence in one carried item, in order. @throws FormatError on anything unreadable, or nothing. */
export function readGpuEvidence(bytes: Bytes): readonly EvidenceItem[] {
  if (looksLikeGpuEvidence(bytes)) return [{ ...parseGpuEvidence(bytes), claimed: {} }]
  if (looksLikeSpdmReport(bytes)) return [{ report: bytes, chain: undefined, claimed: {} }]
  if (looksLikeJson(bytes)) return readJson(bytes)
  throw new FormatError('gpu-evidence.form', 'expected an SPDM report, GPU evidence in CBOR, or NVIDIA evidence JSON')
}

/** Whether these bytes are meant as GPU evidence: for sorting files, proves nothing. */
export function isGpuEvidence(bytes: Bytes): boolean {
  if (looksLikeGpuEvidence(bytes) || looksLikeSpdmReport(bytes)) return true
  if (!looksLikeJson(bytes)) return false
  try {
    return entriesOf(parseJson(bytes)).entries.length > 0
  } catch (error) {
    if (error instanceof FormatError) return false
    throw error
  }
}

function looksLikeJson(bytes: Bytes): boolean {
  const first = bytes.find((byte) => byte > 0x20)
  return first === 0x5b || first === 0x7b
}

function parseJson(bytes: Bytes): unknown {
  if (bytes.length > MAX_JSON_BYTES) throw malformed(`more than ${MAX_JSON_BYTES} bytes`)
  try {
    return JSON.parse(fromUtf8(bytes))
  } catch (cause) {
    if (cause instanceof FormatError) throw cause
    throw new FormatError('gpu-evidence.json', 'evidence JSON: not JSON', { cause })
  }
}

function readJson(bytes: Bytes): readonly EvidenceItem[] {
  const { entries, shared } = entriesOf(parseJson(bytes))
  if (entries.length === 0 || entries.length > MAX_ITEMS) throw malformed(`expected 1 to ${MAX_ITEMS} devices`)
  return entries.map((entry, i) => {
    const certificate = textOf(entry, 'certificate')
    // The nonce of an NRAS request is what the remote verifier is asked to expect; it claims nothing about this report.
    const nonce = textOf(entry, 'nonce')
    const architecture = textOf(entry, 'arch') ?? textOf(shared, 'arch')
    const report = decodeText(textOf(entry, 'evidence'), `device ${i}: evidence`)
    return {
      report,
      chain: certificate === undefined ? undefined : readChain(certificate, `device ${i}: certificate`),
      claimed: {
        ...(nonce === undefined ? {} : { nonce: nonce.toLowerCase() }),
        ...(architecture === undefined ? {} : { architecture }),
      },
    }
  })
}

type JsonObject = Readonly<Record<string, unknown>>

/** The array of evidence, bare or inside `evidences` or `evidence_list`, and what the object around it says for all. */
function entriesOf(value: unknown): { entries: readonly JsonObject[]; shared: JsonObject } {
  const shared = isObject(value) ? value : {}
  if (shared['evidences'] !== undefined && shared['evidence_list'] !== undefined) {
    throw malformed('expected evidences or evidence_list, not both')
  }
  const list = Array.isArray(value) ? value : (shared['evidences'] ?? shared['evidence_list'])
  if (!Array.isArray(list)) throw malformed('expected an array of evidence')
  const entries = list.map((entry: unknown) => {
    if (!isObject(entry) || typeof entry['evidence'] !== 'string') throw malformed('expected entries with evidence')
    return entry
  })
  return { entries, shared }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function textOf(object: JsonObject, name: string): string | undefined {
  const value = object[name]
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'string') throw malformed(`${name} must be text`)
  return value
}

/** Base64 of PEM text, or PEM text itself. */
function readChain(text: string, what: string): readonly Bytes[] {
  const pem = text.includes('-----BEGIN ') ? utf8(text) : decodeText(text, what)
  if (!looksLikePem(pem)) throw malformed(`${what}: expected PEM certificates`)
  return readPem(pem).map(({ label, der }) => {
    if (label !== 'CERTIFICATE') throw malformed(`${what}: unexpected ${label} block`)
    return der
  })
}

/** Either alphabet, padded or not, never a mixture of the two. */
function decodeText(text: string | undefined, what: string): Bytes {
  if (text === undefined) throw malformed(`${what} is missing`)
  const url = /[-_]/.test(text)
  if (url && /[+/]/.test(text)) throw malformed(`${what}: two base64 alphabets in one text`)
  const standard = (url ? text.replaceAll('-', '+').replaceAll('_', '/') : text).replace(/=+$/, '')
  return fromBase64(standard + '='.repeat((4 - (standard.length % 4)) % 4))
}

function malformed(what: string): FormatError {
  return new FormatError('gpu-evidence.json', `evidence JSON: ${what}`)
}

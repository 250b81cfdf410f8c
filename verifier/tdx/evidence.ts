/**
 * The containers TDX quotes travel in: raw, or in JSON beside an event log (`{quote, event_log}`, hex and text, or
 * `{quote, cc_eventlog}`, both base64, as attestation agents write it) or an Azure HCL envelope and a TPM quote
 * (`{td_quote, hcl_report, tpm_quote}`, base64 and hex). Nothing here is trusted or verified.
 */
import { type Bytes, fromBase64Url, fromHex, fromUtf8, toBytes, utf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import type { TpmEvidence } from '../snp/evidence.js'
import { type HclTdxEnvelope, readHclTdxEnvelope } from './hcl.js'
import { looksLikeQuote } from './quote.js'

export interface TdxEvidence {
  readonly quote: Bytes
  readonly eventLog?: Bytes
  readonly hcl?: HclTdxEnvelope
  /** As received: parsed only when a check asks for it. */
  readonly tpm?: TpmEvidence
}

const MAX_JSON_BYTES = 8 * 1024 * 1024
const MAX_PCRS = 32
const OPEN_BRACE = 0x7b

/** @throws FormatError on JSON that is neither container. Anything else is handed on as a raw quote. */
export function readTdxEvidence(input: Uint8Array): TdxEvidence {
  const bytes = toBytes(input)
  if (!looksLikeJson(bytes)) return { quote: bytes }
  if (bytes.length > MAX_JSON_BYTES) throw malformed(`${bytes.length} bytes`)
  const top = members(bytes)
  const { quote, event_log: eventLog, cc_eventlog: ccEventLog, td_quote: tdQuote, hcl_report: hclReport } = top
  if (typeof tdQuote === 'string' && typeof hclReport === 'string') {
    const hcl = readHclTdxEnvelope(fromEitherBase64(hclReport))
    return { quote: fromEitherBase64(tdQuote), hcl, ...tpmEvidence(top['tpm_quote']) }
  }
  if (typeof quote !== 'string') throw malformed('expected quote, or td_quote and hcl_report')
  if (ccEventLog !== undefined) return { quote: fromEitherBase64(quote), ...areaOf(ccEventLog) }
  const text = typeof eventLog === 'string' ? eventLog : eventLog === undefined ? undefined : textOf(eventLog)
  return { quote: fromHex(quote.replace(/^0x/, '')), ...(text === undefined ? {} : { eventLog: utf8(text) }) }
}

/** @throws FormatError on JSON nested so deeply that writing it again overflows the stack. */
function textOf(value: unknown): string {
  try {
    return JSON.stringify(value)
  } catch (cause) {
    throw new FormatError('tdx.evidence.json', 'TDX evidence: the event log nests too deeply', { cause })
  }
}

/** Whether this is evidence for this verifier: a quote, or a container around one. */
export function looksLikeTdxEvidence(bytes: Uint8Array): boolean {
  return looksLikeQuote(bytes) || looksLikeTdxContainer(bytes)
}

/** Whether these bytes are a container around a quote, by the names of their members. Reads no further. */
export function looksLikeTdxContainer(bytes: Uint8Array): boolean {
  if (!looksLikeJson(bytes) || bytes.length > MAX_JSON_BYTES) return false
  try {
    const top = members(toBytes(bytes))
    const besideLog = 'event_log' in top || 'cc_eventlog' in top
    return typeof top['td_quote'] === 'string' || (typeof top['quote'] === 'string' && besideLog)
  } catch (error) {
    if (error instanceof FormatError) return false
    throw error
  }
}

/** Whether they carry an Azure HCL envelope, by the names of their members. */
export function carriesHcl(bytes: Uint8Array): boolean {
  return looksLikeTdxContainer(bytes) && typeof members(toBytes(bytes))['hcl_report'] === 'string'
}

/** Whether they carry a TPM quote, by the names of their members. */
export function carriesTpmQuote(bytes: Uint8Array): boolean {
  return carriesHcl(bytes) && members(toBytes(bytes))['tpm_quote'] !== undefined
}

function looksLikeJson(bytes: Uint8Array): boolean {
  return bytes.find((byte) => byte > 0x20) === OPEN_BRACE
}

function members(bytes: Bytes): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(fromUtf8(bytes))
  } catch (cause) {
    throw new FormatError('tdx.evidence.json', 'TDX evidence: not JSON', { cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed('not an object')
  return value as Readonly<Record<string, unknown>>
}

/** The CCEL log area; agents write null where the guest has none. */
function areaOf(value: unknown): { readonly eventLog?: Bytes } {
  if (value === null) return {}
  if (typeof value !== 'string') throw malformed('expected base64 in cc_eventlog')
  return { eventLog: fromEitherBase64(value) }
}

/** `{message, signature, pcrs}`, all in hex. */
function tpmEvidence(value: unknown): { readonly tpm?: TpmEvidence } {
  if (value === undefined) return {}
  const { message, signature, pcrs } = (value ?? {}) as Readonly<Record<string, unknown>>
  const texts = Array.isArray(pcrs) && pcrs.length <= MAX_PCRS && pcrs.every((pcr) => typeof pcr === 'string')
  if (typeof message !== 'string' || typeof signature !== 'string' || !texts) {
    throw malformed('expected message, signature and pcrs in tpm_quote')
  }
  return { tpm: { message: fromHex(message), signature: fromHex(signature), pcrs: (pcrs as string[]).map(fromHex) } }
}

/** Either alphabet, padded or not: agents write the URL alphabet with padding (seen). */
function fromEitherBase64(text: string): Bytes {
  return fromBase64Url(
    text
      .replaceAll('+', '-')
      .replaceAll('/', '_')
      .replace(/={1,2}$/, ''),
  )
}

function malformed(reason: string): FormatError {
  return new FormatError('tdx.evidence.malformed', `TDX evidence: ${reason}`)
}

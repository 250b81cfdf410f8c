/**
 * The evidence bundle: a RATS conceptual message wrapper collection (draft-ietf-rats-msg-wrap) in deterministic CBOR,
 * with a digest of its own (PROTOCOL.md §6). Parsing it proves nothing about any part of it.
 *
 * Members: `claims`, `cpu`, `keys` always; `nonce`, `operator`, `eventlog` where there is one; `gpu.N`, `switch.N` and
 * `endorsement.N` numbered from zero without gaps. Anything else is refused.
 */
import { type Bytes, equalBytes } from './bytes.js'
import { CborFields, type CborKey, type CborValue, decodeCbor, encodeCbor, expectArray, expectBytes } from './cbor.js'
import * as constants from './constants.js'
import { FormatError } from './errors.js'
import { sha256 } from './hash.js'
import type { InclusionProof } from './merkle.js'

/** CM type indicator bits of the wrapper. */
const ENDORSEMENTS = 2
const EVIDENCE = 4

const COLLECTION_TYPE = '__cmwc_t'
/** What may stand under `cpu`. */
export type CpuType = 'application/vnd.amd.sev-snp.report' | 'application/vnd.intel.tdx.quote'
/** What may be stapled. */
export type EndorsementType =
  | 'application/pkix-cert'
  | 'application/pkix-crl'
  | 'application/ocsp-response'
  | 'application/xml'
  | 'application/json'
  | 'application/vnd.subrosa.release'
  | 'application/vnd.subrosa.release-index'
  | 'application/vnd.subrosa.tlog-proof'
  | 'application/vnd.dev.sigstore.bundle+json'
const CPU_TYPES: readonly CpuType[] = [constants.MEDIA_TYPE_SNP_REPORT, constants.MEDIA_TYPE_TDX_QUOTE]
const ENDORSEMENT_TYPES: readonly EndorsementType[] = [
  constants.MEDIA_TYPE_CERTIFICATE,
  constants.MEDIA_TYPE_CRL,
  constants.MEDIA_TYPE_OCSP,
  constants.MEDIA_TYPE_RIM,
  constants.MEDIA_TYPE_JSON,
  constants.MEDIA_TYPE_RELEASE,
  constants.MEDIA_TYPE_RELEASE_INDEX,
  constants.MEDIA_TYPE_TLOG_PROOF,
  constants.MEDIA_TYPE_SIGSTORE,
]

export function isCpuType(value: unknown): value is CpuType {
  return CPU_TYPES.some((type) => type === value)
}

export function isEndorsementType(value: unknown): value is EndorsementType {
  return ENDORSEMENT_TYPES.some((type) => type === value)
}

/** Most GPUs, and most switches, that one machine shows. */
export const MAX_DEVICES = 32
/** Most endorsements one bundle carries. */
export const MAX_ENDORSEMENTS = 256

/** One stapled endorsement. DER for certificates, CRLs and OCSP; the served bytes for XML and JSON. */
export interface StapledEndorsement {
  readonly type: EndorsementType
  readonly bytes: Bytes
}

/** Where the client's nonce stands in the batch that `fresh` commits to. */
export interface NonceProof extends InclusionProof {
  readonly nonce: Bytes
}

export interface Bundle {
  /** Exact bytes hashed into REPORT_DATA. */
  readonly claims: Bytes
  readonly cpu: { readonly type: CpuType; readonly evidence: Bytes }
  /** Evidence of each device, hashed into the claims as these exact bytes, in this order. */
  readonly gpus: readonly Bytes[]
  /** Evidence of each NVSwitch, hashed after the GPUs'. */
  readonly switches: readonly Bytes[]
  /** Encoded list of signed key configurations. */
  readonly keys: Bytes
  readonly nonceProof?: NonceProof
  /** Encoded operator statement. */
  readonly operator?: Bytes
  readonly eventLog?: Bytes
  readonly endorsements: readonly StapledEndorsement[]
}

/** The one encoding of a bundle; its `digest` member is SHA-256 over the encoding without that member. */
export function encodeBundle(bundle: Bundle): Bytes {
  const members = new Map<CborKey, CborValue>([
    [COLLECTION_TYPE, constants.BUNDLE_TYPE],
    ['claims', [constants.MEDIA_TYPE_CLAIMS, bundle.claims, EVIDENCE]],
    ['cpu', [bundle.cpu.type, bundle.cpu.evidence, EVIDENCE]],
    ['keys', [constants.MEDIA_TYPE_SIGNED_KEYS, bundle.keys, EVIDENCE]],
  ])
  if (bundle.nonceProof !== undefined) {
    members.set('nonce', [constants.MEDIA_TYPE_NONCE_PROOF, encodeNonceProof(bundle.nonceProof), EVIDENCE])
  }
  if (bundle.operator !== undefined) {
    members.set('operator', [constants.MEDIA_TYPE_OPERATOR, bundle.operator, ENDORSEMENTS])
  }
  if (bundle.eventLog !== undefined) {
    members.set('eventlog', [constants.MEDIA_TYPE_EVENT_LOG, bundle.eventLog, EVIDENCE])
  }
  for (const [i, gpu] of bundle.gpus.entries()) {
    members.set(`gpu.${i}`, [constants.MEDIA_TYPE_NVIDIA_EVIDENCE, gpu, EVIDENCE])
  }
  for (const [i, item] of bundle.switches.entries()) {
    members.set(`switch.${i}`, [constants.MEDIA_TYPE_NVIDIA_EVIDENCE, item, EVIDENCE])
  }
  for (const [i, { type, bytes }] of bundle.endorsements.entries()) {
    members.set(`endorsement.${i}`, [type, bytes, ENDORSEMENTS])
  }
  const digest = sha256(encodeCbor(members))
  return encodeCbor(new Map([...members, ['digest', digest]]))
}

/** @throws FormatError on anything but one well-formed bundle whose digest matches. */
export function parseBundle(bytes: Uint8Array): Bundle {
  const decoded = decodeCbor(bytes, constants.MAX_BUNDLE_BYTES)
  const f = new CborFields(decoded, 'bundle')
  const type = f.text(COLLECTION_TYPE)
  if (type !== constants.BUNDLE_TYPE) {
    throw new FormatError('bundle.type', `bundle: expected ${constants.BUNDLE_TYPE}, got ${type.slice(0, 80)}`)
  }
  const without = new Map(decoded as ReadonlyMap<CborKey, CborValue>)
  without.delete('digest')
  if (!equalBytes(f.bytes('digest', 32), sha256(encodeCbor(without)))) {
    throw new FormatError(
      'bundle.digest',
      'bundle: the digest does not match the contents; the file is damaged or altered',
    )
  }
  const member = <T extends string>(
    name: string,
    types: readonly T[],
    indicator: number,
  ): { type: T; bytes: Bytes } => {
    const [mediaType, value, ind] = expectArray(f.raw(name), `bundle: ${name}`, 3)
    const known = types.find((candidate) => candidate === mediaType)
    if (known === undefined) throw new FormatError('bundle.media-type', `bundle: ${name}: unexpected media type`)
    if (ind !== indicator) throw new FormatError('bundle.indicator', `bundle: ${name}: expected indicator ${indicator}`)
    return { type: known, bytes: expectBytes(value, `bundle: ${name}`) }
  }
  const numbered = <T>(prefix: string, limit: number, read: (name: string) => T): T[] => {
    const out: T[] = []
    while (f.has(`${prefix}.${out.length}`)) {
      if (out.length >= limit) throw new FormatError('bundle.count', `bundle: more than ${limit} ${prefix} members`)
      out.push(read(`${prefix}.${out.length}`))
    }
    return out
  }
  const cpu = member('cpu', CPU_TYPES, EVIDENCE)
  const bundle: Bundle = {
    claims: member('claims', [constants.MEDIA_TYPE_CLAIMS], EVIDENCE).bytes,
    cpu: { type: cpu.type, evidence: cpu.bytes },
    keys: member('keys', [constants.MEDIA_TYPE_SIGNED_KEYS], EVIDENCE).bytes,
    gpus: numbered('gpu', MAX_DEVICES, (name) => member(name, [constants.MEDIA_TYPE_NVIDIA_EVIDENCE], EVIDENCE).bytes),
    switches: numbered(
      'switch',
      MAX_DEVICES,
      (name) => member(name, [constants.MEDIA_TYPE_NVIDIA_EVIDENCE], EVIDENCE).bytes,
    ),
    endorsements: numbered('endorsement', MAX_ENDORSEMENTS, (name) => member(name, ENDORSEMENT_TYPES, ENDORSEMENTS)),
    ...(f.has('nonce')
      ? { nonceProof: parseNonceProof(member('nonce', [constants.MEDIA_TYPE_NONCE_PROOF], EVIDENCE).bytes) }
      : {}),
    ...(f.has('operator') ? { operator: member('operator', [constants.MEDIA_TYPE_OPERATOR], ENDORSEMENTS).bytes } : {}),
    ...(f.has('eventlog') ? { eventLog: member('eventlog', [constants.MEDIA_TYPE_EVENT_LOG], EVIDENCE).bytes } : {}),
  }
  f.end()
  return bundle
}

/** Whether the bytes begin like a bundle: a CBOR map whose collection type says so. Says nothing about validity. */
export function looksLikeBundle(bytes: Uint8Array): boolean {
  const first = bytes[0] ?? 0
  if (first >> 5 !== 5) return false
  return new TextDecoder('latin1').decode(bytes).includes('tag:subrosa,2026:bundle/')
}

function encodeNonceProof(proof: NonceProof): Bytes {
  return encodeCbor([proof.nonce, proof.index, proof.size, proof.path])
}

function parseNonceProof(bytes: Uint8Array): NonceProof {
  const [nonce, index, size, path] = expectArray(decodeCbor(bytes, 4096), 'nonce proof', 4)
  if (typeof index !== 'number' || typeof size !== 'number') {
    throw new FormatError('bundle.nonce', 'nonce proof: expected two integers')
  }
  return {
    nonce: expectBytes(nonce, 'nonce proof: nonce', constants.CLIENT_NONCE_BYTES),
    index,
    size,
    path: expectArray(path, 'nonce proof: path').map((hash) => expectBytes(hash, 'nonce proof: path', 32)),
  }
}

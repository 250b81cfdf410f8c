/**
 * Endorsements: files sorted out by what they contain, never by what they are called.
 *
 * Everything in a pool is untrusted. A certificate, root or not, is only a candidate until a chain of signatures ends in
 * a pinned key; a CRL says nothing until its signature verifies. Unrecognised files are listed and harm nothing.
 * Pure and the same in browsers: whoever reads disks or networks hands the bytes in.
 */
import { leadingTags, readDer } from './der.js'
import { looksLikePem, readPem } from './pem.js'
import { type Bytes, fromUtf8, toBytes } from './protocol/bytes.js'
import { FormatError } from './protocol/errors.js'
import { looksLikeCertificateTable, readCertificateTable } from './snp/certificate-table.js'
import { collateralParts } from './tdx/collateral-set.js'
import {
  type Certificate,
  inValidity,
  inWindow,
  parseCertificate,
  parseRevocationList,
  type RevocationList,
} from './x509.js'

export interface EndorsementFile {
  /** For people only. */
  readonly name: string
  readonly bytes: Uint8Array
}

/** Endorsements other than certificates and CRLs, recognised but not yet read: their vendor's verifier does that. */
export interface EndorsementDocument {
  readonly kind:
    | 'tdx-collateral'
    | 'rim'
    | 'jwks'
    | 'ocsp'
    | 'release'
    | 'release-index'
    | 'tlog-proof'
    | 'sigstore-bundle'
  readonly name: string
  readonly bytes: Bytes
}

export interface UnrecognisedFile {
  readonly name: string
  readonly reason: string
  readonly bytes: Bytes
}

export interface EndorsementPool {
  readonly certificates: readonly Certificate[]
  readonly crls: readonly RevocationList[]
  readonly documents: readonly EndorsementDocument[]
  readonly unrecognised: readonly UnrecognisedFile[]
}

interface Collector {
  readonly certificates: Map<string, Certificate>
  readonly crls: Map<string, RevocationList>
  readonly documents: EndorsementDocument[]
  readonly unrecognised: UnrecognisedFile[]
  /** How many more parts of containers are opened. */
  partsLeft: number
}

/** Containers unfold into no more than this many parts for every file handed over, and so many beside. */
const PARTS = { perFile: 16, atLeast: 256 } as const

/** Sorts files into a pool. Each certificate and CRL appears once, however many files carry it. Never throws. */
export function sortEndorsements(items: readonly EndorsementFile[]): EndorsementPool {
  const collector: Collector = {
    certificates: new Map(),
    crls: new Map(),
    documents: [],
    unrecognised: [],
    partsLeft: PARTS.atLeast + PARTS.perFile * items.length,
  }
  for (const item of items) sortOne(item.name, toBytes(item.bytes), collector)
  return {
    certificates: [...collector.certificates.values()],
    crls: [...collector.crls.values()],
    documents: collector.documents,
    unrecognised: collector.unrecognised,
  }
}

/** Everything in several pools, duplicates once. */
export function mergePools(...pools: readonly EndorsementPool[]): EndorsementPool {
  return {
    certificates: distinct(pools.flatMap((pool) => pool.certificates)),
    crls: distinct(pools.flatMap((pool) => pool.crls)),
    documents: pools.flatMap((pool) => pool.documents),
    unrecognised: pools.flatMap((pool) => pool.unrecognised),
  }
}

/** Candidates in the order to try them: in their validity at `time` first, then the newest. */
export function preferCertificates(candidates: readonly Certificate[], time: Date): readonly Certificate[] {
  return [...candidates].sort(
    (a, b) =>
      Number(inValidity(b, time)) - Number(inValidity(a, time)) || b.notBefore.getTime() - a.notBefore.getTime(),
  )
}

/** Candidates in the order to try them: current at `time` first, then the newest. */
export function preferRevocationLists(candidates: readonly RevocationList[], time: Date): readonly RevocationList[] {
  return [...candidates].sort(
    (a, b) => Number(inWindow(b, time)) - Number(inWindow(a, time)) || b.thisUpdate.getTime() - a.thisUpdate.getTime(),
  )
}

/** Containers inside containers: a bundle of a few hundred bytes must not unfold into millions of items. */
const MAX_NESTING = 3

/** A file's contents go to the first reader that recognises them; what none does, or what is damaged, is listed. */
function sortOne(name: string, bytes: Bytes, collector: Collector, depth = 0): void {
  try {
    if (depth > MAX_NESTING) throw new FormatError('endorsement.nested', 'containers nest too deeply')
    if (bytes.length === 0) throw new FormatError('endorsement.empty', 'empty file')
    if (bytes[0] === 0x30 && sortDer(name, bytes, collector)) return
    if (depth === 0 && looksLikeCertificateTable(bytes)) {
      // Entries are named by GUID, but the pool goes by content like everything else.
      for (const entry of readCertificateTable(bytes))
        sortPart(`${name} (${entry.guid})`, entry.bytes, collector, depth + 1)
      return
    }
    const parts = collateralParts(bytes)
    if (parts !== undefined) {
      for (const part of parts) sortPart(`${name} (${part.name})`, part.bytes, collector, depth + 1)
      return
    }
    const kind = kindOfText(bytes)
    if (kind !== undefined) {
      collector.documents.push({ kind, name, bytes })
      return
    }
    if (looksLikePem(bytes)) {
      readPem(bytes).forEach((block, index) => {
        sortPart(`${name} (${block.label} ${index + 1})`, block.der, collector, depth + 1)
      })
      return
    }
    collector.unrecognised.push({ name, reason: 'not a kind of endorsement', bytes })
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    collector.unrecognised.push({ name, reason: error.message, bytes })
  }
}

/** @throws FormatError about the container, when too many parts were opened. */
function sortPart(name: string, bytes: Bytes, collector: Collector, depth: number): void {
  if (collector.partsLeft-- <= 0) throw new FormatError('endorsement.parts', 'more parts in containers than are opened')
  sortOne(name, bytes, collector, depth)
}

/** A longer one is refused by its own reader, by its length alone. */
const MAX_OCSP_BYTES = 64 * 1024

/** Certificate, CRL and OCSP response differ in the tags of what the outer SEQUENCE begins with. */
function sortDer(name: string, bytes: Bytes, collector: Collector): boolean {
  // The rest is read under the bound of what it is.
  const [, first, version] = leadingTags(bytes, name)
  if (first === 0x0a) {
    if (bytes.length <= MAX_OCSP_BYTES) readDer(bytes, name)
    collector.documents.push({ kind: 'ocsp', name, bytes })
    return true
  }
  if (first !== 0x30) return false
  if (version === 0xa0) {
    const certificate = parseCertificate(bytes)
    collector.certificates.set(certificate.sha256Hex, certificate)
    return true
  }
  if (version === 0x02) {
    const list = parseRevocationList(bytes)
    collector.crls.set(list.sha256Hex, list)
    return true
  }
  return false
}

/** Bound on text that is parsed only to see what it is. */
const MAX_TEXT_BYTES = 4 * 1024 * 1024

function kindOfText(bytes: Bytes): EndorsementDocument['kind'] | undefined {
  const head = String.fromCharCode(...bytes.subarray(0, 64))
  if (head.startsWith('c2sp.org/tlog-proof@v1\n')) return 'tlog-proof'
  const first = bytes.find((byte) => byte > 0x20)
  if (bytes.length > MAX_TEXT_BYTES || (first !== 0x7b && first !== 0x3c)) return undefined
  if (first === 0x3c) return /<(\w+:)?SoftwareIdentity[\s>]/.test(asText(bytes)) ? 'rim' : undefined
  // Damaged collateral stays collateral: it is then refused by name instead of being nowhere.
  if (/^\s*\{\s*"(tcbInfo|enclaveIdentity)"/.test(head)) return 'tdx-collateral'
  // Signed notes, whose text is JSON: with the signatures behind it the whole is none.
  const [, several] = /^\{\s*"schema": "subrosa-release(s?)\/1"/.exec(head) ?? []
  if (several !== undefined) return several === 's' ? 'release-index' : 'release'
  const members = jsonMembers(bytes)
  if (members.includes('tcbInfo') || members.includes('enclaveIdentity')) return 'tdx-collateral'
  if (members.includes('mediaType') && members.includes('verificationMaterial')) return 'sigstore-bundle'
  return members.includes('keys') ? 'jwks' : undefined
}

function jsonMembers(bytes: Bytes): readonly string[] {
  try {
    const value: unknown = JSON.parse(asText(bytes))
    return typeof value === 'object' && value !== null ? Object.keys(value) : []
  } catch {
    return []
  }
}

function asText(bytes: Bytes): string {
  try {
    return fromUtf8(bytes)
  } catch {
    return ''
  }
}

function distinct<T extends { readonly sha256Hex: string }>(items: readonly T[]): readonly T[] {
  return [...new Map(items.map((item) => [item.sha256Hex, item])).values()]
}

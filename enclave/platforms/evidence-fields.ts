/**
 * The few fields of SNP reports and TDX quotes that the worker itself reads: what was bound, and what was launched. Nothing
 * here is verified; a worker has no reason to trust its host about its own evidence, only to notice that it is useless.
 */
import { ByteReader, type Bytes } from '../../verifier/protocol/bytes.js'
import { WorkerError } from '../errors.js'

/** Bytes of REPORT_DATA and REPORTDATA. */
export const REPORT_DATA_BYTES = 64

export interface EvidenceFields {
  /** 64 bytes. */
  readonly reportData: Bytes
  /** HOST_DATA, 32 bytes, or MRCONFIGID, 48 bytes. */
  readonly hostData: Bytes
}

/** AMD 56860 table "ATTESTATION_REPORT": exactly this long. */
export const SNP_REPORT_BYTES = 0x4a0
/** Intel "TDX DCAP Quoting Library API", quote 4: the body follows a 48-byte header. 5 puts type and size, 6 bytes, between. */
const TDX_BODY_AT: Readonly<Record<number, number>> = { 4: 48, 5: 54 }
const TDX_BODY_BYTES = 584

/** @throws WorkerError `worker.platform` on anything too short, too long or of another version. */
export function readEvidenceFields(kind: 'snp' | 'tdx', evidence: Bytes): EvidenceFields {
  if (evidence.length === 0) throw useless('it is empty: nothing on the host makes quotes')
  if (kind === 'snp') {
    if (evidence.length !== SNP_REPORT_BYTES) {
      throw useless(`expected a report of ${SNP_REPORT_BYTES} bytes, got ${evidence.length}`)
    }
    return { reportData: evidence.slice(0x50, 0x90), hostData: evidence.slice(0xc0, 0xe0) }
  }
  const version = evidence.length < 2 ? 0 : new ByteReader(evidence, 'quote').u16le()
  const body = TDX_BODY_AT[version]
  if (body === undefined) throw useless(`expected a quote of version 4 or 5, got ${version}`)
  if (evidence.length < body + TDX_BODY_BYTES) throw useless(`the quote ends after ${evidence.length} bytes`)
  return {
    reportData: evidence.slice(body + 520, body + 584),
    hostData: evidence.slice(body + 184, body + 232),
  }
}

function useless(why: string): WorkerError {
  return new WorkerError('worker.platform', `the machine's evidence cannot be used: ${why}`)
}

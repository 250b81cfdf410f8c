/**
 * GPU evidence as a bundle carries it, `application/vnd.nvidia.gpu.evidence+cbor`: a deterministic CBOR map
 * { "chain": [bstr, …], "report": bstr }, the report being the SPDM transcript and the chain the device's certificates in
 * DER, leaf first. Says nothing about what either contains.
 */
import { type Bytes, toBytes } from './bytes.js'
import { CborFields, decodeCbor, encodeCbor, expectBytes } from './cbor.js'
import { FormatError } from './errors.js'

export interface GpuEvidence {
  /** Request ‖ response ‖ signature, exactly as the device returned it. */
  readonly report: Bytes
  /** DER, leaf first, root last. */
  readonly chain: readonly Bytes[]
}

const MAX_GPU_EVIDENCE_BYTES = 256 * 1024
const MAX_CHAIN = 16

export function encodeGpuEvidence(evidence: GpuEvidence): Bytes {
  return encodeCbor(
    new Map<string, Uint8Array | readonly Uint8Array[]>([
      ['report', evidence.report],
      ['chain', evidence.chain],
    ]),
  )
}

/** @throws FormatError on anything but the one deterministic encoding. */
export function parseGpuEvidence(bytes: Uint8Array): GpuEvidence {
  const fields = new CborFields(decodeCbor(bytes, MAX_GPU_EVIDENCE_BYTES), 'GPU evidence')
  const report = fields.bytes('report')
  const chain = fields.array('chain').map((item) => expectBytes(item, 'GPU evidence: certificate'))
  fields.end()
  if (chain.length === 0 || chain.length > MAX_CHAIN) {
    throw new FormatError('gpu-evidence.chain', `GPU evidence: expected 1 to ${MAX_CHAIN} certificates`)
  }
  return { report, chain }
}

/** Whether the bytes begin as the encoding does: a map of two whose first key is `chain`. */
export function looksLikeGpuEvidence(bytes: Uint8Array): boolean {
  const head = [0xa2, 0x65, 0x63, 0x68, 0x61, 0x69, 0x6e]
  return toBytes(bytes).length > head.length && head.every((byte, i) => bytes[i] === byte)
}

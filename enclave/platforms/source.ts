/** One interface of the kernel, or of a paravisor, that makes CPU evidence. */
import type { StapledEndorsement } from '../../verifier/protocol/bundle.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'

export interface MadeEvidence {
  /** As a bundle carries it; its report data are exactly those that were asked for. */
  readonly evidence: Bytes
  /** HOST_DATA (32 bytes) or MRCONFIGID (48 bytes). */
  readonly hostData: Bytes
  /** What the host handed over beside it, in DER: candidates, checked by nobody. */
  readonly certificates: readonly StapledEndorsement[]
}

export interface EvidenceSource {
  /** For banners and logs. */
  readonly name: string
  readonly kind: 'snp' | 'tdx'
  /**
   * Evidence over 64 bytes. To be called again only when the last call has ended: the hardware serves one request at a time.
   * @throws WorkerError `worker.platform`
   */
  make(reportData: Bytes): Promise<MadeEvidence>
}

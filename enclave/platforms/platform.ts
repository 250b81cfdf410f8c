/**
 * What a worker needs from the machine it runs in: CPU evidence over 64 bytes of its choosing, the launch-time
 * configuration digest, and endorsements to staple. Whatever comes back is evidence for others to appraise; the worker
 * itself trusts none of it.
 */
import type { StapledEndorsement } from '../../verifier/protocol/bundle.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'

export interface Platform {
  /** For banners and logs: `configfs-tsm`, `simulated`. */
  readonly name: string
  readonly kind: 'snp' | 'tdx'
  /** Whether evidence is signed under throw-away roots that no verifier trusts unless told to. */
  readonly simulated: boolean
  /** HOST_DATA (32 bytes) or MRCONFIGID (48 bytes) of this machine's reports. */
  readonly hostData: Bytes
  /** Events of the firmware and the worker, for TDX: a verifier replays them into the registers of the quote. */
  readonly eventLog?: Bytes
  /** SNP report or TDX quote, raw or in a paravisor's container, whose REPORT_DATA is exactly these 64 bytes. */
  attest(reportData: Bytes): Promise<Bytes>
  /** Evidence of every GPU and switch over this 32-byte SPDM nonce, encoded as bundles carry it; none without devices. */
  attestDevices(nonce: Bytes): Promise<{ readonly gpus: readonly Bytes[]; readonly switches: readonly Bytes[] }>
  /** Certificates, revocation lists and collateral to staple, as far as the platform has them. */
  endorsements(): Promise<readonly StapledEndorsement[]>
}

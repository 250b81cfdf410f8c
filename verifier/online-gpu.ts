/** NVIDIA evidence on its own with a network: the same appraisals as `appraise-gpu.ts`, over what NVIDIA's services add. */
import { common, type GpuOptions, verifyGpuEvidence, verifyRimFile } from './appraise-gpu.js'
import { fetchNvidiaEndorsements, fetchOcsp } from './gpu/nvidia-fetch.js'
import { parseRimXml, readRim } from './gpu/rim.js'
import { rimSubjects } from './gpu/rim-verify.js'
import { appraiseTwice, type OnlineOptions, type OnlineResult } from './online.js'
import type { Bytes } from './protocol/bytes.js'
import { FormatError } from './protocol/errors.js'

/** As `verifyGpuEvidence`; manifests that are missing and the newest OCSP responses are asked for. */
export function verifyGpuOnline(
  devices: readonly Bytes[],
  switches: readonly Bytes[],
  options: GpuOptions,
  online: OnlineOptions,
): Promise<OnlineResult> {
  return appraiseTwice(
    options,
    online,
    (more) => verifyGpuEvidence(devices, switches, more),
    () => fetchNvidiaEndorsements({ ...common(options), devices, switches }, online.fetcher, online.nvidia),
  )
}

/** As `verifyRimFile`; the newest OCSP responses about its signers are asked for. */
export function verifyRimOnline(rim: Bytes, options: GpuOptions, online: OnlineOptions): Promise<OnlineResult> {
  return appraiseTwice(
    options,
    online,
    (more) => verifyRimFile(rim, more),
    async () => {
      if (options.policy.revocation === 'off') return { files: [], failures: [] }
      return fetchOcsp(subjectsOf(rim), online.fetcher, online.nvidia ?? {})
    },
  )
}

function subjectsOf(rim: Bytes) {
  try {
    return rimSubjects(readRim(parseRimXml(rim)))
  } catch (error) {
    if (error instanceof FormatError) return []
    throw error
  }
}

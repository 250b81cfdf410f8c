/**
 * The machine this process runs on, by the best interface it has: configfs-tsm, else the SNP guest device, else a paravisor's
 * vTPM. The hardware serves one request at a time, so requests wait for each other here; one that hangs makes the next ones
 * fail at once instead of piling up behind it.
 */
import type { StapledEndorsement } from '../../verifier/protocol/bundle.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { within } from '../deadline.js'
import { WorkerError } from '../errors.js'
import { openAzure } from './azure.js'
import { readEventLog } from './event-log.js'
import { REPORT_DATA_BYTES } from './evidence-fields.js'
import type { Platform } from './platform.js'
import { openSevGuest } from './sev-guest.js'
import type { EvidenceSource, MadeEvidence } from './source.js'
import { openTpm } from './tpm.js'
import { openTsm } from './tsm.js'

/** Opens one interface. @throws WorkerError `worker.no-tee` when the machine does not have it. */
export type OpenSource = () => Promise<EvidenceSource>

export interface DetectOptions {
  /** Tried in order. Default: those named above. */
  readonly sources?: readonly OpenSource[]
  /** Longest wait for one report. Default 90 s: the driver itself waits up to 60 s while the host throttles. */
  readonly timeoutMs?: number
}

const DEFAULT_TIMEOUT_MS = 90_000

const SOURCES: readonly OpenSource[] = [
  () => openTsm(),
  () => openSevGuest(),
  async () => openAzure({ tpm: await openTpm(), fetch }),
]

/**
 * The platform of this machine, after one report that shows it works.
 * @throws WorkerError `worker.no-tee` when it has no interface at all; `worker.platform` when the one it has does not deliver.
 */
export async function detectPlatform(options: DetectOptions = {}): Promise<Platform> {
  const source = await firstOf(options.sources ?? SOURCES)
  const make = oneAtATime(source, options.timeoutMs ?? DEFAULT_TIMEOUT_MS)
  const first = await make(crypto.getRandomValues(new Uint8Array(REPORT_DATA_BYTES)))
  // The log of a boot is over before the worker starts.
  const eventLog = source.kind === 'tdx' ? await readEventLog() : undefined
  let certificates: readonly StapledEndorsement[] = first.certificates
  return {
    name: source.name,
    kind: source.kind,
    simulated: false,
    hostData: first.hostData,
    ...(eventLog === undefined ? {} : { eventLog }),
    // Devices are another module's: a CPU has none.
    attestDevices: async () => ({ gpus: [], switches: [] }),
    async attest(reportData) {
      if (reportData.length !== REPORT_DATA_BYTES) {
        throw new RangeError(`report data: expected 64 bytes, got ${reportData.length}`)
      }
      const made = await make(reportData)
      certificates = made.certificates
      return made.evidence
    },
    endorsements: async () => certificates,
  }
}

async function firstOf(sources: readonly OpenSource[]): Promise<EvidenceSource> {
  const absent: string[] = []
  for (const open of sources) {
    try {
      return await open()
    } catch (error) {
      if (!(error instanceof WorkerError) || error.code !== 'worker.no-tee') throw error
      absent.push(error.message)
    }
  }
  throw new WorkerError(
    'worker.no-tee',
    `this machine offers no SEV-SNP or TDX attestation, so no client could trust it (${absent.join('; ')}): run it in a confidential VM, or try everything out with --simulated`,
  )
}

/** What the machine answers is the host's doing, so malformed answers are its failures and nothing worse. */
function asWorkerError(cause: unknown): never {
  if (!(cause instanceof FormatError)) throw cause
  throw new WorkerError('worker.platform', `the machine's evidence cannot be read: ${cause.message}`, { cause })
}

function oneAtATime(source: EvidenceSource, timeoutMs: number): (reportData: Bytes) => Promise<MadeEvidence> {
  let last: Promise<unknown> = Promise.resolve()
  let hanging = false
  const make = async (reportData: Bytes): Promise<MadeEvidence> => {
    if (hanging)
      throw new WorkerError('worker.platform', 'the machine has not answered an earlier request for a report')
    const work = source.make(reportData).catch(asWorkerError)
    const late = (): WorkerError => {
      hanging = true
      const over = (): void => {
        hanging = false
      }
      work.then(over, over)
      return new WorkerError('worker.platform', `the machine made no report within ${timeoutMs} ms`)
    }
    return within(work, timeoutMs, late)
  }
  return (reportData) => {
    const next = last.then(() => make(reportData))
    last = next.catch(() => undefined)
    return next
  }
}

/**
 * Evidence through configfs-tsm (Linux 6.7, Documentation/ABI/testing/configfs-tsm-report): SEV-SNP and TDX guests, by plain
 * file operations. Each report uses an entry of its own, checks the generation count around the read, and compares the
 * report data inside the evidence with what was asked for; that last comparison is the one that counts.
 *
 * Not here: SVSM service providers, whose evidence has another form.
 */
import { type Bytes, equalBytes, toHex } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { WorkerError } from '../errors.js'
import { certificatesOf, MAX_TABLE_BYTES } from './certificate-table.js'
import { readEvidenceFields } from './evidence-fields.js'
import { errnoOf, type KernelFiles, kernelFiles } from './kernel-files.js'
import type { EvidenceSource, MadeEvidence } from './source.js'

const TSM_REPORT_FOLDER = '/sys/kernel/config/tsm/report'

/** Someone interfered or a write was lost: a new entry may work; more than a few failures in a row will not heal. */
const ATTEMPTS = 4
/** A TDX quote takes a second of the driver's own polling. */
const PAUSE_MS = 1000
const MAX_ATTRIBUTE_BYTES = 4096
/** A report has 1,184 bytes, a quote some 5,000 to 8,000; the kernel's own bound is another in every release. */
const MAX_EVIDENCE_BYTES = 1024 * 1024

const PROVIDERS: ReadonlyMap<string, EvidenceSource['kind']> = new Map([
  ['sev_guest', 'snp'],
  ['tdx_guest', 'tdx'],
] as const)

export interface TsmOptions {
  readonly files?: KernelFiles
  readonly folder?: string
  readonly sleep?: (ms: number) => Promise<void>
}

/**
 * @throws WorkerError `worker.no-tee` when configfs-tsm offers no provider; `worker.platform` when it has one of a kind
 *   unknown here or may not be used by this process.
 */
export async function openTsm(options: TsmOptions = {}): Promise<EvidenceSource> {
  const { files = kernelFiles, folder = TSM_REPORT_FOLDER } = options
  const sleep = options.sleep ?? ((ms) => new Promise<void>((resolve) => setTimeout(resolve, ms)))
  const kind = await withEntry(files, folder, async (_, provider) => kindOf(provider))
  return {
    name: 'configfs-tsm',
    kind,
    async make(reportData) {
      for (let attempt = 1; ; attempt++) {
        const made = await withEntry(files, folder, (entry, provider) =>
          attemptReport(files, entry, kindOf(provider), reportData),
        )
        if (made !== 'again') return made
        if (attempt === ATTEMPTS) {
          throw new WorkerError('worker.platform', 'configfs-tsm gave no report for the report data asked for')
        }
        await sleep(PAUSE_MS * attempt)
      }
    },
  }
}

/** One entry under a name nobody else uses, removed whatever came of it. */
async function withEntry<T>(
  files: KernelFiles,
  folder: string,
  use: (entry: string, provider: string) => Promise<T>,
): Promise<T> {
  const entry = `${folder}/subrosa-${toHex(crypto.getRandomValues(new Uint8Array(8)))}`
  let provider: string
  try {
    await files.makeFolder(entry)
    provider = text(await files.read(`${entry}/provider`, MAX_ATTRIBUTE_BYTES))
  } catch (cause) {
    await files.removeFolder(entry).catch(() => undefined)
    throw noProvider(cause)
  }
  try {
    return await use(entry, provider)
  } finally {
    await files.removeFolder(entry).catch(() => undefined)
  }
}

/** `again` when what came back cannot be the report that was asked for, but another entry may give it. */
async function attemptReport(
  files: KernelFiles,
  entry: string,
  kind: EvidenceSource['kind'],
  reportData: Bytes,
): Promise<MadeEvidence | 'again'> {
  try {
    const before = generation(await files.read(`${entry}/generation`, MAX_ATTRIBUTE_BYTES))
    await files.write(`${entry}/inblob`, reportData)
    const evidence = await files.read(`${entry}/outblob`, MAX_EVIDENCE_BYTES)
    const table = kind === 'snp' ? await files.read(`${entry}/auxblob`, MAX_TABLE_BYTES) : undefined
    const after = generation(await files.read(`${entry}/generation`, MAX_ATTRIBUTE_BYTES))
    const fields = readEvidenceFields(kind, evidence)
    if (after !== before + 1 || !equalBytes(fields.reportData, reportData)) return 'again'
    return { evidence, hostData: fields.hostData, certificates: table === undefined ? [] : certificatesOf(table) }
  } catch (cause) {
    if (cause instanceof WorkerError) throw cause
    if (cause instanceof FormatError) throw new WorkerError('worker.platform', cause.message, { cause })
    const errno = errnoOf(cause)
    if (errno === 'EBUSY') return 'again'
    throw new WorkerError('worker.platform', `configfs-tsm made no report: ${meaning(kind, errno)} (${errno})`, {
      cause,
    })
  }
}

/** What a read of `outblob` that fails means (drivers/virt/coco/{sev-guest,tdx-guest}). */
const MEANINGS: Readonly<Record<EvidenceSource['kind'], Readonly<Record<string, string>>>> = {
  snp: {
    EINVAL: 'the driver refuses the privilege level or the request',
    EIO: 'the host’s certificate table does not fit the driver’s buffer',
    ENXIO: 'the firmware refused the request',
    ENOTTY: 'the message key was wiped after an earlier error: this machine can make no more reports; restart it',
    EFBIG: 'the report is larger than this kernel takes',
  },
  tdx: {
    EINVAL: 'the driver refuses the request',
    EIO: 'the host refused the call for a quote',
    ETIMEDOUT: 'the host’s quoting service did not answer in 30 s',
    EFBIG: 'the quote is larger than this kernel takes',
  },
}

function meaning(kind: EvidenceSource['kind'], errno: string): string {
  return MEANINGS[kind][errno] ?? 'the driver failed'
}

function kindOf(provider: string): EvidenceSource['kind'] {
  const kind = PROVIDERS.get(provider)
  if (kind === undefined) throw new WorkerError('worker.platform', 'the configfs-tsm provider is neither SNP nor TDX')
  return kind
}

function noProvider(cause: unknown): WorkerError {
  if (cause instanceof FormatError) return new WorkerError('worker.platform', cause.message, { cause })
  const errno = errnoOf(cause)
  if (errno === 'EACCES' || errno === 'EPERM') {
    return new WorkerError('worker.platform', 'configfs-tsm belongs to root: run the worker with access to it', {
      cause,
    })
  }
  const why =
    errno === 'ENXIO'
      ? 'configfs-tsm has no provider: no confidential VM, or its guest module is not loaded'
      : 'no configfs-tsm: configfs is not mounted, the module tsm is not loaded, or the kernel is older than 6.7'
  return new WorkerError('worker.no-tee', why, { cause })
}

function text(bytes: Bytes): string {
  return new TextDecoder().decode(bytes).trim()
}

function generation(bytes: Bytes): number {
  const value = text(bytes)
  if (!/^\d{1,15}$/.test(value)) throw new WorkerError('worker.platform', 'configfs-tsm: unreadable generation')
  return Number(value)
}

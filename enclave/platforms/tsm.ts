/**
 * Evidence through configfs-tsm (Linux 6.7, Documentation/ABI/testing/configfs-tsm): SEV-SNP and TDX guests, by plain
 * file operations. Each report uses an entry of its own, checks the generation count around the read, and compares the
 * report data inside the evidence with what was asked for; that last comparison is the one that counts.
 *
 * Not here: vTPM evidence of paravisors, SVSM service providers, and the ioctl interfaces.
 */
import { mkdir, open, readFile, rmdir } from 'node:fs/promises'
import type { StapledEndorsement } from '../../verifier/protocol/bundle.js'
import { ByteReader, type Bytes, equalBytes, toBytes, toHex } from '../../verifier/protocol/bytes.js'
import { MEDIA_TYPE_CERTIFICATE, MEDIA_TYPE_CRL } from '../../verifier/protocol/constants.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { WorkerError } from '../errors.js'
import type { Platform } from './platform.js'

export const TSM_REPORT_FOLDER = '/sys/kernel/config/tsm/report'

const REPORT_DATA_BYTES = 64
/** Someone interfered or a write was lost: a new entry may work; more than a few failures in a row will not heal. */
const ATTEMPTS = 3

/** The file operations this needs; configfs accepts a write only as one call between open and close. */
export interface TsmFiles {
  makeFolder(path: string): Promise<void>
  removeFolder(path: string): Promise<void>
  read(path: string): Promise<Bytes>
  write(path: string, bytes: Bytes): Promise<void>
}

interface Layout {
  readonly kind: Platform['kind']
  readonly minBytes: number
  readonly reportDataOffset: number
  readonly hostDataOffset: number
  readonly hostDataBytes: number
}

/** SNP: AMD 56860 table "ATTESTATION_REPORT". */
const SNP: Layout = { kind: 'snp', minBytes: 0x4a0, reportDataOffset: 0x50, hostDataOffset: 0xc0, hostDataBytes: 32 }
/** TDX: quote version 4, body after a 48-byte header; version 5 has six more bytes before the body. */
const TDX_V4: Layout = { kind: 'tdx', minBytes: 636, reportDataOffset: 568, hostDataOffset: 232, hostDataBytes: 48 }
const TDX_V5: Layout = { kind: 'tdx', minBytes: 642, reportDataOffset: 574, hostDataOffset: 238, hostDataBytes: 48 }

interface Evidence {
  readonly layout: Layout
  readonly outblob: Bytes
  readonly auxblob: Bytes | undefined
}

/**
 * The platform this process runs on.
 * @throws WorkerError `worker.no-tee` when configfs-tsm offers no provider; `worker.platform` when it does not deliver.
 */
export async function detectPlatform(
  options: { readonly files?: TsmFiles; readonly folder?: string } = {},
): Promise<Platform> {
  const files = options.files ?? nodeFiles
  const folder = options.folder ?? TSM_REPORT_FOLDER
  const probe = crypto.getRandomValues(new Uint8Array(REPORT_DATA_BYTES))
  const first = await report(files, folder, probe)
  return {
    name: 'configfs-tsm',
    kind: first.layout.kind,
    simulated: false,
    hostData: hostDataOf(first),
    // GPU evidence needs the management library of the GPU's driver, which this release does not talk to.
    attestDevices: async () => ({ gpus: [], switches: [] }),
    attest: async (reportData) => (await report(files, folder, reportData)).outblob,
    // The host's certificate table is a cache nobody has checked; verifiers check every item in it to a pinned root.
    endorsements: async () => (first.auxblob === undefined ? [] : certificateTable(first.auxblob)),
  }
}

async function report(files: TsmFiles, folder: string, reportData: Bytes): Promise<Evidence> {
  if (reportData.length !== REPORT_DATA_BYTES) {
    throw new RangeError(`report data: expected 64 bytes, got ${reportData.length}`)
  }
  for (let attempt = 1; ; attempt++) {
    const evidence = await attemptReport(files, folder, reportData)
    if (evidence !== undefined) return evidence
    if (attempt === ATTEMPTS) {
      throw new WorkerError('worker.platform', 'configfs-tsm gave no report for the report data asked for')
    }
  }
}

/** One entry from mkdir to rmdir; undefined when what came back cannot be the report that was asked for. */
async function attemptReport(files: TsmFiles, folder: string, reportData: Bytes): Promise<Evidence | undefined> {
  const entry = `${folder}/subrosa-${toHex(crypto.getRandomValues(new Uint8Array(8)))}`
  let provider: string
  try {
    await files.makeFolder(entry)
    provider = text(await files.read(`${entry}/provider`))
  } catch (cause) {
    await files.removeFolder(entry).catch(() => undefined)
    throw noTee(cause)
  }
  try {
    const before = generation(await files.read(`${entry}/generation`))
    await files.write(`${entry}/inblob`, reportData)
    const outblob = await files.read(`${entry}/outblob`)
    const auxblob = provider === 'sev_guest' ? await files.read(`${entry}/auxblob`) : undefined
    const after = generation(await files.read(`${entry}/generation`))
    const layout = layoutOf(provider, outblob)
    const inside = outblob.subarray(layout.reportDataOffset, layout.reportDataOffset + REPORT_DATA_BYTES)
    if (after !== before + 1 || !equalBytes(inside, reportData)) return undefined
    return { layout, outblob, auxblob }
  } catch (cause) {
    if (cause instanceof WorkerError) throw cause
    if (codeOf(cause) === 'EBUSY') return undefined
    throw new WorkerError('worker.platform', `configfs-tsm failed to make a report (${codeOf(cause)})`, { cause })
  } finally {
    await files.removeFolder(entry).catch(() => undefined)
  }
}

function layoutOf(provider: string, outblob: Bytes): Layout {
  const version = new ByteReader(outblob, 'evidence').u16le()
  const layout =
    provider === 'sev_guest' ? SNP : provider === 'tdx_guest' ? (version >= 5 ? TDX_V5 : TDX_V4) : undefined
  if (layout === undefined) throw new WorkerError('worker.platform', 'the configfs-tsm provider is neither SNP nor TDX')
  if (outblob.length < layout.minBytes) throw new WorkerError('worker.platform', 'the evidence is too short')
  return layout
}

function hostDataOf({ layout, outblob }: Evidence): Bytes {
  return toBytes(outblob.slice(layout.hostDataOffset, layout.hostDataOffset + layout.hostDataBytes))
}

/** GUIDs of the GHCB certificate table, as stored, and what the entry is. */
const TABLE_TYPES: ReadonlyMap<string, StapledEndorsement['type']> = new Map([
  ['63da758de6644564adc5f4b93be8accd', MEDIA_TYPE_CERTIFICATE],
  ['a8074bc2a25a483eaae639c045a0b8a1', MEDIA_TYPE_CERTIFICATE],
  ['4ab7b379bbac4fe4a02f05aef327c782', MEDIA_TYPE_CERTIFICATE],
  ['c0b406a4a803495297433fb6014cd0ae', MEDIA_TYPE_CERTIFICATE],
  ['92f81bc358114d3d97ffd19f88dc67ea', MEDIA_TYPE_CRL],
] as const)

const MAX_TABLE_ENTRIES = 32

/** The host's certificate table: {GUID 16, u32 offset, u32 length} until a zero entry. @throws FormatError */
export function certificateTable(auxblob: Bytes): readonly StapledEndorsement[] {
  const out: StapledEndorsement[] = []
  if (auxblob.length === 0) return out
  const table = new ByteReader(auxblob, 'certificate table')
  for (let i = 0; i < MAX_TABLE_ENTRIES; i++) {
    const guid = toHex(table.take(16))
    const offset = table.u32le()
    const length = table.u32le()
    if (/^0+$/.test(guid)) return out
    if (offset + length > auxblob.length) throw new FormatError('tsm.table', 'certificate table: entry past the end')
    const type = TABLE_TYPES.get(guid)
    if (type !== undefined) out.push({ type, bytes: toBytes(auxblob.slice(offset, offset + length)) })
  }
  throw new FormatError('tsm.table', `certificate table: more than ${MAX_TABLE_ENTRIES} entries`)
}

function noTee(cause: unknown): WorkerError {
  return new WorkerError(
    'worker.no-tee',
    'this machine offers no SEV-SNP or TDX attestation (configfs-tsm), so no client could trust it: run it in a confidential VM, or try everything out with --simulated',
    { cause },
  )
}

function text(bytes: Bytes): string {
  return new TextDecoder().decode(bytes).trim()
}

function generation(bytes: Bytes): number {
  const value = text(bytes)
  if (!/^\d{1,15}$/.test(value)) throw new WorkerError('worker.platform', 'configfs-tsm: unreadable generation')
  return Number(value)
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown'
}

const nodeFiles: TsmFiles = {
  makeFolder: async (path) => {
    await mkdir(path)
  },
  removeFolder: rmdir,
  read: async (path) => toBytes(await readFile(path)),
  async write(path, bytes) {
    const file = await open(path, 'w')
    try {
      // One write, then close: configfs commits at close.
      await file.write(bytes, 0, bytes.length)
    } finally {
      await file.close()
    }
  },
}

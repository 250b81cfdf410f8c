/**
 * Evidence of an Azure confidential VM. A paravisor owns the hardware interface there and offers a vTPM: the hardware report
 * covers the vTPM's attestation key (HCL report, NV index 0x01400001), and that key signs a quote over the caller's data and
 * the PCRs. The container is the JSON that verifiers read: `{version, hcl_report, tpm_quote, vcek?}`, and with TDX
 * `{td_quote, hcl_report, tpm_quote}`.
 *
 * The launch measurement names Microsoft's paravisor and HOST_DATA is Microsoft's, so no verifier takes this for identified
 * software, and a worker that was launched for a configuration refuses to serve there. What a local service of the cloud adds
 * (certificates, the TDX quote) is as untrusted as everything else.
 */
import { type Bytes, fromBase64Url, fromUtf8, toBase64Url, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { MEDIA_TYPE_CERTIFICATE } from '../../verifier/protocol/constants.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { WorkerError } from '../errors.js'
import { derItems } from './certificate-table.js'
import { SNP_REPORT_BYTES } from './evidence-fields.js'
import type { EvidenceSource, MadeEvidence } from './source.js'
import { quote, readNvIndex, readPcrs, type Tpm } from './tpm.js'

const NV_HCL_REPORT = 0x0140_0001
const ATTESTATION_KEY = 0x8100_0003
const METADATA_SERVICE = 'http://169.254.169.254'
const CERTIFICATES_PATH = '/metadata/THIM/amd/certification'
const TD_QUOTE_PATH = '/acc/tdquote'
const MAX_ANSWER_BYTES = 256 * 1024
const TIMEOUT_MS = 10_000

const HEADER_BYTES = 32
const TD_REPORT_BYTES = 1024
const REPORT_TYPE_AT = HEADER_BYTES + SNP_REPORT_BYTES + 8
const REPORT_TYPES: ReadonlyMap<number, EvidenceSource['kind']> = new Map([
  [2, 'snp'],
  [4, 'tdx'],
] as const)

export interface AzureOptions {
  readonly tpm: Tpm
  readonly fetch: typeof fetch
  /** Default: the link-local metadata service. */
  readonly metadataService?: string
}

/** @throws WorkerError `worker.no-tee` when the TPM holds no HCL report, as everywhere but on Azure. */
export async function openAzure({ tpm, fetch, metadataService }: AzureOptions): Promise<EvidenceSource> {
  const ask = (path: string, init: RequestInit) =>
    askMetadata(fetch, new URL(path, metadataService ?? METADATA_SERVICE), init)
  const first = await hclReport(tpm).catch(async (cause: unknown) => {
    await tpm.close()
    if (cause instanceof WorkerError) throw cause
    throw new WorkerError('worker.no-tee', 'the TPM gives no report of a paravisor', { cause })
  })
  return {
    name: 'azure-vtpm',
    kind: first.kind,
    make: async (reportData) => {
      const { bytes, kind } = await hclReport(tpm)
      const signed = await quote(tpm, ATTESTATION_KEY, reportData)
      const container = {
        hcl_report: toBase64Url(bytes),
        tpm_quote: {
          message: toHex(signed.message),
          signature: toHex(signed.signature),
          pcrs: (await readPcrs(tpm)).map(toHex),
        },
      }
      return kind === 'snp' ? snpEvidence(container, bytes, ask) : tdxEvidence(container, bytes, ask)
    },
  }
}

async function hclReport(tpm: Tpm): Promise<{ readonly bytes: Bytes; readonly kind: EvidenceSource['kind'] }> {
  const bytes = await readNvIndex(tpm, NV_HCL_REPORT)
  if (bytes === undefined) throw new WorkerError('worker.no-tee', 'the TPM holds no report of a paravisor')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const kind =
    bytes.length > REPORT_TYPE_AT + 4 && fromAscii(bytes.subarray(0, 4)) === 'HCLA'
      ? REPORT_TYPES.get(view.getUint32(REPORT_TYPE_AT, true))
      : undefined
  if (kind === undefined) throw new WorkerError('worker.no-tee', 'the TPM holds no SNP or TDX report of a paravisor')
  return { bytes, kind }
}

type Ask = (path: string, init: RequestInit) => Promise<Bytes>

async function snpEvidence(container: object, hcl: Bytes, ask: Ask): Promise<MadeEvidence> {
  const hostData = hcl.slice(HEADER_BYTES + 0xc0, HEADER_BYTES + 0xe0)
  const answer = await ask(CERTIFICATES_PATH, { headers: { metadata: 'true' } }).catch(() => undefined)
  return {
    evidence: utf8(JSON.stringify({ version: 1, ...container })),
    hostData,
    certificates:
      answer === undefined
        ? []
        : certificatesIn(answer).map((bytes) => ({ type: MEDIA_TYPE_CERTIFICATE, bytes }) as const),
  }
}

/** Without a quote a TDREPORT proves nothing to anyone outside the machine. @throws WorkerError `worker.platform` */
async function tdxEvidence(container: object, hcl: Bytes, ask: Ask): Promise<MadeEvidence> {
  const report = hcl.slice(HEADER_BYTES, HEADER_BYTES + TD_REPORT_BYTES)
  const body = JSON.stringify({ report: toBase64Url(report) })
  try {
    const answer = await ask(TD_QUOTE_PATH, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    const td_quote = textMember(answer, 'quote').replace(/=+$/, '')
    const bytes = fromBase64Url(td_quote)
    return {
      evidence: utf8(JSON.stringify({ td_quote: toBase64Url(bytes), ...container })),
      hostData: bytes.slice(232, 280),
      certificates: [],
    }
  } catch (cause) {
    throw new WorkerError('worker.platform', 'the cloud’s local service made no quote of the TD report', { cause })
  }
}

function certificatesIn(answer: Bytes): readonly Bytes[] {
  try {
    return ['vcekCert', 'certificateChain'].flatMap((name) => derItems(utf8(textMember(answer, name))))
  } catch (error) {
    if (error instanceof FormatError) return []
    throw error
  }
}

/** @throws FormatError on anything but a JSON object with that member as text. */
function textMember(answer: Bytes, name: string): string {
  let value: unknown
  try {
    value = JSON.parse(fromUtf8(answer))
  } catch (cause) {
    throw new FormatError('azure.json', 'metadata service: not JSON', { cause })
  }
  const member = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined
  if (typeof member !== 'string') throw new FormatError('azure.json', `metadata service: no ${name}`)
  return member
}

async function askMetadata(fetch_: typeof fetch, url: URL, init: RequestInit): Promise<Bytes> {
  const response = await fetch_(url, { ...init, redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS) })
  if (response.status !== 200 || response.body === null) {
    throw new FormatError('azure.status', `metadata service: ${response.status}`)
  }
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of response.body) {
    size += piece.length
    if (size > MAX_ANSWER_BYTES) throw new FormatError('azure.size', 'metadata service: too long an answer')
    pieces.push(piece)
  }
  return new Uint8Array(Buffer.concat(pieces))
}

function fromAscii(bytes: Uint8Array): string {
  return new TextDecoder('latin1').decode(bytes)
}

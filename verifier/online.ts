/**
 * Appraisal with a network: appraise with what is at hand; if something was missing, or the revocation data at hand are the
 * worker's own choice, ask the hardware makers and appraise again. Never loosens anything: the second appraisal is the
 * same recipe over more endorsements.
 */
import { type VerifyOptions, verifyEvidence } from './appraise.js'
import { detectEvidence } from './detect.js'
import type { EndorsementFetcher } from './endorsement-fetch.js'
import { type EndorsementFile, mergePools, sortEndorsements } from './endorsements.js'
import { UnavailableError } from './errors.js'
import type { NvidiaServices } from './gpu/nvidia-fetch.js'
import { STRICT_GPU_POLICY } from './gpu/policy.js'
import type { GpuInput } from './gpu/verify.js'
import { parseBundle } from './protocol/bundle.js'
import type { Bytes } from './protocol/bytes.js'
import { MEDIA_TYPE_TDX_QUOTE } from './protocol/constants.js'
import { FormatError } from './protocol/errors.js'
import type { AttestationResult } from './result.js'
import { readSnpEvidence } from './snp/evidence.js'
import { fetchSnpEndorsements } from './snp/kds-fetch.js'
import { parseSnpReport } from './snp/report.js'
import { readTdxEvidence } from './tdx/evidence.js'
import type { PcsOptions } from './tdx/pcs.js'
import { fetchTdxEndorsements } from './tdx/pcs-fetch.js'
import { parseTdxQuote } from './tdx/quote.js'

export interface OnlineOptions extends PcsOptions {
  readonly fetcher: EndorsementFetcher
  /** Where to ask about NVIDIA devices. Naming a service also asks it about private and simulated ones. */
  readonly nvidia?: NvidiaServices
}

export interface OnlineResult {
  readonly result: AttestationResult
  /** Why something could not be fetched, for people; the result then rests on what was at hand. */
  readonly notice?: string
}

/** What hardware makers said, as the second appraisal takes it. */
interface Fetched {
  readonly files: readonly EndorsementFile[]
  readonly ocspNonce?: Bytes
  readonly failures: readonly string[]
}

/** As `verifyEvidence`, with hardware makers to ask. Network trouble never throws: what is missing stays missing. */
export function verifyOnline(evidence: Bytes, options: VerifyOptions, online: OnlineOptions): Promise<OnlineResult> {
  return appraiseTwice(
    options,
    online,
    (more) => verifyEvidence(evidence, more),
    async (first, isPrivate) => {
      const found = isPrivate ? [] : [cpuEndorsements(evidence, first, options, online)]
      const devices = devicesIn(evidence)
      if (devices !== undefined && options.policy.gpu !== 'none') {
        const { fetchNvidiaEndorsements } = await import('./gpu/nvidia-fetch.js')
        found.push(fetchNvidiaEndorsements(gpuInput(devices, options), online.fetcher, online.nvidia))
      }
      const all = await Promise.all(found)
      const ocspNonce = all.find((one) => one.ocspNonce !== undefined)?.ocspNonce
      return {
        files: all.flatMap(({ files }) => files),
        failures: all.flatMap(({ failures }) => failures),
        ...(ocspNonce === undefined ? {} : { ocspNonce }),
      }
    },
  )
}

/** `first` is what came of what was at hand. */
type Ask = (first: AttestationResult, isPrivate: boolean) => Promise<Fetched>

/** The frame of every appraisal with a network, whatever is appraised. */
export async function appraiseTwice<O extends Pick<VerifyOptions, 'endorsements' | 'ocspNonce'>>(
  options: O,
  online: OnlineOptions,
  appraise: (options: O) => Promise<AttestationResult>,
  ask: Ask,
): Promise<OnlineResult> {
  const first = await appraise(options)
  // Nobody but its owner vouches for private hardware, and there is nothing to ask about what is no evidence.
  const isPrivate = first.notProven.some((item) => item.id === 'hardware.private-root')
  if (first.verdict === 'malformed' || (isPrivate && online.nvidia === undefined)) return { result: first }
  const { files, ocspNonce, failures } = await ask(first, isPrivate)
  const notice = failures.length === 0 ? {} : { notice: `could not ask the hardware maker: ${failures.join('; ')}` }
  if (files.length === 0) return { result: first, ...notice }
  const fetched = sortEndorsements(files)
  const endorsements = options.endorsements === undefined ? fetched : mergePools(options.endorsements, fetched)
  const nonce = ocspNonce === undefined ? {} : { ocspNonce }
  return { result: await appraise({ ...options, endorsements, ...nonce }), ...notice }
}

const NOTHING: Fetched = { files: [], failures: [] }

async function cpuEndorsements(
  evidence: Bytes,
  first: AttestationResult,
  options: VerifyOptions,
  online: OnlineOptions,
): Promise<Fetched> {
  try {
    return { files: await fetchCpuEndorsements(evidence, first, options, online), failures: [] }
  } catch (error) {
    if (error instanceof FormatError) return NOTHING
    if (error instanceof UnavailableError) return { files: [], failures: [error.message] }
    throw error
  }
}

async function fetchCpuEndorsements(
  evidence: Bytes,
  first: AttestationResult,
  { policy }: VerifyOptions,
  online: OnlineOptions,
): Promise<EndorsementFile[]> {
  const { kind, bytes } = cpuEvidenceIn(evidence)
  if (kind === 'gpu') return []
  const missing = (id: string) =>
    first.checks.some((check) => check.id === id && check.status === 'skip' && !first.waived.includes(id))
  // A list that came with the evidence was chosen by whoever sent it; the newest is asked for all the same.
  const lists = policy.revocation !== 'off'
  if (kind === 'tdx') {
    const quote = parseTdxQuote(readTdxEvidence(bytes).quote)
    return fetchTdxEndorsements(quote, { collateral: true, crls: lists }, online.fetcher, online)
  }
  const needs = {
    vek: missing('snp.vek.present'),
    chain: missing('snp.chain.complete') || missing('snp.vek.present'),
    crl: lists,
  }
  return fetchSnpEndorsements(parseSnpReport(readSnpEvidence(bytes).report), needs, online.fetcher)
}

function cpuEvidenceIn(evidence: Bytes): { readonly kind: 'snp' | 'tdx' | 'gpu'; readonly bytes: Bytes } {
  const { kind, bytes } = detectEvidence(evidence)
  if (kind !== 'bundle') return { kind, bytes }
  const { cpu } = parseBundle(bytes)
  return { kind: cpu.type === MEDIA_TYPE_TDX_QUOTE ? 'tdx' : 'snp', bytes: cpu.evidence }
}

type Devices = Pick<GpuInput, 'devices' | 'switches' | 'form'> & { readonly stapled: readonly EndorsementFile[] }

/** NVIDIA devices in a bundle, or raw evidence of one. Undefined when there are none. */
function devicesIn(evidence: Bytes): Devices | undefined {
  const { kind, bytes } = detectEvidence(evidence)
  if (kind === 'gpu') return { devices: [bytes], stapled: [] }
  if (kind !== 'bundle') return undefined
  try {
    const { gpus, switches, endorsements } = parseBundle(bytes)
    if (gpus.length + switches.length === 0) return undefined
    const stapled = endorsements.map((item, i) => ({ name: `endorsement.${i}`, bytes: item.bytes }))
    return { devices: gpus, switches, form: 'container', stapled }
  } catch (error) {
    if (error instanceof FormatError) return undefined
    throw error
  }
}

function gpuInput({ stapled, ...devices }: Devices, options: VerifyOptions): GpuInput {
  const { policy, now, endorsements = sortEndorsements([]) } = options
  return {
    ...devices,
    endorsements: mergePools(endorsements, sortEndorsements(stapled)),
    anchors: policy.trustAnchors.filter((anchor) => anchor.kind === 'nvidia'),
    now,
    revocation: policy.revocation,
    policy: policy.gpu === 'none' ? STRICT_GPU_POLICY : policy.gpu,
  }
}

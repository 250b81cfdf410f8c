/**
 * From a target on the command line to a verdict: ask the worker or read the file, then appraise, with a network unless
 * told otherwise. Shared by every subcommand that starts from a worker or a bundle. Node only.
 */
import { type VerifyOptions, verifyEvidence } from './appraise.js'
import { detectEvidence } from './detect.js'
import { UsageError } from './errors.js'
import { fetchBundle, parseWorkerUrl } from './fetch-evidence.js'
import { loadEvidence } from './files.js'
import type { ResolvedVerification } from './options.js'
import type { Output } from './print.js'
import type { Bytes } from './protocol/bytes.js'
import type { AttestationResult } from './result.js'

export interface Verified {
  /** As it came: untrusted bytes that the result is about. */
  readonly evidence: Bytes
  readonly result: AttestationResult
}

export type Appraise = (evidence: Bytes, options: VerifyOptions) => Promise<AttestationResult>

/** @throws UsageError on a target or an option that does not fit it; UnavailableError when a worker does not answer. */
export function verifyTarget(
  target: string,
  resolved: ResolvedVerification,
  appraise: Appraise,
  signal?: AbortSignal,
): Promise<Verified> {
  return isUrl(target) ? verifyWorker(target, resolved, appraise, signal) : verifyFile(target, resolved, appraise)
}

export function isUrl(target: string): boolean {
  return /^https?:/i.test(target)
}

/** With a network, hardware makers are asked for what is missing and for the newest revocation lists. */
export function appraiserFor(flags: { readonly offline?: boolean }, output: Output): Appraise {
  if (flags.offline === true) return verifyEvidence
  return async (evidence, options) => {
    const [{ createEndorsementFetcher }, { createEndorsementStore, defaultStoreFolder }, { verifyOnline }] =
      await Promise.all([import('./endorsement-fetch.js'), import('./endorsement-store.js'), import('./online.js')])
    const isTerminal = (output.stderr as { isTTY?: boolean }).isTTY === true
    const fetcher = createEndorsementFetcher({
      fetch,
      sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      store: createEndorsementStore(defaultStoreFolder(process.env), () => new Date()),
      onRequest: (url) => {
        if (isTerminal) output.stderr.write(`asking ${url.host} for ${url.pathname.split('/').at(-1)}…\n`)
      },
    })
    const { result, notice } = await verifyOnline(evidence, options, { fetcher, ...pccs() })
    if (notice !== undefined) output.stderr.write(`verify-attestation: ${notice}\n`)
    return result
  }
}

/** `SUBROSA_PCCS`: origin of a cache of Intel's collateral to ask instead of Intel. */
function pccs(): { origin?: string } {
  const origin = process.env['SUBROSA_PCCS']
  return origin === undefined || origin === '' ? {} : { origin: parseWorkerUrl(origin).origin }
}

async function verifyWorker(
  target: string,
  resolved: ResolvedVerification,
  appraise: Appraise,
  signal?: AbortSignal,
): Promise<Verified> {
  if (resolved.reportData !== undefined) {
    throw new UsageError('option.report-data', '--report-data is for raw reports; a worker’s REPORT_DATA is its claims')
  }
  const url = parseWorkerUrl(target)
  const nonce = resolved.nonce ?? crypto.getRandomValues(new Uint8Array(32))
  if (nonce.length !== 32) throw new UsageError('option.nonce', '--nonce: a worker takes exactly 32 bytes')
  const sentAt = new Date()
  const evidence = await fetchBundle(url, nonce, signal === undefined ? { fetch } : { fetch, signal })
  const { policy, endorsements, at } = resolved
  // A nonce from the command line may have been used before, and --at is not the clock: neither proves that this is live.
  const live = resolved.nonce === undefined && at === undefined
  const asked = live ? { live: { nonce, sentAt } } : { nonce }
  const options = { policy, endorsements, now: at ?? new Date(), fromWorker: true, ...asked }
  return { evidence, result: await appraise(evidence, options) }
}

async function verifyFile(target: string, resolved: ResolvedVerification, appraise: Appraise): Promise<Verified> {
  const evidence = await loadEvidence(target)
  const { policy, endorsements, at, nonce, reportData } = resolved
  const isBundle = detectEvidence(evidence).kind === 'bundle'
  if (isBundle && reportData !== undefined) {
    throw new UsageError('option.report-data', '--report-data is for raw reports; a bundle’s REPORT_DATA is its claims')
  }
  const options = {
    policy,
    endorsements,
    now: at ?? new Date(),
    ...(nonce === undefined ? {} : { nonce }),
    ...(reportData === undefined ? {} : { reportData }),
  }
  return { evidence, result: await appraise(evidence, options) }
}

/**
 * From a target on the command line to a verdict: ask the worker or read the file, then appraise, with a network unless
 * told otherwise. Shared by every subcommand that starts from a worker or a bundle. Node only.
 */
import { type VerifyOptions, verifyEvidence } from './appraise.js'
import { detectEvidence } from './detect.js'
import { UsageError } from './errors.js'
import { fetchBundle, parseWorkerUrl } from './fetch-evidence.js'
import { loadEvidence } from './files.js'
import type { OnlineOptions, OnlineResult } from './online.js'
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

/** With a network, hardware makers are asked for what is missing and for the newest revocation data. */
export function appraiserFor(flags: { readonly offline?: boolean }, output: Output): Appraise {
  if (flags.offline === true) return verifyEvidence
  return async (evidence, options) => {
    const [online, { verifyOnline }] = await Promise.all([onlineFor(output), import('./online.js')])
    return noticed(await verifyOnline(evidence, options, online), output)
  }
}

/** The result, after telling the person what could not be had. */
export function noticed({ result, notice }: OnlineResult, output: Output): AttestationResult {
  if (notice !== undefined) output.stderr.write(`verify-attestation: ${notice}\n`)
  return result
}

/** Hardware makers' services, with a store in front, as the environment names them. */
export async function onlineFor(output: Output): Promise<OnlineOptions> {
  const [{ createEndorsementFetcher }, { createEndorsementStore, defaultStoreFolder }] = await Promise.all([
    import('./endorsement-fetch.js'),
    import('./endorsement-store.js'),
  ])
  const isTerminal = (output.stderr as { isTTY?: boolean }).isTTY === true
  const fetcher = createEndorsementFetcher({
    fetch,
    sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    store: createEndorsementStore(defaultStoreFolder(process.env), () => new Date()),
    onRequest: ({ host, pathname }) => {
      if (isTerminal) output.stderr.write(`asking ${host} for ${pathname.split('/').at(-1) || 'an answer'}…\n`)
    },
  })
  return { fetcher, ...services(process.env) }
}

/**
 * Services to ask instead of the makers' own: `SUBROSA_PCCS`, a cache of Intel's collateral; `SUBROSA_NVIDIA_RIM` and
 * `SUBROSA_NVIDIA_OCSP`, a cache of manifests and a relay to the responder. They can withhold and replay, and forge nothing.
 */
function services(environment: Readonly<Record<string, string | undefined>>): Omit<OnlineOptions, 'fetcher'> {
  const address = (name: string) => {
    const value = environment[name]
    return value === undefined || value === '' ? undefined : parseWorkerUrl(value)
  }
  const [pccs, rim, ocsp] = [address('SUBROSA_PCCS'), address('SUBROSA_NVIDIA_RIM'), address('SUBROSA_NVIDIA_OCSP')]
  const nvidia = {
    ...(rim === undefined ? {} : { rim: rim.origin }),
    ...(ocsp === undefined ? {} : { ocsp: ocsp.href }),
  }
  return {
    ...(pccs === undefined ? {} : { origin: pccs.origin }),
    ...(Object.keys(nvidia).length === 0 ? {} : { nvidia }),
  }
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
  const { policy, endorsements, at, sigstore } = resolved
  const judge = sigstore === undefined ? {} : { sigstore }
  // A nonce from the command line may have been used before, and --at is not the clock: neither proves that this is live.
  const live = resolved.nonce === undefined && at === undefined
  const asked = live ? { live: { nonce, sentAt } } : { nonce }
  const options = { policy, endorsements, now: at ?? new Date(), fromWorker: true, ...asked, ...judge }
  return { evidence, result: await appraise(evidence, options) }
}

async function verifyFile(target: string, resolved: ResolvedVerification, appraise: Appraise): Promise<Verified> {
  const evidence = await loadEvidence(target)
  const { policy, endorsements, at, nonce, reportData, sigstore } = resolved
  if (resolved.modelNamed && detectEvidence(evidence).kind !== 'bundle') {
    throw new UsageError('option.model', '--model-digest: raw evidence names no model; only a worker or a bundle does')
  }
  const options = {
    policy,
    endorsements,
    now: at ?? new Date(),
    ...(nonce === undefined ? {} : { nonce }),
    ...(reportData === undefined ? {} : { reportData }),
    ...(sigstore === undefined ? {} : { sigstore }),
  }
  return { evidence, result: await appraise(evidence, options) }
}

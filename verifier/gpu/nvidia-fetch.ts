/**
 * Fetching what endorses NVIDIA evidence: manifests that are not at hand, and the current word of NVIDIA's OCSP responders
 * on every certificate but the devices' own. Nothing fetched is trusted by being fetched.
 *
 * A manifest is found by what the device's signed data say; what certificates to ask about follows from the chains. Both
 * are read from evidence nobody has verified yet, which is harmless: a wrong question gets answers that fit nothing.
 */
import { Transcript } from '../checks.js'
import type { EndorsementAddress, EndorsementFetcher } from '../endorsement-fetch.js'
import { type EndorsementFile, mergePools, sortEndorsements } from '../endorsements.js'
import { UnavailableError } from '../errors.js'
import type { Bytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { parseOcspResponse } from './ocsp.js'
import { encodeOcspRequest, OCSP_NONCE_BYTES } from './ocsp-request.js'
import { distinctSubjects, type Subject } from './ocsp-responder.js'
import { parseRimAnswer } from './rim-service.js'
import { type GpuInput, planFor, verifyGpus } from './verify.js'

export const NVIDIA_RIM_SERVICE = 'https://rim.attestation.nvidia.com'
export const NVIDIA_OCSP = 'https://ocsp.ndis.nvidia.com'

export interface NvidiaServices {
  /** Origin of the manifest service, or of a cache of it. */
  readonly rim?: string
  /** Address of the OCSP responder, or of a relay to it. */
  readonly ocsp?: string
}

export interface FetchedEndorsements {
  readonly files: readonly EndorsementFile[]
  /** What every OCSP request carried; undefined when no response came. */
  readonly ocspNonce?: Bytes
  /** Why something is not among the files, in words. */
  readonly failures: readonly string[]
}

const DAY_MS = 86_400_000
const MAX_RIM_ANSWER_BYTES = 4 * 1024 * 1024
const MAX_OCSP_BYTES = 64 * 1024
/** More certificates than a board of eight GPUs and four switches has. */
const MAX_QUESTIONS = 64

/** Asks for what the devices still lack. Never throws for the network's sake: what cannot be had is a failure in words. */
export async function fetchNvidiaEndorsements(
  input: GpuInput,
  fetcher: EndorsementFetcher,
  services: NvidiaServices = {},
): Promise<FetchedEndorsements> {
  const seen = await look(input)
  const rims = await gather(seen.rimIds.map((id) => fetchRim(id, fetcher, services)))
  const pool = mergePools(input.endorsements, sortEndorsements(rims.files))
  // A manifest that has just come has signers to ask about.
  const { subjects } = rims.files.length === 0 ? seen : await look({ ...input, endorsements: pool })
  const answers = input.revocation === 'off' ? NOTHING : await fetchOcsp(subjects, fetcher, services)
  return {
    ...answers,
    files: [...rims.files, ...answers.files],
    failures: [...rims.failures, ...answers.failures],
  }
}

/** Asks about these certificates, with one fresh nonce for all. */
export async function fetchOcsp(
  subjects: readonly Subject[],
  fetcher: EndorsementFetcher,
  { ocsp = NVIDIA_OCSP }: NvidiaServices,
): Promise<FetchedEndorsements> {
  const distinct = distinctSubjects(subjects)
  const nonce = globalThis.crypto.getRandomValues(new Uint8Array(OCSP_NONCE_BYTES))
  const found = await gather(distinct.slice(0, MAX_QUESTIONS).map((subject) => ask(subject, nonce, ocsp, fetcher)))
  return found.files.length === 0 ? found : { ...found, ocspNonce: nonce }
}

const NOTHING: FetchedEndorsements = { files: [], failures: [] }

/** What is needed, found by a first pass whose verdict is nobody's. */
async function look(input: GpuInput) {
  const t = new Transcript(planFor(input))
  const found = await verifyGpus(t, { ...input, revocation: 'off' })
  return found?.wanted ?? { rimIds: [], subjects: [] }
}

async function fetchRim(id: string, fetcher: EndorsementFetcher, { rim }: NvidiaServices): Promise<EndorsementFile> {
  const url = new URL(`/v1/rim/${encodeURIComponent(id)}`, rim ?? NVIDIA_RIM_SERVICE)
  const address: EndorsementAddress = {
    url,
    accept: 'application/json',
    maxBytes: MAX_RIM_ANSWER_BYTES,
    maxAgeMs: DAY_MS,
    isValid: readable(parseRimAnswer),
  }
  return { name: url.href, bytes: parseRimAnswer(await fetcher.get(address)) }
}

async function ask(
  subject: Subject,
  nonce: Bytes,
  responder: string,
  fetcher: EndorsementFetcher,
): Promise<EndorsementFile> {
  const request = await encodeOcspRequest(subject, nonce)
  const bytes = await fetcher.get({
    url: new URL(responder),
    accept: 'application/ocsp-response',
    maxBytes: MAX_OCSP_BYTES,
    maxAgeMs: 0,
    isValid: readable(parseOcspResponse),
    post: { type: 'application/ocsp-request', bytes: request },
  })
  return { name: `OCSP response about ${subject.certificate.subjectCommonName ?? 'a certificate'}`, bytes }
}

function readable(parse: (bytes: Bytes) => unknown): (bytes: Bytes) => boolean {
  return (bytes) => {
    try {
      parse(bytes)
      return true
    } catch (error) {
      if (error instanceof FormatError) return false
      throw error
    }
  }
}

/** All that came, and why the rest did not, each reason once. */
async function gather(asked: readonly Promise<EndorsementFile>[]): Promise<FetchedEndorsements> {
  const settled = await Promise.allSettled(asked)
  const failures = settled.flatMap((outcome) => {
    if (outcome.status === 'fulfilled') return []
    if (outcome.reason instanceof UnavailableError) return [outcome.reason.message]
    throw outcome.reason
  })
  const files = settled.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
  return { files, failures: [...new Set(failures)] }
}

/**
 * Revocation of NVIDIA's certificates by OCSP (RFC 6960 §3.2 and §4.2.2.2), from responses that came with the evidence or
 * out of a file. The leaf of a device is made by the device and no responder knows it; everything between leaf and root is
 * asked for, and for manifests the signer too.
 *
 * `good` proves that a certificate is not revoked, not that it exists: device authorities say it of any serial number.
 */
import { type Finding, fail, pass, type Transcript, unavailable, waived } from '../checks.js'
import type { EndorsementPool } from '../endorsements.js'
import { type Bytes, equalBytes, toHex } from '../protocol/bytes.js'
import { CLOCK_SKEW_S } from '../protocol/constants.js'
import { FormatError } from '../protocol/errors.js'
import type { EndorsementUse } from '../result.js'
import { judgeEach, type Named } from './each.js'
import { CERTIFICATE_HOLD, type OcspAnswer, type OcspResponse, parseOcspResponse } from './ocsp.js'
import { type Answered, indexAnswers } from './ocsp-index.js'
import { distinctSubjects, type Signer, type Subject, signerOf } from './ocsp-responder.js'
import type { GpuPolicy } from './policy.js'

export type Revocation = 'required' | 'available' | 'off'

export interface OcspInput {
  readonly subjects: readonly Subject[]
  readonly pool: EndorsementPool
  readonly revocation: Revocation
  readonly policy: GpuPolicy['ocsp']
  readonly now: Date
  /** The nonce of requests the caller made itself: only a response that echoes it is known to be no recording. */
  readonly nonce?: Bytes
}

/** An answer about one certificate, with what is known of the response around it. */
interface Candidate extends Answered, Signer {}

interface Judged {
  readonly subject: Subject
  /** The one to hold to every rule. */
  readonly best: Candidate | undefined
  /** All that are authorised, signed and current. */
  readonly sound: readonly Candidate[]
  /** Those, and the ones that are over: that a certificate is revoked does not wear off. */
  readonly past: readonly Candidate[]
  /** More answers than are looked at: which ones are not, somebody could have chosen. */
  readonly crowded: boolean
}

/** Carries out `gpu.ocsp.*` and returns the responses the outcome rests on. */
export async function checkOcsp(t: Transcript, input: OcspInput): Promise<readonly OcspResponse[]> {
  const { policy, now } = input
  const judged: Named<Judged>[] = []
  let flooded: string | undefined
  if (input.revocation !== 'off') {
    const documents = input.pool.documents.filter(({ kind }) => kind === 'ocsp')
    if (documents.length > MAX_RESPONSES) flooded = `more than ${MAX_RESPONSES} responses`
    const answersAbout = indexAnswers(readResponses(documents.slice(0, MAX_RESPONSES)))
    let left = MAX_JUDGED
    for (const subject of distinctSubjects(input.subjects)) {
      const about = await answersAbout(subject)
      left -= Math.min(about.length, MAX_CANDIDATES)
      if (left < 0) {
        flooded ??= `more than ${MAX_JUDGED} answers about these certificates`
        break
      }
      judged.push({ name: nameOf(subject), item: await judge(subject, about, now) })
    }
  }
  const missing = judged.filter(({ item }) => item.best === undefined)
  const stale = judged.filter(({ item }) => item.best !== undefined && item.sound.length === 0 && isStale(item, now))
  const optional = input.revocation === 'available'
  // What is missing is the first check's business; what is stale is tolerated only under `available`.
  const gaps = new Set(optional ? [...missing, ...stale] : missing)

  const each = (find: (best: Candidate, all: Judged) => Finding): (() => Promise<Finding>) => {
    return async () => {
      if (input.revocation === 'off') return waived('revocation: off')
      const held = judged.filter((one) => !gaps.has(one))
      const finding = await judgeEach(held, (item) => (item.best === undefined ? pass() : find(item.best, item)))
      if (finding.status !== 'pass' || !optional || missing.length + stale.length === 0) return finding
      return waived(`revocation: available; ${describeGaps(missing, stale)}`)
    }
  }
  await t.checkAsync('gpu.ocsp.present', async () => {
    if (input.revocation === 'off') return waived('revocation: off')
    if (flooded !== undefined) return fail(flooded)
    const crowded = judged.filter(({ item }) => item.crowded)
    if (crowded.length > 0) return fail(`more than ${MAX_CANDIDATES} answers about ${namesOf(crowded)}`)
    if (missing.length === 0) return pass()
    const gap = `no OCSP response about ${namesOf(missing)}`
    return optional ? waived(`revocation: available; ${gap}`) : unavailable(gap)
  })
  await t.checkAsync(
    'gpu.ocsp.responder',
    each(({ stranger }) => (stranger === undefined ? pass() : fail(stranger))),
  )
  await t.checkAsync(
    'gpu.ocsp.signature',
    each(({ signed }) => (signed ? pass() : fail('the response is not signed by its responder'))),
  )
  await t.checkAsync(
    'gpu.ocsp.window',
    each(({ answer }) => judgeWindow(answer, now)),
  )
  await t.checkAsync(
    'gpu.ocsp.age',
    each(({ answer }) => judgeAge(answer, policy.maxAgeSeconds, now)),
  )
  await t.checkAsync(
    'gpu.ocsp.nonce',
    each((best, { sound }) => judgeNonce(best, sound, input)),
  )
  await t.checkAsync(
    'gpu.ocsp.known',
    each((best, { sound }) => judgeKnown(best, sound, policy)),
  )
  await t.checkAsync(
    'gpu.ocsp.hold',
    each((_, { sound, past }) => judgeHold(sound.length > 0 ? sound : past, policy, now)),
  )
  await t.checkAsync(
    'gpu.ocsp.revoked',
    each((_, { past }) => judgeRevoked(past)),
  )
  const telling = judged.flatMap(({ item: { sound, past } }) => [...sound, ...past.filter(isRevocation)])
  return [...new Set(telling.map(({ response }) => response))]
}

/** A responder that has just answered may be ahead of the caller's clock by as much as any clock here may be. */
function judgeWindow({ thisUpdate, nextUpdate }: OcspAnswer, now: Date): Finding {
  const detail = { expected: now.toISOString(), actual: `${thisUpdate.toISOString()} to ${nextUpdate?.toISOString()}` }
  if (nextUpdate === undefined) return fail('the response does not say how long it holds', detail)
  if (isAhead({ thisUpdate }, now)) return fail('the response is not in force yet', detail)
  return now <= nextUpdate ? pass(undefined, detail) : fail('the response has expired', detail)
}

function isAhead({ thisUpdate }: Pick<OcspAnswer, 'thisUpdate'>, now: Date): boolean {
  return thisUpdate.getTime() - now.getTime() > CLOCK_SKEW_S * 1000
}

function isRevocation({ answer }: Candidate): boolean {
  return answer.status.kind === 'revoked'
}

function ageOf({ thisUpdate }: OcspAnswer, now: Date): number {
  return Math.max(0, Math.floor((now.getTime() - thisUpdate.getTime()) / 1000))
}

function judgeAge(answer: OcspAnswer, maxAgeSeconds: number, now: Date): Finding {
  const age = ageOf(answer, now)
  const detail = { expected: `at most ${maxAgeSeconds} s`, actual: `${age} s` }
  return age <= maxAgeSeconds ? pass(undefined, detail) : fail('the response is too old', detail)
}

/**
 * A response to one's own request is new; a stapled one is as old as it says, which the window and the policy's maximum
 * age answer. So a nonce decides only where the policy asks for it.
 */
function judgeNonce(best: Candidate, sound: readonly Candidate[], { nonce, now, policy }: OcspInput): Finding {
  const detail = { actual: `${ageOf(best.answer, now)} s old` }
  if (policy.nonce === 'optional' || sound.some(({ response }) => answers(response, nonce)))
    return pass(undefined, detail)
  const other = best.response.nonce
  if (nonce === undefined || other === undefined) return unavailable('no response answers a request of your own')
  return fail('the response answers another request', { expected: toHex(nonce), actual: toHex(other) })
}

/** Whether the response echoes the nonce of the caller's own request. */
export function answers(response: OcspResponse, nonce: Bytes | undefined): boolean {
  return nonce !== undefined && response.nonce !== undefined && equalBytes(response.nonce, nonce)
}

function judgeKnown(best: Candidate, sound: readonly Candidate[], policy: GpuPolicy['ocsp']): Finding {
  const settled = sound.some(({ answer }) => answer.status.kind !== 'unknown')
  if (settled || best.answer.status.kind !== 'unknown') return pass()
  if (policy.unknown === 'tolerated')
    return waived('ocsp.unknown: tolerated; the authority does not know a certificate')
  return fail('the authority does not know this certificate')
}

function judgeHold(sound: readonly Candidate[], policy: GpuPolicy['ocsp'], now: Date): Finding {
  const [held] = sound.flatMap(({ answer: { status } }) =>
    status.kind === 'revoked' && status.reason === CERTIFICATE_HOLD ? [status] : [],
  )
  if (held === undefined) return pass()
  const since = held.at.toISOString()
  if (policy.hold === 'refused') return fail('the certificate is on hold', { actual: `since ${since}` })
  const until = new Date(held.at.getTime() + policy.hold.forSeconds * 1000)
  if (now <= until) return waived(`ocsp.hold: tolerated until ${until.toISOString()}; on hold since ${since}`)
  return fail('the certificate has been on hold for longer than your policy tolerates', { actual: `since ${since}` })
}

function judgeRevoked(past: readonly Candidate[]): Finding {
  for (const { answer } of past) {
    const { status } = answer
    if (status.kind === 'revoked' && status.reason !== CERTIFICATE_HOLD) {
      return fail('the certificate is revoked', { actual: `since ${status.at.toISOString()}` })
    }
  }
  return pass()
}

/** As old as the oldest of its answers, and over when the first of them is. */
export function ocspUse({ answers }: OcspResponse): EndorsementUse {
  const issued = answers.map(({ thisUpdate }) => thisUpdate.getTime())
  const ends = answers.map(({ nextUpdate }) => nextUpdate?.getTime())
  return {
    kind: 'ocsp',
    issuedAt: new Date(Math.min(...issued)).toISOString(),
    nextUpdate: ends.includes(undefined) ? null : new Date(Math.min(...ends.map(Number))).toISOString(),
  }
}

/** When a response stops being good enough for this policy, in milliseconds since 1970. */
export function ocspExpiry({ answers }: OcspResponse, policy: GpuPolicy['ocsp']): number {
  return Math.min(
    ...answers.flatMap(({ thisUpdate, nextUpdate }) => [
      nextUpdate?.getTime() ?? 0,
      thisUpdate.getTime() + policy.maxAgeSeconds * 1000,
    ]),
  )
}

/** More responses than any honest bundle carries; bounds what hostile pools can cost. */
const MAX_RESPONSES = 256
/** About one certificate. */
const MAX_CANDIDATES = 16
/** About all of them together: each may take signatures under a key of its own. */
const MAX_JUDGED = 512

function readResponses(documents: EndorsementPool['documents']): readonly OcspResponse[] {
  return documents.flatMap(({ bytes }) => {
    try {
      return [parseOcspResponse(bytes)]
    } catch (error) {
      if (error instanceof FormatError) return []
      throw error
    }
  })
}

async function judge(subject: Subject, about: readonly Answered[], now: Date): Promise<Judged> {
  const crowded = about.length > MAX_CANDIDATES
  const candidates: Candidate[] = []
  for (const answered of about.slice(0, MAX_CANDIDATES)) {
    candidates.push({ ...answered, ...(await signerOf(answered.response, subject.issuer, now)) })
  }
  candidates.sort((a, b) => b.answer.thisUpdate.getTime() - a.answer.thisUpdate.getTime())
  const honest = candidates.filter(({ stranger, signed }) => stranger === undefined && signed)
  const sound = honest.filter(({ answer }) => judgeWindow(answer, now).status === 'pass')
  // The worst of what is sound outranks anything newer and kinder; without one, the best of the rest shows what is wrong.
  const worst = sound.find(isRevocation)
  const past = honest.filter(({ answer }) => !isAhead(answer, now))
  return { subject, best: worst ?? sound[0] ?? honest[0] ?? candidates[0], sound, past, crowded }
}

function isStale({ best }: Judged, now: Date): boolean {
  return best !== undefined && judgeWindow(best.answer, now).status !== 'pass'
}

function nameOf({ certificate }: Subject): string {
  return `${certificate.subjectCommonName ?? 'certificate'} (serial ${certificate.serialHex})`
}

function namesOf(judged: readonly Named<Judged>[]): string {
  const [first, second, ...rest] = judged.map(({ name }) => name)
  return [first, second, rest.length > 0 ? `${rest.length} more` : undefined]
    .filter((part) => part !== undefined)
    .join(', ')
}

function describeGaps(missing: readonly Named<Judged>[], stale: readonly Named<Judged>[]): string {
  const parts = [
    missing.length > 0 ? `no OCSP response about ${namesOf(missing)}` : '',
    stale.length > 0 ? `out of window: ${namesOf(stale)}` : '',
  ]
  return parts.filter((part) => part !== '').join('; ')
}

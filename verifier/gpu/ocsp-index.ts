/**
 * OCSP answers by what they are about (RFC 6960 §4.1.1 CertID). Answers, serial numbers and issuers all come from whoever
 * hands over the evidence: an index costs a digest or two for each issuer, where holding every answer against every
 * certificate would cost some for each pair.
 */
import { toHex } from '../protocol/bytes.js'
import type { CertId, OcspAnswer, OcspResponse } from './ocsp.js'
import { type CertIdHashes, certIdHashes, type Subject } from './ocsp-responder.js'

/** An answer, and the response that gives it. */
export interface Answered {
  readonly response: OcspResponse
  readonly answer: OcspAnswer
}

/** Every answer about a certificate. Who gave them is for others to judge. */
export type AnswersAbout = (subject: Subject) => Promise<readonly Answered[]>

/** Hashes only look the issuer up: who signs is what counts, so SHA-1 does no harm here. */
const HASHES: ReadonlyMap<string, string> = new Map([
  ['1.3.14.3.2.26', 'SHA-1'],
  ['2.16.840.1.101.3.4.2.1', 'SHA-256'],
  ['2.16.840.1.101.3.4.2.2', 'SHA-384'],
])

/** Answers under another hash are about nothing. */
export function indexAnswers(responses: readonly OcspResponse[]): AnswersAbout {
  const answers = new Map<string, Answered[]>()
  const used = new Map<string, string>()
  for (const response of responses) {
    for (const answer of response.answers) {
      const { hash } = answer.certId
      const name = HASHES.get(hash)
      if (name === undefined) continue
      used.set(hash, name)
      const key = keyOf(answer.certId)
      const known = answers.get(key)
      if (known === undefined) answers.set(key, [{ response, answer }])
      else known.push({ response, answer })
    }
  }
  const hashed = new Map<string, Promise<CertIdHashes>>()
  const hashesOf = ({ issuer }: Subject, name: string): Promise<CertIdHashes> => {
    const id = `${name} ${issuer.sha256Hex}`
    const known = hashed.get(id) ?? certIdHashes(issuer, name)
    hashed.set(id, known)
    return known
  }
  return async (subject) => {
    const { serialHex } = subject.certificate
    const found = await Promise.all(
      [...used].map(async ([hash, name]) => {
        const id = { hash, ...(await hashesOf(subject, name)), serialHex }
        return answers.get(keyOf(id)) ?? []
      }),
    )
    return found.flat()
  }
}

function keyOf({ hash, issuerNameHash, issuerKeyHash, serialHex }: CertId): string {
  return [hash, toHex(issuerNameHash), toHex(issuerKeyHash), serialHex].join(' ')
}

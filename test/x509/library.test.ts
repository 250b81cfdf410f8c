/**
 * The reader of certificates and CRLs against a library that shares no code with it: both read alike what real and
 * simulated authorities issued, and whatever is accepted of changed ones the library accepts too and reads alike.
 */
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { type Certificate, parseCertificate, parseRevocationList } from '../../verifier/x509.js'
import { withoutVectors } from '../support/vectors.js'
import { accepts, capturedItems, type Items, simulatedItems } from './certificates.js'
import {
  libraryCertificate,
  libraryCommonNames,
  libraryList,
  libraryRoles,
  ourCertificate,
  ourList,
} from './library.js'
import { mutationOf } from './mutations.js'

const RUNS = 4000

let simulated: Items
let captured: Items
beforeAll(async () => {
  simulated = await simulatedItems()
  captured = capturedItems()
}, 120_000)

const rolesOf = ({ isCa, pathLength, keyUsage }: Certificate) => ({ isCa, pathLength, keyUsage })

/** A name that is read is the only one the library finds, and the same. */
function expectNames(certificate: Certificate): void {
  for (const [commonName, der] of [
    [certificate.issuerCommonName, certificate.issuer],
    [certificate.subjectCommonName, certificate.subject],
  ] as const) {
    if (commonName !== undefined) expect(libraryCommonNames(der)).toEqual([commonName])
  }
}

/** Whole and in every field, names included. */
function expectReadAlike({ certificates, lists }: Items): void {
  for (const der of certificates) {
    const certificate = parseCertificate(der)
    expect(ourCertificate(certificate)).toEqual(libraryCertificate(der))
    expect(rolesOf(certificate)).toEqual(libraryRoles(certificate.extensions))
    expect([certificate.issuerCommonName]).toEqual(libraryCommonNames(certificate.issuer))
    expect([certificate.subjectCommonName]).toEqual(libraryCommonNames(certificate.subject))
  }
  for (const der of lists) {
    expect(ourList(parseRevocationList(der))).toEqual(libraryList(der))
  }
}

describe('certificates and CRLs as issued are read alike', () => {
  it('SIMULATED ones of every vendor', () => {
    expect(simulated.certificates.length).toBeGreaterThan(40)
    expectReadAlike(simulated)
  })

  it.skipIf(withoutVectors)('captured ones (skipped without SUBROSA_VECTORS)', () => {
    console.log(`${captured.certificates.length} captured certificates, ${captured.lists.length} CRLs`)
    expect(captured.certificates.length).toBeGreaterThan(200)
    expect(captured.lists.length).toBeGreaterThan(10)
    expectReadAlike(captured)
  })
})

describe('what is accepted of changed ones, the library accepts and reads alike', () => {
  it('certificates', () => {
    let accepted = 0
    const items = [...simulated.certificates, ...captured.certificates]
    fc.assert(
      fc.property(mutationOf(items), (der) => {
        if (!accepts(() => parseCertificate(der))) return
        accepted += 1
        const certificate = parseCertificate(der)
        expect(ourCertificate(certificate)).toMatchObject(libraryCertificate(der))
        expect(rolesOf(certificate)).toEqual(libraryRoles(certificate.extensions))
        expectNames(certificate)
      }),
      { numRuns: RUNS },
    )
    // Otherwise nothing was compared.
    expect(accepted).toBeGreaterThan(RUNS / 20)
  })

  it('CRLs', () => {
    let accepted = 0
    const items = [...simulated.lists, ...captured.lists].filter((der) => der.length < 8192)
    fc.assert(
      fc.property(mutationOf(items), (der) => {
        if (!accepts(() => parseRevocationList(der))) return
        accepted += 1
        const ours = parseRevocationList(der)
        expect(ourList(ours)).toMatchObject(libraryList(der))
        if (ours.issuerCommonName !== undefined)
          expect(libraryCommonNames(ours.issuer)).toEqual([ours.issuerCommonName])
      }),
      { numRuns: RUNS },
    )
    expect(accepted).toBeGreaterThan(RUNS / 20)
  })
})

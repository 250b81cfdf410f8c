/** Revocation, mode by mode: everything that can be wrong with a PCK CRL is an outcome of its own, and none is accepted. */
import { describe, expect, it } from 'vitest'
import { concat, utf8 } from '../../verifier/protocol/bytes.js'
import { readPckChain } from '../../verifier/tdx/chain.js'
import { readTdxEvidence } from '../../verifier/tdx/evidence.js'
import { parseTdxQuote } from '../../verifier/tdx/quote.js'
import { run } from './cases.js'
import { type Bend, bentInput, NOON, runBent } from './world.js'

const DAY = 24 * 60 * 60 * 1000
const past = { thisUpdate: new Date(NOON.getTime() - 2 * DAY), nextUpdate: new Date(NOON.getTime() - DAY) }

/** What is done to the PCK CRL, by name. */
const CRLS: Readonly<Record<string, Bend>> = {
  absent: { files: () => ({ pckCrl: null }) },
  garbage: { files: () => ({ pckCrl: utf8('garbage') }) },
  empty: { files: () => ({ pckCrl: new Uint8Array() }) },
  altered: {
    files: (intel) => {
      const crl = intel.pckCrl()
      crl[crl.length - 1] = (crl[crl.length - 1] ?? 0) ^ 1
      return { pckCrl: crl }
    },
  },
  expired: { pckCrl: past },
  'wrong issuer': { files: (intel) => ({ pckCrl: intel.pckCrl({ issuer: 'processor' }) }) },
  revoking: { files: (intel, pck) => ({ pckCrl: intel.pckCrl({ revokedSerials: [pck.serialNumber] }) }) },
}

async function outcome(name: string, revocation: 'required' | 'available' | 'off'): Promise<string> {
  const { verdict, firstFailing, checks } = await runBent({ ...CRLS[name], input: { revocation } })
  const check = checks.find(({ id }) => id === firstFailing)
  return check === undefined ? verdict : `${verdict}: ${check.id}: ${check.reason}`
}

describe('a PCK CRL that is not as it should be', () => {
  it('has as many outcomes as it has faults when revocation is required', async () => {
    const outcomes = await Promise.all(Object.keys(CRLS).map((name) => outcome(name, 'required')))
    expect(outcomes).toEqual([
      'unavailable: tdx.crl.pck-issuer: no CRL of Intel SGX PCK Platform CA at hand',
      'unavailable: tdx.crl.pck-issuer: no CRL of Intel SGX PCK Platform CA at hand; not recognised: pckCrl: not a kind of endorsement',
      'unavailable: tdx.crl.pck-issuer: no CRL of Intel SGX PCK Platform CA at hand; not recognised: pckCrl: empty file',
      'rejected: tdx.crl.pck-signature: the CRL is not signed by Intel SGX PCK Platform CA with ECDSA P-256 and SHA-256',
      'rejected: tdx.crl.pck-window: the CRL has expired',
      'rejected: tdx.crl.pck-issuer: the CRL is another authority’s',
      'rejected: tdx.crl.leaf-status: the certificate is revoked',
    ])
  })

  it('is named and survived only where it is missing or out of window when revocation is what is available', async () => {
    const outcomes = await Promise.all(Object.keys(CRLS).map((name) => outcome(name, 'available')))
    expect(outcomes.map((text) => text.split(': ').slice(0, 2).join(': '))).toEqual([
      'accepted',
      'accepted',
      'accepted',
      'rejected: tdx.crl.pck-signature',
      'accepted',
      'rejected: tdx.crl.pck-issuer',
      'rejected: tdx.crl.leaf-status',
    ])
  })

  it('names what it went without', async () => {
    const { checks } = await runBent({ ...CRLS['expired'], input: { revocation: 'available' } })
    const skipped = checks.filter(({ status }) => status === 'skip')
    expect(skipped.map(({ id }) => id)).toEqual([
      'tdx.crl.pck-issuer',
      'tdx.crl.pck-signature',
      'tdx.crl.pck-window',
      'tdx.crl.leaf-status',
    ])
    expect(skipped[0]?.reason).toMatch(/^waived: revocation: available; the CRL of Intel SGX PCK Platform CA holds/)
  })

  it('is not looked at when revocation is off, and every check says so', async () => {
    const { verdict, checks } = await runBent({ ...CRLS['revoking'], input: { revocation: 'off' } })
    expect(verdict).toBe('accepted')
    expect(checks.filter(({ reason }) => reason === 'waived: revocation: off')).toHaveLength(9)
  })
})

describe('several lists', () => {
  it('uses the sound one among forgeries, and looks each serial up in its own issuer’s list', async () => {
    const forged = await runBent({
      files: (intel) => ({ forged: intel.pckCrl({ signWith: intel.keys.processor.privateKey }), junk: utf8('junk') }),
    })
    expect(forged.verdict).toBe('accepted')
    const swapped = await runBent({
      files: (intel, pck) => ({
        rootCrl: intel.rootCrl({ revokedSerials: [pck.serialNumber] }),
        pckCrl: intel.pckCrl({ revokedSerials: [intel.platform.serialNumber] }),
      }),
    })
    expect(swapped.verdict).toBe('accepted')
  })

  it('more of one issuer than are looked at is a failure, not a choice (P-9.7)', async () => {
    const beside = (count: number): Bend => ({
      files: (intel) => {
        const older = (i: number) => intel.pckCrl({ thisUpdate: new Date(NOON.getTime() - 1000 * (i + 1)) })
        return Object.fromEntries(Array.from({ length: count }, (_, i) => [`more ${i}`, older(i)]))
      },
    })
    expect((await runBent(beside(15))).verdict).toBe('accepted')
    const { verdict, firstFailing, checks } = await runBent(beside(16))
    expect([verdict, firstFailing]).toEqual(['rejected', 'tdx.crl.pck-issuer'])
    expect(checks.find(({ id }) => id === firstFailing)?.reason).toMatch(/^more than 16 lists of/)
  })

  it('prefers the newest of two sound ones', async () => {
    const { firstFailing } = await runBent({
      files: (intel, pck) => ({
        newer: intel.pckCrl({ thisUpdate: new Date(NOON.getTime() - 1000), revokedSerials: [pck.serialNumber] }),
      }),
    })
    expect(firstFailing).toBe('tdx.crl.leaf-status')
  })
})

describe('lists of only a part of what was issued', () => {
  it.each([
    ['issuingDistributionPoint', '2.5.29.28'],
    ['deltaCRLIndicator', '2.5.29.27'],
  ])('say so by %s, critical or not', async (_name, oid) => {
    for (const critical of [true, false]) {
      const edit = { oid, value: new Uint8Array([0x30, 0]), critical }
      const { firstFailing, checks } = await runBent({ pckCrl: { extensions: [edit] } })
      expect(firstFailing).toBe('tdx.crl.pck-issuer')
      expect(checks.find(({ id }) => id === firstFailing)?.reason).toMatch(/partial or indirect/)
    }
  })
})

describe('what is looked at', () => {
  it('is not another authority’s list where there is one of this one', async () => {
    const input = bentInput()
    let looks = 0
    const others = Array.from({ length: 8 }, (_, i) => ({
      ...input.endorsements.crls[0]!,
      issuer: Uint8Array.of(i),
      get issuerCommonName() {
        looks++
        return undefined
      },
    }))
    const endorsements = { ...input.endorsements, crls: [...others, ...input.endorsements.crls] }
    expect((await run({ ...input, endorsements })).verdict).toBe('accepted')
    expect(looks).toBe(0)
  })

  /** Without any list of the PCK authority, and with unreadable files that carry its name: so many of so many bytes before it. */
  async function afterFiles(count: number, bytes: number, more = 0): Promise<string | undefined> {
    const input = bentInput({ files: () => ({ pckCrl: null }) })
    const { intermediate } = readPckChain(parseTdxQuote(readTdxEvidence(input.quote).quote))
    const junk = (length: number) => new Uint8Array(length).fill(1)
    const unread = (name: string, content: Uint8Array<ArrayBuffer>) => ({ name, reason: 'unreadable', bytes: content })
    const unrecognised = [
      ...Array.from({ length: count }, (_, i) => unread(`${i}`, junk(bytes))),
      unread('damaged', concat(junk(8), intermediate.subject, junk(more))),
    ]
    const { checks } = await run({ ...input, endorsements: { ...input.endorsements, unrecognised } })
    return checks.find(({ id }) => id === 'tdx.crl.pck-issuer')?.reason
  }

  it('for a damaged list is 64 files, and half a megabyte of them together', async () => {
    const damaged = 'the CRL is damaged: damaged: unreadable'
    expect(await afterFiles(0, 0)).toBe(damaged)
    expect(await afterFiles(63, 16)).toBe(damaged)
    expect(await afterFiles(64, 16)).toMatch(/no CRL of/)
    expect(await afterFiles(3, 128 * 1024)).toBe(damaged)
    expect(await afterFiles(4, 128 * 1024)).toMatch(/no CRL of/)
    expect(await afterFiles(0, 0, 512 * 1024)).toMatch(/no CRL of/)
    // One that is too long to look through takes nothing from the others.
    expect(await afterFiles(1, 600 * 1024)).toBe(damaged)
  })
})

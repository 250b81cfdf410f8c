/** Revocation, mode by mode: everything that can be wrong with a PCK CRL is an outcome of its own, and none is accepted. */
import { describe, expect, it } from 'vitest'
import { utf8 } from '../../verifier/protocol/bytes.js'
import { type Bend, NOON, runBent } from './world.js'

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

  it('prefers the newest of two sound ones', async () => {
    const { firstFailing } = await runBent({
      files: (intel, pck) => ({
        newer: intel.pckCrl({ thisUpdate: new Date(NOON.getTime() - 1000), revokedSerials: [pck.serialNumber] }),
      }),
    })
    expect(firstFailing).toBe('tdx.crl.leaf-status')
  })
})

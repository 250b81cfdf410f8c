/**
 * A skip never makes an acceptance: whatever inputs are taken away, one or several, the verdict is rejected or unavailable,
 * unless all that is gone is an endorsement that another one makes superfluous, and then no check reads differently.
 */
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { sharedAmdKeys } from '../scripts/simulated/amd.js'
import { createSimulatedSnpPlatform } from '../scripts/simulated/snp-platform.js'
import { createSimulatedTdxPlatform } from '../scripts/simulated/tdx-platform.js'
import { verifyEvidence } from '../verifier/appraise.js'
import { sortEndorsements } from '../verifier/endorsements.js'
import { type PolicyDocument, resolvePolicy } from '../verifier/policy.js'
import { type Bundle, encodeBundle, parseBundle } from '../verifier/protocol/bundle.js'
import { type Bytes, toBytes, toHex } from '../verifier/protocol/bytes.js'
import type { AttestationResult } from '../verifier/result.js'
import { makeRelease, RELEASES } from './release/release-world.js'
import { createWorld, makeBundle, NONCE } from './support/bundle-world.js'
import { filled, STATEMENT } from './support/samples.js'

/** Something with parts that can be taken away by name. */
interface Subject {
  readonly name: string
  readonly parts: readonly string[]
  appraise(without: ReadonlySet<string>): Promise<AttestationResult>
}

const now = new Date('2026-06-01T12:00:00Z')
const subjects: Subject[] = []
const without = (policy: PolicyDocument, gone: ReadonlySet<string>): PolicyDocument =>
  Object.fromEntries(Object.entries(policy).filter(([member]) => !gone.has(`policy ${member}`))) as never

beforeAll(async () => {
  const world = await createWorld(now)
  const whole = parseBundle(await makeBundle(world))
  subjects.push(bundleSubject('SNP and GPU bundle, digests listed', whole, world.policy, []))

  const facts = {
    launch: [{ platform: 'snp' as const, digest: toHex(world.cpu.measurement) }],
    models: [
      {
        id: 'subrosa-demo',
        weights: toHex(STATEMENT.model.weightsRoot),
        manifest: toHex(STATEMENT.model.manifestDigest),
      },
    ],
  }
  const { measurements: _, ...rest } = world.policy
  const released: PolicyDocument = { ...rest, releases: RELEASES, model: 'release' }
  subjects.push(bundleSubject('SNP and GPU bundle, releases', whole, released, makeRelease(facts)))

  const reportData = filled(5, 64)
  const snp = await createSimulatedSnpPlatform({ hostData: filled(8), now, keys: await sharedAmdKeys('Genoa') })
  const snpPolicy: PolicyDocument = {
    schema: 'subrosa-policy/1',
    measurements: [{ digest: toHex(snp.measurement) }],
    trustAnchors: [snp.rootsPem],
    allowNonVendorRoot: true,
  }
  subjects.push(
    rawSubject('SNP report', toBytes(await snp.attest(reportData)), snp.endorsements, snpPolicy, reportData),
  )

  const tdx = await createSimulatedTdxPlatform({ configDigest: filled(8, 48), now })
  const [rtmr0, rtmr1, rtmr2, rtmr3] = tdx.rtmrs.map(toHex) as [string, string, string, string]
  const tdxPolicy: PolicyDocument = {
    schema: 'subrosa-policy/1',
    measurements: [{ mrTd: toHex(tdx.mrTd), rtmr0, rtmr1, rtmr2, rtmr3 }],
    trustAnchors: [tdx.rootsPem],
    allowNonVendorRoot: true,
  }
  const stapled = tdx.endorsements.map(({ bytes }) => bytes)
  subjects.push(rawSubject('TDX quote', toBytes(await tdx.attest(reportData)), stapled, tdxPolicy, reportData))
})

function bundleSubject(
  name: string,
  bundle: Bundle,
  policy: PolicyDocument,
  files: readonly { readonly name: string; readonly bytes: Bytes }[],
): Subject {
  const stapled = bundle.endorsements.map((_, i) => `endorsement ${i}`)
  const members = Object.keys(policy).filter((member) => /^(measurements|releases|model|trustAnchors)$/.test(member))
  return {
    name,
    parts: [
      ...stapled,
      ...files.map((file) => file.name),
      'nonce',
      'operator',
      'gpus',
      ...members.map((m) => `policy ${m}`),
    ],
    async appraise(gone) {
      const { nonceProof, operator, ...rest } = bundle
      const bytes = encodeBundle({
        ...rest,
        gpus: gone.has('gpus') ? [] : bundle.gpus,
        ...(gone.has('nonce') || nonceProof === undefined ? {} : { nonceProof }),
        ...(gone.has('operator') || operator === undefined ? {} : { operator }),
        endorsements: bundle.endorsements.filter((_, i) => !gone.has(`endorsement ${i}`)),
      })
      return verifyEvidence(bytes, {
        policy: resolvePolicy(relaxed(without(policy, gone))),
        now,
        nonce: NONCE,
        endorsements: sortEndorsements(files.filter((file) => !gone.has(file.name))),
      })
    },
  }
}

/** A policy that lost a section others lean on is mended so that it can be read at all. */
function relaxed(policy: PolicyDocument): PolicyDocument {
  const { allowNonVendorRoot, model, ...rest } = policy
  return {
    ...rest,
    ...(policy.trustAnchors === undefined ? {} : { allowNonVendorRoot: allowNonVendorRoot ?? false }),
    ...(model === undefined || (model === 'release' && policy.releases === undefined) ? {} : { model }),
  }
}

function rawSubject(
  name: string,
  evidence: Bytes,
  endorsements: readonly Uint8Array[],
  policy: PolicyDocument,
  reportData: Bytes,
): Subject {
  const files = endorsements.map((bytes, i) => ({ name: `endorsement ${i}`, bytes }))
  return {
    name,
    parts: [...files.map((file) => file.name), 'policy measurements', 'policy trustAnchors'],
    appraise: (gone) =>
      verifyEvidence(evidence, {
        policy: resolvePolicy(relaxed(without(policy, gone))),
        now,
        reportData,
        endorsements: sortEndorsements(files.filter((file) => !gone.has(file.name))),
      }),
  }
}

const read = ({ checks }: AttestationResult) =>
  checks.map(({ id, status, reason }) => `${id} ${status} ${reason ?? ''}`)

describe.each(['SNP and GPU bundle, digests listed', 'SNP and GPU bundle, releases', 'SNP report', 'TDX quote'])(
  '%s',
  (name) => {
    const subject = () => subjects.find((one) => one.name === name) ?? expect.fail(`no ${name}`)
    let spare: Set<string>

    it('is accepted whole, and without any one part only where another says the same', async () => {
      const whole = await subject().appraise(new Set())
      expect([whole.verdict, whole.checks.filter(({ status }) => status === 'fail')]).toEqual(['accepted', []])
      spare = new Set()
      for (const part of subject().parts) {
        const result = await subject().appraise(new Set([part]))
        if (result.verdict !== 'accepted') expect(['rejected', 'unavailable']).toContain(result.verdict)
        else {
          spare.add(part)
          expect(read(result)).toEqual(read(whole))
        }
      }
      // Roots carried beside the chains that end in them. Everything else is needed.
      for (const part of spare) expect(part).toMatch(/^endorsement \d+$/)
      console.log(
        JSON.stringify({ suite: 'missing-inputs', subject: name, parts: subject().parts.length, spare: spare.size }),
      )
    })

    it('is never accepted without any several parts of which one is needed', async () => {
      const { parts, appraise } = subject()
      await fc.assert(
        fc.asyncProperty(fc.subarray([...parts], { minLength: 1 }), async (gone) => {
          const { verdict } = await appraise(new Set(gone))
          if (gone.some((part) => !spare.has(part))) expect(['rejected', 'unavailable']).toContain(verdict)
        }),
        { numRuns: 120 },
      )
    })
  },
)

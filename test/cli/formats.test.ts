/** Verdicts for machines: EAR, CMW, and the schemas that say what the JSON is. */
import { createPublicKey, type JsonWebKey } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createVerifier } from 'fast-jwt'
import { decodeProtectedHeader, importJWK, jwtVerify } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { EAR_PROFILE, type EarClaims } from '../../verifier/ear.js'
import { type PolicyDocument, resolvePolicy } from '../../verifier/policy.js'
import { parseBundle } from '../../verifier/protocol/bundle.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { PINNED_ROOTS } from '../../verifier/roots.js'
import { createWorld, makeBundle, type World } from '../support/bundle-world.js'
import { verifyAttestation } from '../support/command.js'
import { violations } from '../support/json-schema.js'
import { filled } from '../support/samples.js'

let folder: string
let world: World
let bundle: Bytes
const file = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-formats-'))
  world = await createWorld()
  bundle = await makeBundle(world)
  await writeFile(file('ok.bundle'), bundle)
  await writeFile(file('stray.bundle'), await makeBundle(world, { reportData: filled(9, 64) }))
  await writeFile(file('bare.bundle'), await makeBundle(world, { withoutGpus: true }))
  await writeFile(
    file('nocrl.bundle'),
    await makeBundle(world, {
      bundle: (b) => ({ ...b, endorsements: b.endorsements.filter((item) => item.type !== 'application/pkix-crl') }),
    }),
  )
  await writeFile(file('policy.json'), JSON.stringify(world.policy))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const run = (name: string, ...more: string[]) =>
  verifyAttestation(
    ...[file(name), '--policy', file('policy.json'), '--offline', '--at', world.now.toISOString(), ...more],
  )

async function ear(name: string, ...more: string[]) {
  const { status, stdout } = await run(name, '--format', 'ear', ...more)
  const token = stdout.trim()
  const header = decodeProtectedHeader(token)
  const { payload } = await jwtVerify(token, await importJWK(header.jwk!, 'EdDSA'), { typ: 'eat+jwt' })
  return { status, header, claims: payload as unknown as EarClaims }
}

describe('--format ear', () => {
  it('is a JWT that a JWT library verifies with the key in its header, with the documented claims', async () => {
    const { status, header, claims } = await ear('ok.bundle')
    expect(status).toBe(0)
    expect(header).toMatchObject({ alg: 'EdDSA', typ: 'eat+jwt', jwk: { kty: 'OKP', crv: 'Ed25519' } })
    expect(header.jwk).not.toHaveProperty('d')
    expect(claims.eat_profile).toBe(EAR_PROFILE)
    expect(claims.iat).toBe(world.now.getTime() / 1000)
    expect(claims.ear_verifier_id.developer).toBe('subrosa')
    expect(Object.keys(claims.submods)).toEqual(['cpu0', 'gpu0'])
  })

  it('never affirms simulated hardware, or freshness nobody proved', async () => {
    const { claims } = await ear('ok.bundle')
    expect(claims.submods['cpu0']).toMatchObject({
      ear_status: 'warning',
      ear_trustworthiness_vector: {
        hardware: 32,
        'instance-identity': 32,
        configuration: 2,
        executables: 3,
        'file-system': 2,
        'runtime-opaque': 2,
      },
      ear_verifier_claims: { verdict: 'accepted', exit_code: 0, not_passed: ['binding.nonce'] },
    })
    expect(claims.submods['gpu0']).toMatchObject({
      ear_status: 'warning',
      ear_trustworthiness_vector: { hardware: 32, executables: 2 + 1, configuration: 2, 'instance-identity': 2 },
    })
  })

  it('is contraindicated when rejected, and claims nothing when something was not at hand', async () => {
    const stray = await ear('stray.bundle')
    expect(stray.status).toBe(1)
    expect(stray.claims.submods['cpu0']).toMatchObject({
      ear_status: 'contraindicated',
      ear_trustworthiness_vector: { 'instance-identity': 96 },
    })
    const bare = await ear('bare.bundle')
    expect(bare.status).toBe(1)
    expect(Object.keys(bare.claims.submods)).toEqual(['cpu0'])
    expect(bare.claims.submods['cpu0']?.ear_status).toBe('contraindicated')
    const missing = await ear('nocrl.bundle')
    expect(missing.status).toBe(4)
    expect(missing.claims.submods['cpu0']).toMatchObject({
      ear_status: 'none',
      ear_trustworthiness_vector: { hardware: 0 },
    })
  })

  it('holds for another JWT library too, and not once altered', async () => {
    const token = (await run('ok.bundle', '--format', 'ear')).stdout.trim()
    const { jwk } = decodeProtectedHeader(token)
    const key = createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' }).export({ type: 'spki', format: 'pem' })
    const verify = createVerifier({ key: String(key), algorithms: ['EdDSA'], cache: false })
    const claims = verify(token) as EarClaims
    expect(claims.eat_profile).toBe(EAR_PROFILE)
    expect(Object.keys(claims.submods)).toEqual(['cpu0', 'gpu0'])
    const [head = '', body = '', signature = ''] = token.split('.')
    const forged = Buffer.from(JSON.stringify({ ...claims, iat: 0 })).toString('base64url')
    expect(() => verify([head, forged, signature].join('.')) as unknown).toThrow()
    expect(() => verify([head, body, signature.split('').reverse().join('')].join('.')) as unknown).toThrow()
  })

  it('is signed by another key each time', async () => {
    const [a, b] = [await ear('ok.bundle'), await ear('ok.bundle')]
    expect(a.header.jwk?.x).not.toBe(b.header.jwk?.x)
    expect(a.claims).toEqual(b.claims)
  })
})

describe('--format cmw', () => {
  it('wraps every member of the bundle and the result', async () => {
    const { status, stdout } = await run('ok.bundle', '--format', 'cmw')
    expect(status).toBe(0)
    const { __cmwc_t, ...members } = JSON.parse(stdout) as Record<string, [string, string, number]>
    expect(__cmwc_t).toBe('tag:subrosa,2026:bundle/1')
    const parsed = parseBundle(bundle)
    const bytes = (name: string) => new Uint8Array(Buffer.from(members[name]![1], 'base64url'))
    expect(bytes('claims')).toEqual(parsed.claims)
    expect(bytes('cpu')).toEqual(parsed.cpu.evidence)
    expect(bytes('gpu.0')).toEqual(parsed.gpus[0])
    expect(members['cpu']![0]).toBe('application/vnd.amd.sev-snp.report')
    expect(Object.keys(members).filter((name) => name.startsWith('endorsement.'))).toHaveLength(
      parsed.endorsements.length,
    )
    expect(members['endorsement.0']![2]).toBe(2)
    expect(members['result']![0]).toMatch(/^application\/eat\+jwt/)
    expect(members['result']![2]).toBe(8)
    const token = Buffer.from(members['result']![1], 'base64url').toString()
    const key = await importJWK(decodeProtectedHeader(token).jwk!, 'EdDSA')
    expect((await jwtVerify(token, key)).payload['eat_profile']).toBe(EAR_PROFILE)
  })

  it('has nothing to wrap when the file is malformed', async () => {
    await writeFile(file('cut.bundle'), bundle.subarray(0, 500))
    const { status, stdout, stderr } = await run('cut.bundle', '--format', 'cmw')
    expect(stdout).toBe('')
    expect(stderr).toMatch(/--format cmw wraps one readable bundle/)
    expect(status).toBe(2)
  })
})

describe('schema', () => {
  const schema = async (name: string) =>
    JSON.parse((await verifyAttestation('schema', name)).stdout) as Record<string, unknown>

  it('of results fits every verdict, and nothing that is almost one', async () => {
    const result = await schema('result')
    for (const [name, status] of [
      ['ok.bundle', 0],
      ['stray.bundle', 1],
      ['cut.bundle', 3],
      ['nocrl.bundle', 4],
    ] as const) {
      await writeFile(file('cut.bundle'), bundle.subarray(0, 500))
      const { stdout, status: actual } = await run(name, '--format', 'json')
      expect(actual).toBe(status)
      const printed = JSON.parse(stdout) as Record<string, unknown>
      expect(violations(printed, result)).toEqual([])
      expect(violations({ ...printed, extra: 1 }, result)).toEqual(['$: unknown extra'])
      expect(violations({ ...printed, exitCode: (status + 1) % 5 }, result)).not.toEqual([])
      expect(
        violations({ ...printed, checks: [{ ...(printed['checks'] as object[])[0], reason: 3 }] }, result),
      ).not.toEqual([])
      expect(violations({ ...printed, verdict: undefined }, result)).not.toEqual([])
    }
  })

  it.each<[string, string]>([
    ['nothing but its name', 'schema: subrosa-policy/1'],
    ['a launch digest in capitals', `{schema: subrosa-policy/1, measurements: [{digest: ${'AB'.repeat(48)}}]}`],
    ['waivers', '{schema: subrosa-policy/1, gpu: none, model: any, measurements: any, snp: {tcbFloor: none}}'],
    ['a GPU section', '{schema: subrosa-policy/1, gpu: {minDriver: 550.90.07, minVbios: {GH100: 96.00.9f.00.01}}}'],
    ['a TDX section', '{schema: subrosa-policy/1, tdx: {acceptedStatuses: [SWHardeningNeeded], graceDays: 30}}'],
    ['first use', `{schema: subrosa-policy/1, measurements: [{digest: ${'ab'.repeat(48)}}], trustOnFirstUse: true}`],
  ])('of policies takes %s, as the reader does', async (_, text) => {
    expect(violations(parse(text), await schema('policy'))).toEqual([])
    expect(resolvePolicy(parse(text))).toBeDefined()
  })

  it.each<[string, string]>([
    ['an unknown member', '{schema: subrosa-policy/1, measurement: any}'],
    ['an unknown nested member', '{schema: subrosa-policy/1, snp: {guestPolicy: {debugg: allowed}}}'],
    ['an empty list', '{schema: subrosa-policy/1, measurements: []}'],
    ['a short digest', '{schema: subrosa-policy/1, model: {digests: [abcd]}}'],
    ['no schema', '{gpu: none}'],
    ['another schema', '{schema: subrosa-policy/2}'],
    ['a status that is never accepted', '{schema: subrosa-policy/1, tdx: {acceptedStatuses: [Revoked]}}'],
    ['a number out of range', '{schema: subrosa-policy/1, freshness: {keySeconds: 601}}'],
    ['a word for a section', '{schema: subrosa-policy/1, gpu: maybe}'],
  ])('of policies refuses %s, as the reader does', async (_, text) => {
    expect(violations(parse(text), await schema('policy'))).not.toEqual([])
    expect(() => resolvePolicy(parse(text))).toThrow()
  })

  it('of policies has every member a document may have', async () => {
    const { properties } = (await schema('policy')) as { properties: object }
    const document: Record<keyof PolicyDocument, true> = {
      schema: true,
      measurements: true,
      releases: true,
      trustAnchors: true,
      allowNonVendorRoot: true,
      revocation: true,
      snp: true,
      tdx: true,
      gpu: true,
      model: true,
      operator: true,
      channel: true,
      freshness: true,
      image: true,
      serving: true,
      graces: true,
      trustOnFirstUse: true,
    }
    expect(Object.keys(properties).sort()).toEqual(Object.keys(document).sort())
  })

  it('of anything else is misuse', async () => {
    const { status, stdout, stderr } = await verifyAttestation('schema', 'bundle')
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toContain('result, policy, receipt')
  })
})

describe('roots', () => {
  it('names every pinned root: kind, product, key, source, date', async () => {
    const { status, stdout } = await verifyAttestation('roots')
    for (const root of PINNED_ROOTS) {
      expect(stdout).toContain(`${root.name}, valid since ${root.since}`)
      expect(stdout).toContain(root.spkiSha256Hex)
      expect(stdout).toContain(root.source)
    }
    expect(status).toBe(0)
  })

  it('prints the same as JSON', async () => {
    const { status, stdout } = await verifyAttestation('roots', '--format', 'json')
    const { schema, roots } = JSON.parse(stdout) as { schema: string; roots: Record<string, unknown>[] }
    expect(schema).toBe('subrosa-roots/1')
    expect(roots).toHaveLength(PINNED_ROOTS.length)
    expect(Object.keys(roots[0]!)).toEqual(['kind', 'product', 'name', 'spkiSha256', 'source', 'since'])
    expect(status).toBe(0)
  })
})

describe('--help', () => {
  it('fits a screen of 80 by 40 and names every command', async () => {
    const { status, stdout } = await verifyAttestation('--help')
    const lines = stdout.trimEnd().split('\n')
    expect(lines.length).toBeLessThanOrEqual(39)
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80)
    for (const name of ['gpu', 'receipt', 'watch', 'policy init', 'roots', 'schema'])
      expect(stdout).toContain(`  ${name}`)
    expect(status).toBe(0)
  })

  it.each(['gpu', 'receipt', 'watch', 'roots', 'schema'])('%s has its own', async (name) => {
    const { status, stdout } = await verifyAttestation(name, '--help')
    expect(stdout).toMatch(new RegExp(`^Usage: verify-attestation ${name} `))
    expect(status).toBe(0)
  })
})

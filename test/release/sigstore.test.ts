/**
 * Sigstore in place of a log of one's own: bundles made by Sigstore's signing library against a simulated Fulcio and Rekor
 * over real sockets, verified offline by its verifying library under a trusted root of the test's.
 */
import { createHash, generateKeyPairSync } from 'node:crypto'
import { bundleToJSON } from '@sigstore/bundle'
import { fulcioHandler, initializeCA, initializeCTLog, initializeTLog, rekorHandler } from '@sigstore/mock'
import { DSSEBundleBuilder, FulcioSigner, MessageSignatureBundleBuilder, RekorWitness } from '@sigstore/sign'
import { SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { verifyEvidence } from '../../verifier/appraise.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { type PolicyDocument, resolvePolicy } from '../../verifier/policy.js'
import { parseBundle } from '../../verifier/protocol/bundle.js'
import { type Bytes, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import type { SigstorePolicy } from '../../verifier/release/policy.js'
import { verifySigstoreBundle } from '../../verifier/release/sigstore.js'
import { addEndorsements } from '../../verifier/save.js'
import { createWorld, makeBundle, NONCE, type World } from '../support/bundle-world.js'
import { startHttp } from '../support/http.js'
import { STATEMENT } from '../support/samples.js'
import { makeRelease, RELEASES } from './release-world.js'

const IDENTITY = 'https://forge.example/subrosa/release.yml@refs/heads/main'
const ISSUER = 'https://tokens.forge.example'
const p256 = () => generateKeyPairSync('ec', { namedCurve: 'prime256v1' })

let server: Awaited<ReturnType<typeof startHttp>>
let sign: (artifact: Bytes) => Promise<Bytes>
/** An attestation in an envelope of its own (DSSE), by the same identity and in the same log. */
let attest: (payload: Bytes) => Promise<Bytes>
let policy: SigstorePolicy
let stranger: SigstorePolicy

/** Whatever holds the bytes: some of what is typed as a Buffer is an ArrayBuffer. */
const base64 = (bytes: Uint8Array | ArrayBuffer) => Buffer.from(bytes as Uint8Array).toString('base64')

/** A certificate authority, its certificate log and a transparency log, and the root that trusts them. */
async function createSigstore(url: string) {
  const clock = new Date(Date.now() - 60_000)
  const ct = await initializeCTLog(p256(), clock)
  const ca = await initializeCA(p256(), ct, clock)
  const log = await initializeTLog(url, p256())
  const start = new Date(clock.getTime() - 60_000).toISOString()
  const key = (rawBytes: Buffer) => ({
    rawBytes: base64(rawBytes),
    keyDetails: 'PKIX_ECDSA_P256_SHA_256',
    validFor: { start },
  })
  const logOf = (publicKey: Buffer, keyId: Buffer) => ({
    baseUrl: url,
    hashAlgorithm: 'SHA2_256',
    publicKey: key(publicKey),
    logId: { keyId: base64(keyId) },
  })
  const trustedRoot = JSON.stringify({
    mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
    tlogs: [logOf(log.publicKey, createHash('sha256').update(log.publicKey).digest())],
    certificateAuthorities: [
      {
        subject: { organization: 'simulated', commonName: 'simulated' },
        uri: url,
        certChain: { certificates: [{ rawBytes: base64(ca.rootCertificate) }] },
        validFor: { start },
      },
    ],
    ctlogs: [logOf(ct.publicKey, ct.logID)],
    timestampAuthorities: [],
  })
  return { ca, log, trustedRoot }
}

/** What Rekor puts into its log for a proposed entry: of an envelope, digests and signatures. The simulated one takes it as it is. */
function asLogged(proposal: string): string {
  const { spec, ...rest } = JSON.parse(proposal) as { spec: { proposedContent?: { envelope: string } } }
  if (spec.proposedContent === undefined) return proposal
  const { payload, signatures } = JSON.parse(spec.proposedContent.envelope) as {
    payload: string
    signatures: { sig: string }[]
  }
  const value = createHash('sha256').update(Buffer.from(payload, 'base64')).digest('hex')
  const logged = signatures.map(({ sig }) => ({ signature: sig }))
  return JSON.stringify({ ...rest, spec: { payloadHash: { algorithm: 'sha256', value }, signatures: logged } })
}

beforeAll(async () => {
  const handlers = new Map<
    string,
    (body: string) => Promise<{ statusCode: number; response: string | Buffer; contentType?: string }>
  >()
  server = await startHttp((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', async () => {
      const answer = await handlers.get(request.url ?? '')?.(Buffer.concat(parts).toString('utf8'))
      response.writeHead(answer?.statusCode ?? 404, { 'content-type': answer?.contentType ?? 'application/json' })
      response.end(answer?.response)
    })
  })
  const [own, other] = [await createSigstore(server.url), await createSigstore(server.url)]
  const [fulcio, rekor] = [fulcioHandler(own.ca), rekorHandler(own.log)]
  handlers.set(fulcio.path, fulcio.fn)
  handlers.set(rekor.path, (body) => rekor.fn(asLogged(body)))
  policy = { trustedRoot: own.trustedRoot, identity: IDENTITY, issuer: ISSUER }
  stranger = { ...policy, trustedRoot: other.trustedRoot }
  const token = await new SignJWT({ sub: IDENTITY, iss: ISSUER })
    .setProtectedHeader({ alg: 'HS256' })
    .sign(utf8('a secret of the test’s own, nobody reads it'))
  const parties = {
    signer: new FulcioSigner({ fulcioBaseURL: server.url, identityProvider: { getToken: async () => token } }),
    witnesses: [new RekorWitness({ rekorBaseURL: server.url })],
  }
  const builder = new MessageSignatureBundleBuilder(parties)
  const envelopes = new DSSEBundleBuilder(parties)
  sign = async (artifact) => utf8(JSON.stringify(bundleToJSON(await builder.create({ data: Buffer.from(artifact) }))))
  attest = async (payload) => {
    const bundle = await envelopes.create({ data: Buffer.from(payload), type: 'application/vnd.in-toto+json' })
    return utf8(JSON.stringify(bundleToJSON(bundle)))
  }
})
afterAll(() => server.close())

const ARTIFACT = utf8('a manifest')

describe('a bundle', () => {
  it('holds for its bytes, identity, issuer and root, and for nothing else', async () => {
    const bundle = await sign(ARTIFACT)
    expect(verifySigstoreBundle(bundle, ARTIFACT, policy)).toEqual({ holds: true })
    const wrong: readonly [Bytes, Bytes, SigstorePolicy][] = [
      [bundle, utf8('another manifest'), policy],
      [bundle, ARTIFACT, { ...policy, identity: IDENTITY.replace('main', 'mine') }],
      [bundle, ARTIFACT, { ...policy, identity: IDENTITY.slice(0, -1) }],
      // An identity is a text here, and no pattern.
      [bundle, ARTIFACT, { ...policy, identity: '.*' }],
      [bundle, ARTIFACT, { ...policy, issuer: 'https://tokens.other.example' }],
      [bundle, ARTIFACT, stranger],
      [utf8('{}'), ARTIFACT, policy],
      [utf8('not JSON'), ARTIFACT, policy],
      [new Uint8Array([0xff, 0xfe]), ARTIFACT, policy],
      [bundle, ARTIFACT, { ...policy, trustedRoot: '{}' }],
    ]
    for (const [bytes, artifact, under] of wrong) {
      expect(verifySigstoreBundle(bytes, artifact, under)).toMatchObject({
        holds: false,
        reason: expect.stringMatching(/./),
      })
    }
  })

  it('is a signature over the bytes: what the identity attested of something else is none', async () => {
    for (const payload of [utf8('{"subject":[]}'), ARTIFACT]) {
      expect(verifySigstoreBundle(await attest(payload), ARTIFACT, policy)).toEqual({
        holds: false,
        reason: expect.stringContaining('message signature'),
      })
    }
  })

  it('does not hold with its log entry taken out, or any part altered', async () => {
    const bundle = JSON.parse(new TextDecoder().decode(await sign(ARTIFACT))) as {
      verificationMaterial: { tlogEntries: Record<string, unknown>[] }
      messageSignature: { signature: string }
    }
    const bend = (change: (copy: typeof bundle) => void) => {
      const copy = structuredClone(bundle)
      change(copy)
      return verifySigstoreBundle(utf8(JSON.stringify(copy)), ARTIFACT, policy).holds
    }
    expect(bend(() => undefined)).toBe(true)
    expect(
      bend((copy) => {
        copy.verificationMaterial.tlogEntries = []
      }),
    ).toBe(false)
    expect(
      bend((copy) => {
        copy.verificationMaterial.tlogEntries[0]!['integratedTime'] = '1'
      }),
    ).toBe(false)
    expect(
      bend((copy) => {
        copy.messageSignature.signature = Buffer.from('no signature').toString('base64')
      }),
    ).toBe(false)
  })
})

describe('a release known by it', () => {
  let world: World
  let evidence: Bytes
  beforeAll(async () => {
    world = await createWorld()
    evidence = await makeBundle(world)
  })

  const releases = () => ({ keys: RELEASES.keys, log: { sigstore: policy } })
  async function appraise(files: readonly { name: string; bytes: Bytes }[], judge = true, bytes = evidence) {
    const { measurements: _, model: _model, ...rest } = world.policy
    const document: PolicyDocument = { ...rest, releases: releases(), model: 'release' }
    return verifyEvidence(bytes, {
      policy: resolvePolicy(document),
      now: world.now,
      live: { nonce: NONCE, sentAt: world.now },
      endorsements: sortEndorsements(files),
      ...(judge ? { sigstore: verifySigstoreBundle } : {}),
    })
  }
  const release = () => {
    const launch = [{ platform: 'snp' as const, digest: toHex(world.cpu.measurement) }]
    const models = [
      {
        id: 'subrosa-demo',
        weights: toHex(STATEMENT.model.weightsRoot),
        manifest: toHex(STATEMENT.model.manifestDigest),
      },
    ]
    return makeRelease({ launch, models }, { leaveOut: ['proof'] })
  }

  it('is accepted, kept with a saved bundle, and said not to be witnessed', async () => {
    const files = release()
    const bundle = { name: 'sigstore', bytes: await sign(files[0]!.bytes) }
    const result = await appraise([...files, bundle])
    expect([result.verdict, result.checks.filter(({ status }) => status === 'fail')]).toEqual(['accepted', []])
    expect(result.notProven.find(({ id }) => id === 'release.witnessed')?.text).toContain('Rekor')
    const saved = addEndorsements(evidence, result.verdict === 'accepted' ? result.endorsementBytes : [])
    expect(parseBundle(saved).endorsements.map(({ type }) => type)).toContain(
      'application/vnd.dev.sigstore.bundle+json',
    )
    expect((await appraise([], true, saved)).verdict).toBe('accepted')
  })

  it('is not, by a bundle over something else, without one, or where nobody can judge it', async () => {
    const files = release()
    const status = async (...more: Parameters<typeof appraise>) => {
      const result = await appraise(...more)
      return [result.verdict, result.checks.find(({ id }) => id === 'release.logged')?.status]
    }
    expect(await status([...files, { name: 's', bytes: await sign(utf8('something else')) }])).toEqual([
      'rejected',
      'fail',
    ])
    expect(await status(files)).toEqual(['unavailable', 'skip'])
    expect(await status([...files, { name: 's', bytes: await sign(files[0]!.bytes) }], false)).toEqual([
      'unavailable',
      'skip',
    ])
  })
})

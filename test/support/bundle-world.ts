/**
 * Whole bundles from simulated hardware, made step by step so that a test can bend exactly one of them. Everything a bend
 * leaves alone is signed and bound as a worker would.
 */
import { sharedAmdKeys } from '../../scripts/simulated/amd.js'
import { createSimulatedGpus, type SimulatedGpus } from '../../scripts/simulated/gpu-platform.js'
import { createSimulatedSnpPlatform, type SimulatedSnpPlatform } from '../../scripts/simulated/snp-platform.js'
import { type PolicyDocument, resolvePolicy } from '../../verifier/policy.js'
import { type Bundle, encodeBundle } from '../../verifier/protocol/bundle.js'
import { type Bytes, toBytes, toHex } from '../../verifier/protocol/bytes.js'
import { MEDIA_TYPE_CERTIFICATE, MEDIA_TYPE_CRL, MEDIA_TYPE_SNP_REPORT } from '../../verifier/protocol/constants.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { KEM_MLKEM768_X25519 } from '../../verifier/protocol/hpke-suites.js'
import {
  encodeSignedKeyConfigurations,
  keyConfigurationMessage,
  type SignedKeyConfiguration,
} from '../../verifier/protocol/key-configuration.js'
import { inclusionProof, merkleRoot } from '../../verifier/protocol/merkle.js'
import { generateKeyConfiguration } from '../../verifier/protocol/ohttp-generate.js'
import { encodeOperatorStatement, type OperatorStatement, operatorMessage } from '../../verifier/protocol/operator.js'
import {
  encodeClaims,
  encodeCore,
  encodeFresh,
  encodeStatement,
  type Fresh,
  gpuNonceFor,
  reportDataFor,
  type Statement,
} from '../../verifier/protocol/statement.js'
import { filled, STATEMENT } from './samples.js'

export interface World {
  readonly now: Date
  readonly cpu: SimulatedSnpPlatform
  readonly gpus: SimulatedGpus
  readonly identity: CryptoKeyPair
  readonly operator: CryptoKeyPair
  readonly policy: PolicyDocument
}

/** What a test may change on the way from a statement to a bundle. Each step sees what the steps before it made. */
export interface Bend {
  readonly statement?: (statement: Statement) => Statement
  readonly fresh?: (fresh: Fresh) => Fresh
  readonly kemId?: number
  readonly keys?: (keys: readonly SignedKeyConfiguration[]) => readonly SignedKeyConfiguration[]
  readonly keyWindow?: readonly [notBefore: number, notAfter: number]
  readonly signKeysWith?: CryptoKey
  /** Other keys to carry than those the claims name. */
  readonly carriedKeys?: Bytes
  readonly gpuDigests?: (digests: readonly Bytes[]) => readonly Bytes[]
  readonly gpuNonce?: Bytes
  readonly withoutGpus?: boolean
  readonly claims?: (claims: Bytes) => Bytes
  readonly reportData?: Bytes
  /** When the operator gave its word, in seconds from now; signed as such. */
  readonly operatorAge?: number
  readonly operator?: ((statement: OperatorStatement) => OperatorStatement) | 'none'
  readonly bundle?: (bundle: Bundle) => Bundle
}

const ed25519 = () => crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify']) as Promise<CryptoKeyPair>
const rawPublic = async (pair: CryptoKeyPair): Promise<Bytes> =>
  new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey))
const sign = async (key: CryptoKey, message: Bytes): Promise<Bytes> =>
  new Uint8Array(await crypto.subtle.sign('Ed25519', key, message))

export async function createWorld(now: Date = new Date('2026-06-01T12:00:00Z')): Promise<World> {
  const keys = await sharedAmdKeys('Genoa')
  const cpu = await createSimulatedSnpPlatform({ hostData: STATEMENT.configDigest, now, keys })
  const gpus = createSimulatedGpus({ now })
  const operator = await ed25519()
  return {
    now,
    cpu,
    gpus,
    identity: await ed25519(),
    operator,
    policy: {
      schema: 'subrosa-policy/1',
      trustAnchors: [cpu.rootsPem + gpus.rootsPem],
      allowNonVendorRoot: true,
      measurements: [{ digest: toHex(cpu.measurement) }],
      model: { digests: [toHex(STATEMENT.model.weightsRoot)] },
      operator: { keys: [toHex(await rawPublic(operator))] },
    },
  }
}

export const NONCE: Bytes = filled(77)

/** One encoded bundle that the world's policy accepts, but for the bend. */
export async function makeBundle(world: World, bend: Bend = {}): Promise<Bytes> {
  const { now, cpu, gpus, identity } = world
  const seconds = Math.floor(now.getTime() / 1000)
  const { operatorKey: _, ...plain } = STATEMENT
  const base: Statement = { ...plain, keys: { ...plain.keys, identity: await rawPublic(identity) } }
  const statement = bend.statement?.(base) ?? base
  const statementBytes = encodeStatement(statement)

  const { configuration } = await generateKeyConfiguration(1, bend.kemId ?? KEM_MLKEM768_X25519)
  const [notBefore, notAfter] = bend.keyWindow ?? [seconds - 60, seconds + 500]
  const unsigned = { configuration: configuration.encoded, notBefore, notAfter }
  const message = keyConfigurationMessage(sha256(statementBytes), unsigned)
  const made = [{ ...unsigned, signature: await sign(bend.signKeysWith ?? identity.privateKey, message) }]
  const signed = bend.keys?.(made) ?? made

  const leaves = [filled(1), NONCE, filled(3)]
  const whole: Fresh = {
    nonceRoot: merkleRoot(leaves),
    issuedAt: seconds - 5,
    expiresAt: seconds + 3000,
    keyConfigurations: made.map((item) => sha256(item.configuration)),
  }
  const core = encodeCore(statementBytes, encodeFresh(bend.fresh?.(whole) ?? whole))
  const evidence = bend.withoutGpus === true ? [] : await gpus.attest(bend.gpuNonce ?? gpuNonceFor(core))
  const digests = evidence.map(sha256)
  const honest = encodeClaims(core, bend.gpuDigests?.(digests) ?? digests)
  const claims = bend.claims?.(honest) ?? honest
  const report = await cpu.attest(bend.reportData ?? reportDataFor(claims))

  const vouched = {
    issuedAt: seconds - (bend.operatorAge ?? 100),
    identity: statement.keys.identity,
    platform: toBytes(cpu.chipId),
  }
  const operator: OperatorStatement = {
    ...vouched,
    key: await rawPublic(world.operator),
    signature: await sign(world.operator.privateKey, operatorMessage(vouched)),
  }
  const bundle: Bundle = {
    claims,
    cpu: { type: MEDIA_TYPE_SNP_REPORT, evidence: toBytes(report) },
    gpus: evidence,
    switches: [],
    keys: bend.carriedKeys ?? encodeSignedKeyConfigurations(signed),
    nonceProof: { nonce: NONCE, ...inclusionProof(leaves, 1) },
    ...(bend.operator === 'none' ? {} : { operator: encodeOperatorStatement(bend.operator?.(operator) ?? operator) }),
    endorsements: [
      ...cpu.endorsements.map((bytes, i) => ({
        type: i === cpu.endorsements.length - 1 ? MEDIA_TYPE_CRL : MEDIA_TYPE_CERTIFICATE,
        bytes,
      })),
      ...gpus.endorsements,
    ] as Bundle['endorsements'],
  }
  return encodeBundle(bend.bundle?.(bundle) ?? bundle)
}

export const resolved = (world: World, change: Partial<PolicyDocument> = {}) =>
  resolvePolicy({ ...world.policy, ...change })

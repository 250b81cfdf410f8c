/**
 * What a worker says about itself: `statement`, `fresh`, `core` and `claims`, and the values derived from them
 * (PROTOCOL.md §4). EAT claim names (RFC 9711) appear only in this codec.
 *
 * Everything here is untrusted until the report whose REPORT_DATA equals `reportDataFor(claims)` has been verified.
 */
import { type Bytes, concat } from './bytes.js'
import {
  CborFields,
  type CborKey,
  type CborValue,
  decodeCbor,
  domain,
  encodeCbor,
  expectArray,
  expectBytes,
} from './cbor.js'
import { DOMAIN_GPU_NONCE, STATEMENT_PROFILE } from './constants.js'
import { FormatError } from './errors.js'
import { sha256, sha512 } from './hash.js'

/** EAT and CWT claim keys (IANA CBOR Web Token Claims registry). */
const EXP = 4
const IAT = 6
const NONCE = 10
const PROFILE = 265
const BOOT_SEED = 268
const SOFTWARE_NAME = 270
const SOFTWARE_VERSION = 271
/** RFC 9393 version scheme `semver`. */
const SEMVER = 16384

const MAX_STATEMENT_BYTES = 16 * 1024

/** `request`: nothing computed for a request outlives it; `session`: state is kept under one session token only. */
export type IsolationMode = 'request' | 'session'
export const ISOLATION_MODES: readonly IsolationMode[] = ['request', 'session']

export type PaddingMode = 'off' | 'tick'

/** Constant for one boot. Any change of any member means a new boot, new keys and a new report. */
export interface Statement {
  /** 32 random bytes drawn at start-up. */
  readonly bootId: Bytes
  /** Raw Ed25519 public keys, 32 bytes each. Identity signs key configurations; receipt signs receipts; nothing else. */
  readonly keys: { readonly identity: Bytes; readonly receipt: Bytes }
  readonly model: ModelClaims
  readonly runtime: {
    readonly name: string
    readonly version: string
    /** Inference engine and version, for example `onnxruntime-node 1.30.0 (cpu)`. */
    readonly engine: string
    /** Root hash of the image's root file system, 32 bytes (P-4.7); absent where the worker was not booted from a measured image. */
    readonly imageDigest?: Bytes
  }
  readonly serving: ServingClaims
  /** SHA-256 (SNP, 32 bytes) or SHA-384 (TDX, 48 bytes) of the host-supplied configuration; equals HOST_DATA or MRCONFIGID. */
  readonly configDigest: Bytes
  /** Raw Ed25519 public key of the operator, 32 bytes, where the configuration names one. Proves nothing by itself. */
  readonly operatorKey?: Bytes
}

export interface ModelClaims {
  readonly id: string
  /** RFC 9162 root over the graph and weight files of the package, 32 bytes (PROTOCOL.md §8). */
  readonly weightsRoot: Bytes
  /** SHA-256 of tokenizer.json, 32 bytes. */
  readonly tokenizerDigest: Bytes
  /** SHA-256 of the chat template, 32 bytes. */
  readonly templateDigest: Bytes
  /** SHA-256 of manifest.json, 32 bytes: everything else the package says of the model. */
  readonly manifestDigest: Bytes
}

export interface ServingClaims {
  /** How response sizes are hidden. */
  readonly padding: PaddingMode
  /** What outlives a request. */
  readonly retention: 'none'
  /** What is logged: a fixed list of fields without content. */
  readonly logging: 'metadata'
  /** What sessions share. `request`: no state at all passes from one request to another. */
  readonly isolation: IsolationMode
  /** Longest life of one HPKE key configuration, in seconds. */
  readonly keyLifetimeS: number
}

/** The part that changes with every batch of nonces. */
export interface Fresh {
  /** RFC 9162 root over the client nonces of the batch, 32 bytes. */
  readonly nonceRoot: Bytes
  /** Seconds since 1970-01-01T00:00:00Z on the worker's clock, which is the host's clock. */
  readonly issuedAt: number
  readonly expiresAt: number
  /** SHA-256 of each current HPKE key configuration, 32 bytes each. */
  readonly keyConfigurations: readonly Bytes[]
}

export function encodeStatement(statement: Statement): Bytes {
  const { keys, model, runtime, serving } = statement
  const map = new Map<CborKey, CborValue>([
    [PROFILE, STATEMENT_PROFILE],
    [BOOT_SEED, statement.bootId],
    [SOFTWARE_NAME, runtime.name],
    [SOFTWARE_VERSION, [runtime.version, SEMVER]],
    [
      'keys',
      new Map<CborKey, CborValue>([
        ['identity', keys.identity],
        ['receipt', keys.receipt],
      ]),
    ],
    [
      'model',
      new Map<CborKey, CborValue>([
        ['id', model.id],
        ['weights', model.weightsRoot],
        ['tokenizer', model.tokenizerDigest],
        ['template', model.templateDigest],
        ['manifest', model.manifestDigest],
      ]),
    ],
    [
      'runtime',
      new Map<CborKey, CborValue>([
        ['engine', runtime.engine],
        ...(runtime.imageDigest === undefined ? [] : [['image', runtime.imageDigest] as [CborKey, CborValue]]),
      ]),
    ],
    [
      'serving',
      new Map<CborKey, CborValue>([
        ['padding', serving.padding],
        ['retention', serving.retention],
        ['logging', serving.logging],
        ['isolation', serving.isolation],
        ['key_lifetime', serving.keyLifetimeS],
      ]),
    ],
    ['config', statement.configDigest],
  ])
  if (statement.operatorKey !== undefined) map.set('operator', statement.operatorKey)
  return encodeCbor(map)
}

/** @throws FormatError on anything but a statement of this profile. */
export function parseStatement(bytes: Uint8Array): Statement {
  const f = new CborFields(decodeCbor(bytes, MAX_STATEMENT_BYTES), 'statement')
  const profile = f.text(PROFILE)
  if (profile !== STATEMENT_PROFILE) {
    throw new FormatError(
      'statement.profile',
      `statement: expected profile ${STATEMENT_PROFILE}, got ${profile.slice(0, 80)}`,
    )
  }
  const keys = f.map('keys')
  const model = f.map('model')
  const runtime = f.map('runtime')
  const serving = f.map('serving')
  const [version, scheme] = expectArray(f.raw(SOFTWARE_VERSION), 'statement: version', 2)
  if (typeof version !== 'string' || scheme !== SEMVER) {
    throw new FormatError('statement.version', 'statement: expected a semantic version')
  }
  const configDigest = f.bytes('config')
  if (configDigest.length !== 32 && configDigest.length !== 48) {
    throw new FormatError('statement.config', `statement: config: expected 32 or 48 bytes, got ${configDigest.length}`)
  }
  const statement: Statement = {
    bootId: f.bytes(BOOT_SEED, 32),
    keys: { identity: keys.bytes('identity', 32), receipt: keys.bytes('receipt', 32) },
    model: {
      id: model.text('id'),
      weightsRoot: model.bytes('weights', 32),
      tokenizerDigest: model.bytes('tokenizer', 32),
      templateDigest: model.bytes('template', 32),
      manifestDigest: model.bytes('manifest', 32),
    },
    runtime: {
      name: f.text(SOFTWARE_NAME),
      version,
      engine: runtime.text('engine'),
      ...(runtime.has('image') ? { imageDigest: runtime.bytes('image', 32) } : {}),
    },
    serving: {
      padding: oneOf(serving, 'padding', ['off', 'tick']),
      retention: oneOf(serving, 'retention', ['none']),
      logging: oneOf(serving, 'logging', ['metadata']),
      isolation: oneOf(serving, 'isolation', ISOLATION_MODES),
      keyLifetimeS: serving.uint('key_lifetime'),
    },
    configDigest,
    ...(f.has('operator') ? { operatorKey: f.bytes('operator', 32) } : {}),
  }
  for (const fields of [f, keys, model, runtime, serving]) fields.end()
  return statement
}

function oneOf<T extends string>(fields: CborFields, key: string, allowed: readonly T[]): T {
  const text = fields.text(key)
  const found = allowed.find((value) => value === text)
  if (found === undefined) {
    throw new FormatError('statement.value', `statement: serving: ${key}: expected ${allowed.join(' or ')}`)
  }
  return found
}

export function encodeFresh(fresh: Fresh): Bytes {
  return encodeCbor(
    new Map<CborKey, CborValue>([
      [IAT, fresh.issuedAt],
      [EXP, fresh.expiresAt],
      [NONCE, fresh.nonceRoot],
      ['hpke', fresh.keyConfigurations],
    ]),
  )
}

/** @throws FormatError on anything but one to four key configurations, a 32-byte root and two instants in order. */
export function parseFresh(bytes: Uint8Array): Fresh {
  const f = new CborFields(decodeCbor(bytes, MAX_STATEMENT_BYTES), 'fresh')
  const hashes = f.array('hpke')
  if (hashes.length < 1 || hashes.length > 4) {
    throw new FormatError('fresh.keys', `fresh: expected 1 to 4 key configurations, got ${hashes.length}`)
  }
  const fresh: Fresh = {
    nonceRoot: f.bytes(NONCE, 32),
    issuedAt: f.uint(IAT),
    expiresAt: f.uint(EXP),
    keyConfigurations: hashes.map((hash) => expectBytes(hash, 'fresh: key configuration hash', 32)),
  }
  f.end()
  if (fresh.expiresAt <= fresh.issuedAt) throw new FormatError('fresh.window', 'fresh: expires before it was issued')
  return fresh
}

/** `core` = CBOR [statement, fresh], both as byte strings: hashed and carried as the exact bytes. */
export function encodeCore(statement: Uint8Array, fresh: Uint8Array): Bytes {
  return encodeCbor([statement, fresh])
}

/** SHA-256("subrosa gpu-nonce/1" ‖ 0x00 ‖ SHA-512(core)): the 32-byte SPDM nonce that names the enclave's keys. */
export function gpuNonceFor(core: Uint8Array): Bytes {
  return sha256(concat(domain(DOMAIN_GPU_NONCE), sha512(core)))
}

/** `claims` = CBOR [core, [SHA-256 of each device's GPU evidence, in the order carried]]. */
export function encodeClaims(core: Uint8Array, gpuEvidenceDigests: readonly Uint8Array[]): Bytes {
  return encodeCbor([core, gpuEvidenceDigests])
}

/** SHA-512(claims): the 64 bytes of REPORT_DATA or REPORTDATA, all of them. */
export function reportDataFor(claims: Uint8Array): Bytes {
  return sha512(claims)
}

/** Claims taken apart, with the exact bytes each hash is made of. */
export interface Claims {
  readonly core: Bytes
  readonly statementBytes: Bytes
  readonly statement: Statement
  /** SHA-256 of the exact statement bytes: how receipts, descriptors and key configurations name this boot. */
  readonly statementDigest: Bytes
  readonly fresh: Fresh
  readonly gpuEvidenceDigests: readonly Bytes[]
}

/** @throws FormatError on anything but well-formed claims of this profile with at most 32 devices. */
export function parseClaims(bytes: Uint8Array): Claims {
  const [coreValue, digests] = expectArray(decodeCbor(bytes, 64 * 1024), 'claims', 2)
  const core = expectBytes(coreValue, 'claims: core')
  const [statementValue, freshValue] = expectArray(decodeCbor(core, 64 * 1024), 'core', 2)
  const statementBytes = expectBytes(statementValue, 'core: statement')
  const list = expectArray(digests, 'claims: GPU evidence digests')
  if (list.length > 32)
    throw new FormatError('claims.devices', `claims: expected at most 32 devices, got ${list.length}`)
  return {
    core,
    statementBytes,
    statement: parseStatement(statementBytes),
    statementDigest: sha256(statementBytes),
    fresh: parseFresh(expectBytes(freshValue, 'core: fresh')),
    gpuEvidenceDigests: list.map((digest) => expectBytes(digest, 'claims: GPU evidence digest', 32)),
  }
}

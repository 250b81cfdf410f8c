/**
 * The worker's keys (PROTOCOL.md §5): identity → signed HPKE key configurations, and the receipt key beside them.
 *
 * One *boot* is one statement and the keys it names; it ends after 24 hours at most and the next one shares nothing with
 * it. Within a boot, HPKE keys are replaced at half their life, so a configuration that was just published is good for a
 * while, and dropped at its end. Signing keys are non-extractable WebCrypto keys; dropping a key means dropping the last
 * reference to it, which is as much as JavaScript can promise.
 */
import { type Bytes, toBytes } from '../verifier/protocol/bytes.js'
import { MAX_IDENTITY_LIFETIME_S, MAX_KEY_LIFETIME_S } from '../verifier/protocol/constants.js'
import { sha256 } from '../verifier/protocol/hash.js'
import { KEM_MLKEM768_X25519 } from '../verifier/protocol/hpke.js'
import {
  encodeSignedKeyConfigurations,
  keyConfigurationMessage,
  type SignedKeyConfiguration,
} from '../verifier/protocol/key-configuration.js'
import { generateKeyConfiguration } from '../verifier/protocol/ohttp-generate.js'
import { configurationHash, encodeKeyConfigurations } from '../verifier/protocol/ohttp-keys.js'
import { encodeStatement, type Statement } from '../verifier/protocol/statement.js'
import type { HpkeKey, KeyRing } from './channel.js'

/** One statement and the keys that stand behind it. */
export interface Boot {
  readonly statement: Statement
  /** The exact bytes that are attested, and their SHA-256. */
  readonly statementBytes: Bytes
  readonly statementDigest: Bytes
  /** Ed25519, non-extractable; signs receipts and nothing else. */
  readonly receiptKey: CryptoKey
  /** Seconds since the epoch: nothing of this boot is vouched for beyond it. */
  readonly notAfter: number
}

/** What a worker tells the world about its keys at one instant. */
export interface PublishedKeys {
  readonly boot: Boot
  /** SHA-256 of each current configuration, as `fresh` lists them. */
  readonly digests: readonly Bytes[]
  /** `application/vnd.subrosa.key-configurations+cbor`. */
  readonly signed: Bytes
  /** `application/ohttp-keys`. */
  readonly plain: Bytes
}

export interface KeyLadder {
  /** Rotates what is due and drops what has expired. Called on every use and by a timer. */
  refresh(): Promise<void>
  /** The current configurations, fresh for at least half a key's life. */
  published(): Promise<PublishedKeys>
  /** Every key that may still open a request, for the gateway; never an expired one. */
  readonly ring: KeyRing
  /** The boot that vouches for a configuration of this ladder, by the very object; holds after the key was dropped. */
  bootOf(configuration: Bytes): Boot | undefined
  /** Forgets every key. */
  close(): void
}

export interface KeyLadderOptions {
  /** Seconds since the epoch. */
  readonly now: () => number
  /** Everything in the statement that is not a key; any change of it needs a new ladder (P-4.2). */
  readonly statement: Omit<Statement, 'bootId' | 'keys'>
  /** KEMs to publish, preferred first: one configuration each (P-5.4). Default: MLKEM768-X25519 only. */
  readonly kemIds?: readonly number[]
  readonly onEvent?: (event: 'keys.epoch' | 'keys.rotated' | 'keys.dropped', count: number) => void
}

interface BootSecrets {
  readonly boot: Boot
  readonly identityKey: CryptoKey
}

interface Generation {
  readonly published: PublishedKeys
  readonly rotateAt: number
}

/** Draws the first boot's keys. @throws RangeError on a key lifetime outside 2 to 600 s, or other than 1 to 4 KEMs. */
export async function createKeyLadder(options: KeyLadderOptions): Promise<KeyLadder> {
  const { now, statement, kemIds = [KEM_MLKEM768_X25519], onEvent = () => undefined } = options
  const lifetimeS = statement.serving.keyLifetimeS
  if (!Number.isInteger(lifetimeS) || lifetimeS < 2 || lifetimeS > MAX_KEY_LIFETIME_S) {
    throw new RangeError(`key lifetime: expected 2 to ${MAX_KEY_LIFETIME_S} s, got ${lifetimeS}`)
  }
  if (kemIds.length < 1 || kemIds.length > 4) throw new RangeError('expected 1 to 4 KEMs')

  let held: readonly HpkeKey[] = []
  const boots = new WeakMap<Bytes, Boot>()
  let nextKeyId = crypto.getRandomValues(new Uint8Array(1))[0] ?? 0
  let secrets = await createBoot(statement, now())
  let closed = false
  let current = await generation()
  let rotating: Promise<void> | undefined

  async function generation(): Promise<Generation> {
    const at = Math.floor(now())
    // A client whose clock is a little behind must not find the window in its future.
    const notBefore = at - Math.floor(lifetimeS / 20)
    const notAfter = Math.min(notBefore + lifetimeS, secrets.boot.notAfter)
    const keys: HpkeKey[] = []
    const signed: SignedKeyConfiguration[] = []
    for (const kemId of kemIds) {
      const { configuration, privateKey } = await generateKeyConfiguration(freeKeyId(), kemId)
      boots.set(configuration.encoded, secrets.boot)
      keys.push({ configuration, privateKey, notAfter: new Date(1000 * notAfter) })
      signed.push(await sign(secrets, { configuration: configuration.encoded, notBefore, notAfter }))
    }
    if (!closed) held = [...keys, ...held]
    return {
      rotateAt: at + Math.floor((notAfter - at) / 2),
      published: {
        boot: secrets.boot,
        digests: keys.map((key) => configurationHash(key.configuration.encoded)),
        signed: encodeSignedKeyConfigurations(signed),
        plain: encodeKeyConfigurations(keys.map((key) => key.configuration)),
      },
    }
  }

  /** A key id is one byte; requests name keys by it, so no two held keys may share one. */
  function freeKeyId(): number {
    do nextKeyId = (nextKeyId + 1) % 256
    while (held.some((key) => key.configuration.keyId === nextKeyId))
    return nextKeyId
  }

  async function rotate(): Promise<void> {
    const at = now()
    if (at >= secrets.boot.notAfter - 2 * lifetimeS) {
      secrets = await createBoot(statement, at)
      onEvent('keys.epoch', 1)
    }
    current = await generation()
    onEvent('keys.rotated', kemIds.length)
  }

  function drop(): void {
    const atMs = 1000 * now()
    const kept = held.filter((key) => atMs < key.notAfter.getTime())
    if (kept.length === held.length) return
    onEvent('keys.dropped', held.length - kept.length)
    held = kept
  }

  async function refresh(): Promise<void> {
    drop()
    if (closed || now() < current.rotateAt) return
    rotating ??= rotate().finally(() => {
      rotating = undefined
    })
    await rotating
  }

  return {
    refresh,
    async published() {
      await refresh()
      return current.published
    },
    ring: {
      find(keyId) {
        drop()
        return held.find((key) => key.configuration.keyId === keyId)
      },
      retire(key) {
        held = held.filter((candidate) => candidate !== key)
        current = { ...current, rotateAt: 0 }
      },
    },
    bootOf: (configuration) => boots.get(configuration),
    close() {
      closed = true
      held = []
    },
  }
}

async function createBoot(claims: KeyLadderOptions['statement'], at: number): Promise<BootSecrets> {
  const identity = await generateEd25519()
  const receipt = await generateEd25519()
  const statement: Statement = {
    ...claims,
    bootId: crypto.getRandomValues(new Uint8Array(32)),
    keys: { identity: identity.publicKey, receipt: receipt.publicKey },
  }
  const statementBytes = encodeStatement(statement)
  return {
    identityKey: identity.privateKey,
    boot: {
      statement,
      statementBytes,
      statementDigest: sha256(statementBytes),
      receiptKey: receipt.privateKey,
      notAfter: Math.floor(at) + MAX_IDENTITY_LIFETIME_S,
    },
  }
}

async function generateEd25519(): Promise<{ publicKey: Bytes; privateKey: CryptoKey }> {
  const pair = (await crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify'])) as CryptoKeyPair
  return {
    publicKey: new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey)),
    privateKey: pair.privateKey,
  }
}

async function sign(
  { boot, identityKey }: BootSecrets,
  unsigned: Omit<SignedKeyConfiguration, 'signature'>,
): Promise<SignedKeyConfiguration> {
  const message = toBytes(keyConfigurationMessage(boot.statementDigest, unsigned))
  return { ...unsigned, signature: new Uint8Array(await crypto.subtle.sign('Ed25519', identityKey, message)) }
}

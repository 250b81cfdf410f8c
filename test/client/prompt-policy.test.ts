/** Which of the key configurations that an attested worker publishes a prompt may be sealed to (PROTOCOL.md §5). */
import { beforeAll, describe, expect, it } from 'vitest'
import { acceptedKeys, promptPolicy } from '../../client/prompt-policy.js'
import type { PolicyDocument } from '../../verifier/policy.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { KEM_MLKEM768_X25519, KEM_X25519_HKDF_SHA256 } from '../../verifier/protocol/hpke.js'
import {
  encodeSignedKeyConfigurations,
  keyConfigurationMessage,
  type SignedKeyConfiguration,
} from '../../verifier/protocol/key-configuration.js'
import { generateKeyConfiguration } from '../../verifier/protocol/ohttp-generate.js'
import type { VerifiedWorker } from '../../verifier/result.js'

const START = 1_772_366_400
const statementDigest = new Uint8Array(32).fill(7)
let identity: CryptoKeyPair
let identityKey: Bytes
let hybrid: Bytes
let classical: Bytes

beforeAll(async () => {
  identity = await newIdentity()
  identityKey = new Uint8Array(await crypto.subtle.exportKey('raw', identity.publicKey))
  hybrid = (await generateKeyConfiguration(1, KEM_MLKEM768_X25519)).configuration.encoded
  classical = (await generateKeyConfiguration(2, KEM_X25519_HKDF_SHA256)).configuration.encoded
})

const newIdentity = async () =>
  (await crypto.subtle.generateKey({ name: 'Ed25519' }, false, ['sign', 'verify'])) as CryptoKeyPair

async function sign(configuration: Bytes, lifetimeS: number, digest = statementDigest, by = identity) {
  const window = { configuration, notBefore: START, notAfter: START + lifetimeS }
  const message = keyConfigurationMessage(digest, window)
  return { ...window, signature: new Uint8Array(await crypto.subtle.sign('Ed25519', by.privateKey, message)) }
}

/** Indexes of those accepted. */
async function accepted(
  list: readonly SignedKeyConfiguration[],
  document: Omit<PolicyDocument, 'schema'> = {},
  keyLifetimeS = 600,
): Promise<number[]> {
  const worker = {
    statement: { keys: { identity: identityKey }, serving: { keyLifetimeS } },
    statementDigest,
  } as unknown as VerifiedWorker
  const policy = promptPolicy({ schema: 'subrosa-policy/1', ...document })
  const keys = await acceptedKeys(encodeSignedKeyConfigurations(list), worker, policy)
  return keys.map((key) => list.findIndex(({ signature }) => Buffer.from(signature).equals(key.signature)))
}

describe('a prompt is sealed to no key', () => {
  it('that lives longer than 600 s, than the statement says, or than the policy allows (P-5.1)', async () => {
    const list = [await sign(hybrid, 601), await sign(hybrid, 600), await sign(hybrid, 301), await sign(hybrid, 300)]
    expect(await accepted(list)).toEqual([1, 2, 3])
    expect(await accepted(list, {}, 300)).toEqual([3])
    expect(await accepted(list, { freshness: { keySeconds: 300 } })).toEqual([3])
    // A statement that claims more than the protocol allows widens nothing.
    expect(await accepted(list, {}, 86_400)).toEqual([1, 2, 3])
  })

  it('of a suite the policy does not name: by default none that a quantum computer could open', async () => {
    const list = [await sign(classical, 600), await sign(hybrid, 600)]
    expect(await accepted(list)).toEqual([1])
    expect(await accepted(list, { channel: { suites: ['X25519'] } })).toEqual([0])
    expect(await accepted(list, { channel: { suites: ['X25519', 'MLKEM768-X25519'] } })).toEqual([0, 1])
  })

  it('that the attested identity did not sign, or signed under another statement', async () => {
    const foreign = await sign(hybrid, 600, statementDigest, await newIdentity())
    const other = await sign(hybrid, 600, new Uint8Array(32).fill(8))
    const stretched = { ...(await sign(hybrid, 300)), notAfter: START + 600 }
    expect(await accepted([foreign, other, stretched, await sign(hybrid, 600)])).toEqual([3])
  })
})

/** Making OHTTP keys (RFC 9458 §3): the worker's side, kept apart so that reading configurations loads no cryptography. */
import { AEAD_AES_256_GCM, generateKeyPair, type HpkePrivateKey, KDF_HKDF_SHA256 } from './hpke.js'
import { encodeKeyConfiguration, type KeyConfiguration } from './ohttp-keys.js'

/** A fresh key pair and its configuration: one suite, so there is nothing to negotiate. */
export async function generateKeyConfiguration(
  keyId: number,
  kemId: number,
  aeadId: number = AEAD_AES_256_GCM,
): Promise<{ configuration: KeyConfiguration; privateKey: HpkePrivateKey }> {
  const { publicKey, privateKey } = await generateKeyPair(kemId)
  const algorithms = [{ kdfId: KDF_HKDF_SHA256, aeadId }]
  return { configuration: encodeKeyConfiguration({ keyId, kemId, publicKey, algorithms }), privateKey }
}

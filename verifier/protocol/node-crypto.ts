/** What is used of `node:crypto`, whose types a browser build does not have; buffers are views of bytes to whoever reads them. */
export interface NodeCrypto {
  createCipheriv(name: string, key: Uint8Array, nonce: Uint8Array, options: { authTagLength: number }): NodeCipher
  createDecipheriv(name: string, key: Uint8Array, nonce: Uint8Array, options: { authTagLength: number }): NodeDecipher
  createHash(name: string, options?: { outputLength: number }): { update(data: Uint8Array): { digest(): Uint8Array } }
  createHmac(name: string, key: Uint8Array): { update(data: Uint8Array): unknown; digest(): Uint8Array }
  createPrivateKey(key: { key: Uint8Array; format: 'der'; type: 'pkcs8' }): NodeKey
  createPublicKey(
    key:
      | { key: Uint8Array; format: 'der'; type: 'spki' }
      | { key: Uint8Array; format: 'raw-public'; asymmetricKeyType: 'x25519' }
      | { key: { kty: 'OKP'; crv: 'X25519'; x: string }; format: 'jwk' }
      | NodeKey,
  ): NodeKey
  diffieHellman(keys: { privateKey: NodeKey; publicKey: NodeKey }): Uint8Array
  /** From Node 24.7 on. */
  encapsulate?(publicKey: NodeKey): { sharedKey: Uint8Array; ciphertext: Uint8Array }
  decapsulate?(privateKey: NodeKey, ciphertext: Uint8Array): Uint8Array
}

/** A KeyObject. */
export interface NodeKey {
  export(options: { format: 'der'; type: 'spki' }): Uint8Array
}

interface NodeCipher {
  setAAD(aad: Uint8Array): unknown
  update(data: Uint8Array): Uint8Array
  final(): Uint8Array
  getAuthTag(): Uint8Array
}

interface NodeDecipher extends Omit<NodeCipher, 'getAuthTag'> {
  setAuthTag(tag: Uint8Array): unknown
}

/** Asked for at run time, so that no bundler looks for it; undefined outside Node. */
export function nodeCrypto(): NodeCrypto | undefined {
  const { process } = globalThis as { readonly process?: { getBuiltinModule?(name: string): unknown } }
  return process?.getBuiltinModule?.('node:crypto') as NodeCrypto | undefined
}

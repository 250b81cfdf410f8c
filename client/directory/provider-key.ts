/** A provider's key and what it signs. The private key stays in its file, which only its owner may read. Node only. */
import { createPublicKey, generateKeyPair } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { promisify } from 'node:util'
import { CompactSign, importPKCS8 } from 'jose'
import {
  DESCRIPTOR_SCHEMA,
  DESCRIPTOR_TYPE,
  type DescriptorSource,
  MAX_DESCRIPTOR_BYTES,
  parseDescriptorPayload,
} from '../../verifier/directory/descriptor.js'
import { UsageError } from '../../verifier/errors.js'
import { loadFile } from '../../verifier/files.js'
import { fromUtf8, utf8 } from '../../verifier/protocol/bytes.js'

export interface ProviderKey {
  /** Raw Ed25519 public key, 32 bytes, base64url. */
  readonly provider: string
  readonly privateKey: CryptoKey
}

/** A new private key (PKCS #8 PEM), to be written to a file at once. */
export async function createProviderKey(): Promise<string> {
  const { privateKey } = await promisify(generateKeyPair)('ed25519')
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** @throws UsageError when the file is no such key, or others than its owner may read it; messages never quote it. */
export async function loadProviderKey(path: string): Promise<ProviderKey> {
  const pem = fromUtf8(await loadFile(path, 'provider key', 16_384))
  if (process.platform !== 'win32' && ((await stat(path)).mode & 0o077) !== 0) {
    throw new UsageError('option.key', `--key: others may read ${path}; change that first: chmod 600 ${path}`)
  }
  return readProviderKey(pem)
}

/** @throws UsageError, which never quotes the text. */
export async function readProviderKey(pem: string): Promise<ProviderKey> {
  try {
    const privateKey = await importPKCS8(pem, 'EdDSA')
    const { x = '' } = createPublicKey(pem).export({ format: 'jwk' })
    return { provider: x, privateKey }
  } catch {
    throw new UsageError(
      'option.key',
      '--key: expected an Ed25519 private key in PKCS #8 PEM, as subrosa directory key writes it',
    )
  }
}

export interface DescriptorWindow {
  readonly seq: number
  /** Seconds since the epoch. */
  readonly iat: number
  readonly exp: number
}

/** The compact JWS. @throws FormatError on what no reader would take. */
export async function signDescriptor(
  source: DescriptorSource,
  { seq, iat, exp }: DescriptorWindow,
  { provider, privateKey }: ProviderKey,
): Promise<string> {
  const { name, endpoints } = source
  const payload = parseDescriptorPayload({
    schema: DESCRIPTOR_SCHEMA,
    provider,
    ...(name === undefined ? {} : { name }),
    ...{ seq, iat, exp, endpoints },
  })
  const jws = await new CompactSign(utf8(JSON.stringify(payload)))
    .setProtectedHeader({ alg: 'EdDSA', typ: DESCRIPTOR_TYPE })
    .sign(privateKey)
  if (jws.length <= MAX_DESCRIPTOR_BYTES) return jws
  throw new UsageError(
    'option.source',
    `a descriptor has at most ${MAX_DESCRIPTOR_BYTES} characters: list fewer endpoints`,
  )
}

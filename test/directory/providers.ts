/** Providers to make descriptors with: signed by jose directly, not by the code that is tested. */
import { CompactSign } from 'jose'
import type { DescriptorPayload, Endpoint } from '../../verifier/directory/descriptor.js'
import { toBase64Url, utf8 } from '../../verifier/protocol/bytes.js'

export const DAY = 86_400

export interface Provider {
  /** Raw Ed25519 public key, base64url. */
  readonly key: string
  readonly publicKey: Uint8Array<ArrayBuffer>
  payload(change?: Partial<Record<keyof DescriptorPayload, unknown>>): Record<string, unknown>
  sign(payload: unknown, header?: Readonly<Record<string, unknown>>): Promise<string>
  /** A descriptor in order, with these members changed. */
  descriptor(change?: Partial<Record<keyof DescriptorPayload, unknown>>): Promise<string>
}

export const ENDPOINT: Endpoint = {
  url: 'https://gpu7.example.net/',
  region: 'eu-west-1',
  model: { id: 'subrosa-demo', manifest: '15'.repeat(32), weights: '04'.repeat(32) },
  price: { currency: 'USD', inputPerMillion: '0.15', outputPerMillion: '0.60' },
}

/** In force at `now`, for a week from an hour before. */
export async function createProvider(now: Date, endpoints: readonly Endpoint[] = [ENDPOINT]): Promise<Provider> {
  const keys = (await crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify'])) as CryptoKeyPair
  const publicKey = new Uint8Array(await crypto.subtle.exportKey('raw', keys.publicKey))
  const iat = Math.floor(now.getTime() / 1000) - 3600
  const provider: Provider = {
    key: toBase64Url(publicKey),
    publicKey,
    payload: (change = {}) => ({
      schema: 'subrosa-descriptor/1',
      provider: provider.key,
      name: 'Example',
      seq: 7,
      iat,
      exp: iat + 7 * DAY,
      endpoints,
      ...change,
    }),
    sign: (payload, header = {}) =>
      new CompactSign(utf8(JSON.stringify(payload)))
        .setProtectedHeader({ alg: 'EdDSA', typ: 'subrosa-descriptor+jwt', ...header })
        .sign(keys.privateKey),
    descriptor: (change) => provider.sign(provider.payload(change)),
  }
  return provider
}

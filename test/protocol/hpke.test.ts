import { describe, expect, it } from 'vitest'
import { fromHex, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import {
  AEAD_AES_128_GCM,
  AEAD_AES_256_GCM,
  AEAD_CHACHA20_POLY1305,
  generateKeyPair,
  HpkeError,
  importKeyPair,
  KDF_HKDF_SHA256,
  KEM_MLKEM768_X25519,
  KEM_SIZES,
  KEM_X25519_HKDF_SHA256,
  setupBaseR,
  setupBaseS,
} from '../../verifier/protocol/hpke.js'
import { failureOf } from './pieces.js'
import { published } from './published.js'

interface HpkeVector {
  readonly kem_id: number
  readonly kdf_id: number
  readonly aead_id: number
  readonly info: string
  readonly skRm: string
  readonly pkRm: string
  readonly enc: string
  readonly encryptions: readonly { readonly aad: string; readonly ct: string; readonly pt: string }[]
  readonly exports: readonly {
    readonly exporter_context: string
    readonly L: number
    readonly exported_value: string
  }[]
}

/** RFC 9180 Appendix A.1.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, base mode. */
const RFC_9180_A_1_1: HpkeVector = {
  kem_id: KEM_X25519_HKDF_SHA256,
  kdf_id: KDF_HKDF_SHA256,
  aead_id: AEAD_AES_128_GCM,
  info: '4f6465206f6e2061204772656369616e2055726e',
  skRm: '4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8',
  pkRm: '3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d',
  enc: '37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431',
  encryptions: [
    {
      aad: '436f756e742d30',
      pt: '4265617574792069732074727574682c20747275746820626561757479',
      ct: 'f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a',
    },
    {
      aad: '436f756e742d31',
      pt: '4265617574792069732074727574682c20747275746820626561757479',
      ct: 'af2d7e9ac9ae7e270f46ba1f975be53c09f8d875bdc8535458c2494e8a6eab251c03d0c22a56b8ca42c2063b84',
    },
  ],
  exports: [
    { exporter_context: '', L: 32, exported_value: '3853fe2b4035195a573ffc53856e77058e15d9ea064de3e59f4961d0095250ee' },
    {
      exporter_context: '00',
      L: 32,
      exported_value: '2e8f0b54673c7029649d4eb9d5e33bf1872cf76d623ff164ac185da9e88c21a5',
    },
    {
      exporter_context: '54657374436f6e74657874',
      L: 32,
      exported_value: 'e9e43065102c3836401bed8c3c3c75ae46be1639869391d62c61f1ec7af54931',
    },
  ],
}

async function replay(vector: HpkeVector): Promise<void> {
  const suite = { kemId: vector.kem_id, kdfId: vector.kdf_id, aeadId: vector.aead_id }
  const key = await importKeyPair(suite.kemId, fromHex(vector.skRm), fromHex(vector.pkRm))
  const context = await setupBaseR(suite, fromHex(vector.enc), key, fromHex(vector.info))
  for (const { aad, ct, pt } of vector.encryptions) {
    expect(toHex(await context.open(fromHex(aad), fromHex(ct)))).toBe(pt)
  }
  for (const { exporter_context, L, exported_value } of vector.exports) {
    expect(toHex(await context.export(fromHex(exporter_context), L))).toBe(exported_value)
  }
}

describe('HPKE vectors', () => {
  it('RFC 9180 A.1.1 opens and exports', () => replay(RFC_9180_A_1_1))

  const drafts = published<readonly HpkeVector[]>('hpke-pq-draft.json')
  const hybrid = drafts?.filter((v) => v.kem_id === KEM_MLKEM768_X25519 && v.kdf_id === KDF_HKDF_SHA256)
  it.skipIf(hybrid === undefined)('MLKEM768-X25519 of draft-ietf-hpke-pq opens and exports', async () => {
    expect(hybrid).toHaveLength(1)
    for (const vector of hybrid ?? []) await replay(vector)
  })
})

describe.each([
  ['X25519', KEM_X25519_HKDF_SHA256],
  ['MLKEM768-X25519', KEM_MLKEM768_X25519],
])('HPKE with %s', (_, kemId) => {
  const info = utf8('info')
  const aad = utf8('aad')

  it.each([AEAD_AES_128_GCM, AEAD_AES_256_GCM, AEAD_CHACHA20_POLY1305])(
    'AEAD %i: a sequence opens in order, once',
    async (aeadId) => {
      const suite = { kemId, kdfId: KDF_HKDF_SHA256, aeadId }
      const { publicKey, privateKey } = await generateKeyPair(kemId)
      const sender = await setupBaseS(suite, publicKey, info)
      const recipient = await setupBaseR(suite, sender.enc, privateKey, info)
      const first = await sender.seal(aad, utf8('one'))
      const second = await sender.seal(aad, utf8('two'))
      expect(await failureOf(() => recipient.open(aad, second))).toMatchObject({ code: 'hpke.open' })
      expect(await recipient.open(aad, first)).toEqual(utf8('one'))
      expect(await failureOf(() => recipient.open(aad, first))).toMatchObject({ code: 'hpke.open' })
      expect(await recipient.open(aad, second)).toEqual(utf8('two'))
      expect(await sender.export(info, 40)).toEqual(await recipient.export(info, 40))
    },
  )

  it('sizes are those of the registry', async () => {
    const { publicKey } = await generateKeyPair(kemId)
    const { enc } = await setupBaseS({ kemId, kdfId: 1, aeadId: 1 }, publicKey, info)
    expect({ Npk: publicKey.length, Nenc: enc.length }).toMatchObject({
      Npk: KEM_SIZES.get(kemId)?.Npk,
      Nenc: KEM_SIZES.get(kemId)?.Nenc,
    })
  })

  it('refuses keys, encapsulations and suites that are not its own, with a code', async () => {
    const suite = { kemId, kdfId: 1, aeadId: 2 }
    const { publicKey, privateKey } = await generateKeyPair(kemId)
    const other = kemId === KEM_X25519_HKDF_SHA256 ? KEM_MLKEM768_X25519 : KEM_X25519_HKDF_SHA256
    const codes = await Promise.all(
      [
        () => setupBaseS(suite, publicKey.subarray(1), info),
        () => setupBaseR(suite, new Uint8Array(5), privateKey, info),
        () => setupBaseR({ ...suite, kemId: other }, new Uint8Array(5), privateKey, info),
        () => setupBaseS({ ...suite, kdfId: 2 }, publicKey, info),
        () => setupBaseS({ ...suite, aeadId: 0xffff }, publicKey, info),
        () => generateKeyPair(0x0010),
      ].map(async (action) => {
        const error = await failureOf(action)
        expect(error).toBeInstanceOf(HpkeError)
        return (error as HpkeError).code
      }),
    )
    expect(codes).toEqual([
      'hpke.public-key',
      'hpke.decap',
      'hpke.decap',
      'hpke.suite-unsupported',
      'hpke.suite-unsupported',
      'hpke.suite-unsupported',
    ])
  })
})

it('an all-zero X25519 encapsulation is refused (RFC 9180 §7.1.4)', async () => {
  const { privateKey } = await generateKeyPair(KEM_X25519_HKDF_SHA256)
  const suite = { kemId: KEM_X25519_HKDF_SHA256, kdfId: 1, aeadId: 1 }
  expect(await failureOf(() => setupBaseR(suite, new Uint8Array(32), privateKey, utf8('')))).toMatchObject({
    code: 'hpke.decap',
  })
})

it.each([0, 1, 766, 767])(
  'an ML-KEM key is refused when its coefficient %i is out of range (FIPS 203 §7.2)',
  async (at) => {
    const { publicKey } = await generateKeyPair(KEM_MLKEM768_X25519)
    const suite = { kemId: KEM_MLKEM768_X25519, kdfId: 1, aeadId: 1 }
    const withCoefficient = (value: number): Uint8Array => {
      const key = publicKey.slice()
      const first = Math.floor(at / 2) * 3 + (at % 2)
      const [low = 0, high = 0] = key.subarray(first, first + 2)
      key.set(
        at % 2 === 0 ? [value & 255, (high & 0xf0) | (value >> 8)] : [(low & 15) | ((value & 15) << 4), value >> 4],
        first,
      )
      return key
    }
    await setupBaseS(suite, withCoefficient(3328), utf8(''))
    for (const value of [3329, 4095]) {
      expect(await failureOf(() => setupBaseS(suite, withCoefficient(value), utf8('')))).toMatchObject({
        code: 'hpke.encap',
      })
    }
  },
)

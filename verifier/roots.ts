/**
 * Pinned vendor roots: the only keys a chain may end in unless a policy adds its own.
 *
 * A pin is the SHA-256 of the root's SubjectPublicKeyInfo. The root certificates themselves come with the evidence or
 * the endorsements and mean nothing until their key is compared with a pin; a matching name proves nothing.
 */

export type VendorKind = 'snp' | 'tdx' | 'nvidia'

export interface PinnedRoot {
  readonly kind: VendorKind
  /** The product line this root answers for; a vendor with one root for everything has none. */
  readonly product?: string
  /** commonName of the root's subject, for people. */
  readonly name: string
  /** Lower-case hex. */
  readonly spkiSha256Hex: string
  /** Where the certificate was published, and since when it is valid. */
  readonly source: string
  readonly since: string
}

/**
 * AMD Root Keys (AMD 57230, "Certificate chain"): RSA-4096, 25 years. Each was read from AMD's key distribution service
 * and compared with the copies in four independent public verifiers.
 */
export const PINNED_ROOTS: readonly PinnedRoot[] = [
  {
    kind: 'snp',
    product: 'Milan',
    name: 'ARK-Milan',
    spkiSha256Hex: '9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9',
    source: 'kdsintf.amd.com/vcek/v1/Milan/cert_chain',
    since: '2020-10-22',
  },
  {
    kind: 'snp',
    product: 'Genoa',
    name: 'ARK-Genoa',
    spkiSha256Hex: '429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831',
    source: 'kdsintf.amd.com/vcek/v1/Genoa/cert_chain',
    since: '2022-01-26',
  },
  {
    kind: 'snp',
    product: 'Turin',
    name: 'ARK-Turin',
    spkiSha256Hex: '4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08',
    source: 'kdsintf.amd.com/vcek/v1/Turin/cert_chain',
    since: '2023-05-15',
  },
  // Intel SGX Root CA (Intel "SGX PCK Certificate and CRL Profile" 1.5 §3): P-256, to 2049; compared as above.
  {
    kind: 'tdx',
    name: 'Intel SGX Root CA',
    spkiSha256Hex: 'a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e',
    source: 'certificates.trustedservices.intel.com/IntelSGXRootCA.der',
    since: '2018-05-21',
  },
  // NVIDIA has one root for devices and another for reference manifests; neither may answer for the other. P-384. Two
  // self-signed certificates of the device root's key are published.
  {
    kind: 'nvidia',
    product: 'device',
    name: 'NVIDIA Device Identity CA',
    spkiSha256Hex: 'a90c4eb5acfd3e3d03a25db6a26b84f720ad0503196c627c21ddd48dd85b06a4',
    source: 'github.com/NVIDIA/nvtrust guest_tools/gpu_verifiers/local_gpu_verifier/src/verifier/certs',
    since: '2020-01-01',
  },
  {
    kind: 'nvidia',
    product: 'rim',
    name: 'NVIDIA CoRIM signing Root CA',
    spkiSha256Hex: 'dec1dc316477aa851eebdf51327ae9f864bc8d89254657ed1e7eb9168af1e1a3',
    source: 'github.com/NVIDIA/nvtrust guest_tools/gpu_verifiers/local_gpu_verifier/src/verifier/certs',
    since: '2023-03-16',
  },
]

const bySpki = new Map(PINNED_ROOTS.map((root) => [`${root.kind} ${root.spkiSha256Hex}`, root]))

/** The pin for this key, if it is a vendor root of that kind. */
export function findPinnedRoot(kind: VendorKind, spkiSha256Hex: string): PinnedRoot | undefined {
  return bySpki.get(`${kind} ${spkiSha256Hex}`)
}

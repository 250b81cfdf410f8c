/**
 * Who may vouch for the keys NVIDIA's remote verifier signs with: the intermediate every key of its published set stood
 * under when it was read. Its own issuer is not published. It will be replaced in time; a policy may name others.
 */
export const NRAS_INTERMEDIATES: readonly string[] = [
  // NVIDIA Attestation Service GPU Intermediate 004, RSA-2048, 2025-12-08 to 2029-12-08; x5c[1] of the published key set.
  'fd32837f954e2c45db073105166dfe6985ae0480bb113fba63b091a75affe896',
]

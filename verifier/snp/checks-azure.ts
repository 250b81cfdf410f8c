/** Checks of evidence a cloud paravisor wraps: the Azure HCL envelope, and a vTPM quote under the key it names. */
import type { CheckDefinition } from '../checks.js'

const HCL = 'Azure HCL report (HCLA envelope)'
const TPM = 'TPM 2.0 Library Part 2'

export const HCL_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'snp.hcl.claims',
    title: 'REPORT_DATA is the hash of the envelope’s runtime claims, followed by zeros',
    spec: `${HCL}, runtime data`,
    gain: 'Claims, and the attestation key in them, could be swapped under a genuine report.',
    needs: ['snp.report.signature'],
  },
]

export const VTPM_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'snp.tpm.key',
    title: 'The claims hold one RSA attestation key, HCLAkPub',
    spec: `${HCL}, runtime claims; RFC 7517`,
    gain: 'A quote could be checked under a key of the sender’s choice.',
    needs: ['snp.hcl.claims'],
  },
  {
    id: 'snp.tpm.quote',
    title: 'The vTPM evidence is a TPM-made quote',
    spec: `${TPM} §10.12.8 TPMS_ATTEST, TPM_GENERATED_VALUE, TPM_ST_ATTEST_QUOTE`,
    gain: 'Other signed TPM structures, or bytes made outside the TPM, could pass for a quote.',
    advice: 'Pass evidence with its TPM quote: the nonce is in the quote, never in REPORT_DATA.',
    needs: ['snp.report.parse'],
  },
  {
    id: 'snp.tpm.signature',
    title: 'The quote is signed by that key, RSASSA-PKCS1-v1_5 with SHA-256',
    spec: `${TPM} §11.2.4 TPMT_SIGNATURE`,
    gain: 'A quote from another machine could be attached to this report.',
    needs: ['snp.tpm.key', 'snp.tpm.quote'],
  },
  {
    id: 'snp.tpm.nonce',
    title: 'The quote’s qualifying data is the expected nonce',
    spec: `${TPM} §10.12.8 TPMS_ATTEST extraData`,
    gain: 'A recorded quote could be replayed.',
    needs: ['snp.tpm.signature'],
  },
  {
    id: 'snp.tpm.pcrs',
    title: 'The PCR values carried are the ones the quote digests',
    spec: `${TPM} §10.12.1 TPMS_QUOTE_INFO`,
    gain: 'Boot measurements could be invented beside a genuine quote.',
    needs: ['snp.tpm.signature'],
  },
]

/** Checks that decide whether an authentic report is acceptable. All of them follow the signature: before it, nothing counts. */
import type { CheckDefinition } from '../checks.js'
import { PLATFORM_BITS, type PlatformBitName, POLICY_BITS, type PolicyBitName } from './bits.js'

const ABI = 'AMD 56860'
const SIGNED: readonly string[] = ['snp.report.signature']
const SIGNED_CHAIN: readonly string[] = ['snp.report.signature', 'snp.chain.issuer']

/** Check id of each guest policy bit. */
export const POLICY_BIT_CHECKS: Readonly<Record<PolicyBitName, string>> = {
  debug: 'snp.policy.debug',
  migrateMa: 'snp.policy.migrate-ma',
  smt: 'snp.policy.smt',
  cxl: 'snp.policy.cxl',
  singleSocket: 'snp.policy.single-socket',
  memAes256Xts: 'snp.policy.aes-xts',
  raplDis: 'snp.policy.rapl',
  ciphertextHiding: 'snp.policy.ciphertext-hiding',
  pageSwapDisable: 'snp.policy.page-swap',
}

/** Check id of each platform bit. */
export const PLATFORM_BIT_CHECKS: Readonly<Record<PlatformBitName, string>> = {
  smt: 'snp.platform.smt',
  tsme: 'snp.platform.tsme',
  ecc: 'snp.platform.ecc',
  raplDis: 'snp.platform.rapl',
  ciphertextHiding: 'snp.platform.ciphertext-hiding',
  aliasCheck: 'snp.platform.alias-check',
  tio: 'snp.platform.tio',
}

const POLICY_GAINS: Readonly<Record<PolicyBitName, string>> = {
  debug: 'The host can read and write all of the guest’s memory through the firmware.',
  migrateMa: 'A migration agent can move the guest, keys included, to another machine.',
  smt: 'A sibling thread of the same core can watch the guest’s timing.',
  cxl: 'The guest’s memory may sit on a device outside the processor’s socket.',
  singleSocket: 'The guest’s memory traffic may cross the link between sockets.',
  memAes256Xts: 'Memory may be encrypted in a weaker mode.',
  raplDis: 'Power readings can leak what the guest computes.',
  ciphertextHiding: 'The host can watch ciphertext of the guest’s memory change.',
  pageSwapDisable: 'The host may swap the guest’s pages out and back.',
}

const PLATFORM_GAINS: Readonly<Record<PlatformBitName, string>> = {
  smt: 'A sibling thread of the same core can watch the guest’s timing.',
  tsme: 'Memory that no guest key covers is not encrypted.',
  ecc: 'Flipped memory bits go unnoticed.',
  raplDis: 'Power readings can leak what the guest computes.',
  ciphertextHiding: 'The host can watch ciphertext of the guest’s memory change.',
  aliasCheck: 'Memory modules that lie about their size alias guest pages (AMD-SB-3015).',
  tio: 'Devices may be assigned into the guest’s trust boundary.',
}

const policyBits: readonly CheckDefinition[] = (Object.keys(POLICY_BITS) as PolicyBitName[]).map((name) => {
  const { bit, spec, direction } = POLICY_BITS[name]
  return {
    id: POLICY_BIT_CHECKS[name],
    title:
      direction === 'permissive'
        ? `Guest policy ${spec} is off, where your policy forbids it`
        : `Guest policy ${spec} is on, where your policy requires it`,
    spec: `${ABI} Guest Policy bit ${bit}`,
    gain: POLICY_GAINS[name],
    advice: `ask the provider to launch ${direction === 'permissive' ? 'without' : 'with'} ${spec} in the guest policy`,
    needs: SIGNED,
  }
})

const platformBits: readonly CheckDefinition[] = (Object.keys(PLATFORM_BITS) as PlatformBitName[]).map((name) => {
  const { bit, spec, direction } = PLATFORM_BITS[name]
  return {
    id: PLATFORM_BIT_CHECKS[name],
    title:
      direction === 'riskier'
        ? `The platform’s ${spec} is off, where your policy forbids it`
        : `The platform’s ${spec} is on, where your policy requires it`,
    spec: `${ABI} PLATFORM_INFO bit ${bit}`,
    gain: PLATFORM_GAINS[name],
    needs: SIGNED,
  }
})

export const APPRAISAL_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'snp.product.allowed',
    title: 'The processor is of a product line your policy accepts',
    spec: 'AMD 57230 §2',
    gain: 'A line whose chip secrets have been extracted could answer for a safer one.',
    needs: SIGNED_CHAIN,
  },
  {
    id: 'snp.vek.signer',
    title: 'The report is signed by a kind of key your policy accepts',
    spec: `${ABI} ATTESTATION_REPORT SIGNING_KEY`,
    gain: 'A key the cloud provider shares among hosts could answer where you asked for one chip’s own.',
    needs: SIGNED,
  },
  {
    id: 'snp.vek.csp-id',
    title: 'A VLEK’s CSP_ID is one your policy names, if it names any',
    spec: 'AMD 57230 §3.1 CSP_ID',
    gain: 'Another provider’s VLEK could answer.',
    needs: ['snp.report.signature', 'snp.vek.extensions'],
  },
  {
    id: 'snp.chip-id',
    title: 'CHIP_ID is one your policy names, if it names any',
    spec: `${ABI} ATTESTATION_REPORT CHIP_ID`,
    gain: 'Another machine could answer.',
    needs: SIGNED,
  },
  {
    id: 'snp.policy.reserved',
    title: 'Guest policy bit 17 is one and bits 26 to 63 are zero',
    spec: `${ABI} Guest Policy`,
    gain: 'A policy firmware would refuse, or one with meanings not yet known, could pass.',
    needs: SIGNED,
  },
  ...policyBits,
  {
    id: 'snp.policy.abi',
    title: 'The guest insists on at least the firmware ABI your policy names',
    spec: `${ABI} Guest Policy ABI_MAJOR, ABI_MINOR`,
    gain: 'The guest could be moved onto older firmware.',
    needs: SIGNED,
  },
  {
    id: 'snp.policy.vmpl',
    title: 'The report was requested at a privilege level your policy accepts',
    spec: `${ABI} ATTESTATION_REPORT VMPL`,
    gain: 'Less trusted code inside the guest, or the host, could obtain a report with the same MEASUREMENT.',
    advice: 'If your guest’s kernel runs at a lower level on this cloud, name that level in the policy.',
    needs: SIGNED,
  },
  {
    id: 'snp.tcb.floor',
    title: 'REPORTED_TCB and COMMITTED_TCB reach the floor in every component',
    spec: `${ABI} TCB_VERSION; AMD-SB-3019, AMD-SB-3015`,
    gain: 'A key extracted on old firmware signs for ever at that firmware’s level.',
    advice: 'Ask the provider to update firmware, or set --tcb-floor knowing what it admits.',
    needs: ['snp.report.signature', 'snp.product.issuer'],
  },
  {
    id: 'snp.tcb.provisional',
    title: 'CURRENT firmware is COMMITTED firmware, where your policy insists',
    spec: `${ABI} CURRENT_TCB, COMMITTED_TCB, SNP_COMMIT`,
    gain: 'The host could roll the firmware back after you looked.',
    needs: SIGNED_CHAIN,
  },
  ...platformBits,
  {
    id: 'snp.platform.mitigations',
    title: 'The mitigation vectors have every bit your policy requires',
    spec: `${ABI} ATTESTATION_REPORT LAUNCH_MIT_VECTOR, CURRENT_MIT_VECTOR`,
    gain: 'A platform without the mitigations you rely on could answer.',
    needs: SIGNED,
  },
  {
    id: 'snp.report-data',
    title: 'REPORT_DATA is the expected value in all 64 bytes',
    spec: `${ABI} ATTESTATION_REPORT REPORT_DATA`,
    gain: 'A recorded report, or one made for somebody else’s key, could be replayed.',
    needs: SIGNED,
  },
  {
    id: 'snp.host-data',
    title: 'HOST_DATA is one your policy names, if it names any',
    spec: `${ABI} ATTESTATION_REPORT HOST_DATA`,
    gain: 'The guest could have been launched with another configuration.',
    needs: SIGNED,
  },
  {
    id: 'snp.guest-svn',
    title: 'GUEST_SVN is at least what your policy names',
    spec: `${ABI} ATTESTATION_REPORT GUEST_SVN`,
    gain: 'An older guest of the same owner could answer.',
    needs: SIGNED,
  },
  {
    id: 'snp.family-id',
    title: 'FAMILY_ID is one your policy names, if it names any',
    spec: `${ABI} ATTESTATION_REPORT FAMILY_ID`,
    gain: 'Another family of guests could answer.',
    needs: SIGNED,
  },
  {
    id: 'snp.image-id',
    title: 'IMAGE_ID is one your policy names, if it names any',
    spec: `${ABI} ATTESTATION_REPORT IMAGE_ID`,
    gain: 'Another image could answer.',
    needs: SIGNED,
  },
  {
    id: 'snp.report-id',
    title: 'REPORT_ID is one your policy names, if it names any',
    spec: `${ABI} ATTESTATION_REPORT REPORT_ID`,
    gain: 'Another instance of the same guest could answer.',
    needs: SIGNED,
  },
  {
    id: 'snp.id-key-digest',
    title: 'ID_KEY_DIGEST is one your policy names, if it names any',
    spec: `${ABI} ATTESTATION_REPORT ID_KEY_DIGEST, ID_BLOCK`,
    gain: 'A guest signed by somebody else could answer.',
    needs: SIGNED,
  },
  {
    id: 'snp.author-key-digest',
    title: 'AUTHOR_KEY_DIGEST is one your policy names and an author key is in use, if it names any',
    spec: `${ABI} ATTESTATION_REPORT AUTHOR_KEY_DIGEST, AUTHOR_KEY_EN`,
    gain: 'An ID key no author of yours certified could have signed the guest.',
    needs: SIGNED,
  },
]

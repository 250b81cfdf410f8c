/** Every check this verifier can make, by id, in the order plans use them. */
import { bundlePlan } from './appraise.js'
import { endorsementAgeCheck } from './bundle-checks.js'
import type { CheckDefinition } from './checks.js'
import { SNP } from './cpu-snp.js'
import { TDX } from './cpu-tdx.js'
import { DESCRIPTOR_CHECKS, LISTING_CHECKS } from './directory/checks.js'
import { ALL_GPU_CHECKS } from './gpu/checks.js'
import { RECEIPT_CHECKS } from './receipt.js'
import { RECEIPT_CHAIN_CHECK } from './receipt-chain.js'
import { releaseChecks } from './release/checks.js'

export const ALL_CHECKS: ReadonlyMap<string, CheckDefinition> = new Map(
  [
    ...[SNP, TDX].flatMap((vendor) => [
      ...bundlePlan(vendor, [], releaseChecks(vendor.signatureCheck), [endorsementAgeCheck(vendor.signatureCheck)]),
      ...vendor.allChecks,
    ]),
    ...ALL_GPU_CHECKS,
    ...RECEIPT_CHECKS,
    RECEIPT_CHAIN_CHECK,
    ...DESCRIPTOR_CHECKS,
    ...LISTING_CHECKS,
  ].map((check) => [check.id, check]),
)

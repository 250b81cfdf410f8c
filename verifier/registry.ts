/** Every check this verifier can make, by id, in the order plans use them. */
import { bundlePlan } from './appraise.js'
import type { CheckDefinition } from './checks.js'
import { SNP } from './cpu.js'
import { RECEIPT_CHECKS } from './receipt.js'
import { ALL_SNP_CHECKS } from './snp/checks.js'

export const ALL_CHECKS: ReadonlyMap<string, CheckDefinition> = new Map(
  [...bundlePlan(SNP), ...ALL_SNP_CHECKS, ...RECEIPT_CHECKS].map((check) => [check.id, check]),
)

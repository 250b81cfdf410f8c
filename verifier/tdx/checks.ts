/**
 * Every TDX check, in verification order: authentic first, then Intel's collateral and the TCB, then what your policy
 * accepts. Definitions only; `verify.ts` carries them out.
 */
import type { CheckDefinition } from '../checks.js'
import { APPRAISAL_CHECKS } from './checks-appraisal.js'
import { AUTHENTICITY_CHECKS } from './checks-authenticity.js'
import { COLLATERAL_CHECKS } from './checks-collateral.js'

/** What every TDX quote goes through. */
export const TDX_CHECKS: readonly CheckDefinition[] = [
  ...AUTHENTICITY_CHECKS,
  ...COLLATERAL_CHECKS,
  ...APPRAISAL_CHECKS,
]

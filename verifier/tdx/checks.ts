/**
 * Every TDX check, in verification order: authentic first, then Intel's collateral and the TCB, then what your policy
 * accepts. Definitions only; `verify.ts` carries them out.
 */
import type { CheckDefinition } from '../checks.js'
import { TDX_HCL_CHECKS, TDX_VTPM_CHECKS } from './azure-checks.js'
import { APPRAISAL_CHECKS } from './checks-appraisal.js'
import { AUTHENTICITY_CHECKS } from './checks-authenticity.js'
import { COLLATERAL_CHECKS } from './checks-collateral.js'

export { TDX_HCL_CHECKS, TDX_VTPM_CHECKS }

/** What every TDX quote goes through. */
export const TDX_CHECKS: readonly CheckDefinition[] = [
  ...AUTHENTICITY_CHECKS,
  ...COLLATERAL_CHECKS,
  ...APPRAISAL_CHECKS,
]

/** Every TDX check there is, for registries. */
export const ALL_TDX_CHECKS: readonly CheckDefinition[] = [...TDX_CHECKS, ...TDX_HCL_CHECKS, ...TDX_VTPM_CHECKS]

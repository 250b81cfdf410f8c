/**
 * Every SNP check, in verification order: authentic first, acceptable second. Definitions only; `verify.ts` carries them out.
 */
import type { CheckDefinition } from '../checks.js'
import { APPRAISAL_CHECKS } from './checks-appraisal.js'
import { AUTHENTICITY_CHECKS } from './checks-authenticity.js'
import { HCL_CHECKS, VTPM_CHECKS } from './checks-azure.js'

export { HCL_CHECKS, VTPM_CHECKS }

/** What every SNP report goes through. */
export const SNP_CHECKS: readonly CheckDefinition[] = [...AUTHENTICITY_CHECKS, ...APPRAISAL_CHECKS]

/** Every SNP check there is, for registries. */
export const ALL_SNP_CHECKS: readonly CheckDefinition[] = [...SNP_CHECKS, ...HCL_CHECKS, ...VTPM_CHECKS]

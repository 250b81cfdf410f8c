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

/** What evidence from an Azure paravisor goes through besides. */
export const TDX_HCL_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'tdx.hcl.claims',
    title: 'REPORTDATA is the hash of the envelope’s runtime claims, followed by zeros',
    spec: 'Azure HCL report (HCLA envelope), runtime data',
    gain: 'Claims, and the attestation key in them, could be swapped under a genuine quote.',
    needs: ['tdx.quote.signature'],
  },
]

/** Every TDX check there is, for registries. */
export const ALL_TDX_CHECKS: readonly CheckDefinition[] = [...TDX_CHECKS, ...TDX_HCL_CHECKS]

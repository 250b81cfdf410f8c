/** What the form says: a policy with what was given up, endorsements and roots. Caller mistakes throw before any network. */
import { type EndorsementPool, sortEndorsements } from '../../verifier/endorsements.js'
import { UsageError } from '../../verifier/errors.js'
import { readInstant } from '../../verifier/instant.js'
import { type AppraisalPolicy, STRICT_POLICY } from '../../verifier/policy.js'
import { parsePolicy } from '../../verifier/policy-text.js'
import { parseTrustAnchors } from '../../verifier/trust-anchors.js'
import { byId } from './dom.js'

export interface Inputs {
  readonly policy: AppraisalPolicy
  readonly endorsements: EndorsementPool
  readonly at?: Date
}

/** @throws UsageError or PolicyError naming the field. */
export async function readInputs(): Promise<Inputs> {
  const [policyFile] = filesOf('policy')
  const base =
    policyFile === undefined
      ? STRICT_POLICY
      : await parsePolicy(new Uint8Array(await policyFile.arrayBuffer()), policyFile.name)
  const anchors = []
  for (const file of filesOf('roots')) anchors.push(...parseTrustAnchors(new Uint8Array(await file.arrayBuffer())))
  const checked = (id: string): boolean => byId(id, HTMLInputElement).checked
  const policy: AppraisalPolicy = {
    ...base,
    trustAnchors: [...base.trustAnchors, ...anchors],
    ...(checked('any-measurement') ? { measurements: 'any' as const, releases: undefined } : {}),
    ...(checked('any-model') ? { model: 'any' as const } : {}),
    ...(checked('no-gpu') ? { gpu: 'none' as const } : {}),
  }
  if (policy.releases === undefined && (policy.model === 'release' || policy.image === 'release')) {
    throw new UsageError(
      'option.any-measurement',
      'your policy takes its model or image from releases, which you gave up',
    )
  }
  const endorsements = await Promise.all(
    filesOf('endorsements').map(async (file) => ({
      name: file.name,
      bytes: new Uint8Array(await file.arrayBuffer()),
    })),
  )
  const at = timeFrom(byId('at', HTMLInputElement).value.trim())
  return { policy, endorsements: sortEndorsements(endorsements), ...(at === undefined ? {} : { at }) }
}

function filesOf(id: string): readonly File[] {
  return [...(byId(id, HTMLInputElement).files ?? [])]
}

function timeFrom(text: string): Date | undefined {
  if (text === '') return undefined
  const time = readInstant(text)
  if (time !== undefined) return time
  throw new UsageError('option.time', 'the time: expected RFC 3339, such as 2026-03-01T00:00:00Z')
}

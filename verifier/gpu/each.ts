/** One check over several things: the worst finding decides, and its reason says which of them it is about. */
import { type Finding, fail, pass, unavailable } from '../checks.js'
import { FormatError } from '../protocol/errors.js'

export interface Named<T> {
  /** `GPU 3`, `driver manifest 550.90.07` …; left out of reasons when there is only one. */
  readonly name: string
  readonly item: T
}

/**
 * Fails when any item fails, else is unavailable when any is, else waived when any is, else passes. A FormatError raised
 * about an item is that item's failure. With one item its detail is kept.
 */
export async function judgeEach<T>(
  items: readonly Named<T>[],
  judge: (item: T, index: number) => Finding | Promise<Finding>,
): Promise<Finding> {
  const findings: { name: string; finding: Finding }[] = []
  for (const [index, { name, item }] of items.entries()) {
    findings.push({ name, finding: await guarded(() => judge(item, index)) })
  }
  const [only] = findings
  if (findings.length === 1 && only !== undefined) return only.finding
  const failed = reasons(findings, 'fail')
  if (failed !== undefined) return fail(failed)
  const missing = reasons(findings, 'skip', 'unavailable')
  if (missing !== undefined) return unavailable(missing)
  const given = findings.find(({ finding }) => finding.status === 'skip')?.finding
  return given ?? pass()
}

const MAX_REASONS = 4

function reasons(
  findings: readonly { name: string; finding: Finding }[],
  status: Finding['status'],
  cause?: 'unavailable',
): string | undefined {
  const hits = findings.flatMap(({ name, finding }) => {
    if (finding.status !== status || finding.status === 'pass') return []
    if (finding.status === 'skip' && finding.cause !== cause) return []
    return [`${name}: ${finding.reason}${detailOf(finding)}`]
  })
  if (hits.length === 0) return undefined
  const more = hits.length - MAX_REASONS
  return hits.slice(0, MAX_REASONS).join('; ') + (more > 0 ? `; and ${more} more` : '')
}

function detailOf(finding: Finding): string {
  const { expected, actual } = finding.detail ?? {}
  if (expected === undefined && actual === undefined) return ''
  return ` (${[expected === undefined ? '' : `expected ${expected}`, actual === undefined ? '' : `found ${actual}`].filter((part) => part !== '').join(', ')})`
}

async function guarded(judge: () => Finding | Promise<Finding>): Promise<Finding> {
  try {
    return await judge()
  } catch (error) {
    if (error instanceof FormatError) return fail(error.message)
    throw error
  }
}

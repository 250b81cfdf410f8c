/** The receipts of one session, as far as its client kept them. */

export interface Link {
  readonly seq: number
  readonly prev: string | null
  readonly digest: string
}

/** Numbers only rise, neighbours name each other, and no more are missing than answers were abandoned. */
export function gapsOf(chain: readonly Link[], abandoned: number): string[] {
  const out: string[] = []
  for (const [i, { seq, prev }] of chain.entries()) {
    const before = chain[i - 1]
    const last = before?.seq ?? -1
    if (seq <= last) out.push('receipt numbers do not rise')
    if (seq === last + 1 && prev !== (before?.digest ?? null)) out.push('a receipt names another as the one before')
  }
  const missing = (chain.at(-1)?.seq ?? -1) + 1 - chain.length
  if (missing > abandoned) out.push(`${missing} receipts are missing, ${abandoned} answers were abandoned`)
  return out
}

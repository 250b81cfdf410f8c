/**
 * Receipts of one session in a row (PROTOCOL.md §10): each names the one before it by digest, and their numbers leave no
 * gap. A dropped, repeated, reordered or invented answer breaks the chain.
 */
import {
  type Check,
  type CheckDefinition,
  type Finding,
  fail,
  pass,
  Transcript,
  type Verdict,
  waived,
} from './checks.js'
import { type ReceiptContext, type ReceiptResult, receiptDigest, verifyReceipt } from './receipt.js'

export const RECEIPT_CHAIN_CHECK: CheckDefinition = {
  id: 'receipt.chain',
  title: 'It follows the receipt before it in the same session, with none left out',
  spec: 'PROTOCOL.md §10',
  gain: 'Somebody could hide an answer, or show a session’s answers in another order.',
}

export interface ChainedReceipt extends ReceiptResult {
  readonly jws: string
}

/** Checks every receipt, and with two or more the chain they form in the order given. Never throws on their contents. */
export async function verifyReceipts(jwss: readonly string[], context: ReceiptContext): Promise<ChainedReceipt[]> {
  const out: ChainedReceipt[] = []
  for (const jws of jwss) {
    const result = await verifyReceipt(jws, context)
    if (jwss.length === 1) out.push({ ...result, jws })
    else {
      const t = new Transcript([RECEIPT_CHAIN_CHECK])
      t.check('receipt.chain', () => follows(out.at(-1), result))
      out.push({ ...result, ...together(result, t), jws })
    }
  }
  return out
}

function follows(before: ChainedReceipt | undefined, { payload }: ReceiptResult): Finding {
  if (payload === undefined) return fail('it cannot be read')
  const { session, seq, prev } = payload
  if (before === undefined) {
    return session === null || (seq === 0 && prev === null)
      ? pass()
      : waived('it is the first one given: those before it are not known')
  }
  const last = before.payload
  if (last === undefined) return fail('the receipt before it cannot be read')
  if (session === null && last.session === null) return waived('neither is of a session: nothing chains them')
  if (session !== last.session) return fail('it is of another session')
  if (last.seq === null || seq !== last.seq + 1) {
    return fail('its number does not follow', { expected: `${(last.seq ?? -1) + 1}`, actual: `${seq}` })
  }
  const expected = receiptDigest(before.jws)
  return prev === expected
    ? pass()
    : fail('it names another receipt as the one before', { expected, actual: `${prev}` })
}

function together(
  result: ReceiptResult,
  chain: Transcript,
): { readonly verdict: Verdict; readonly checks: readonly Check[] } {
  const verdict = result.verdict === 'accepted' ? chain.verdict() : result.verdict
  return { verdict, checks: [...result.checks, ...chain.checks()] }
}

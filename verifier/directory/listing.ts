/** What a provider says of a worker, against what was proven of that worker, and of its receipts (PROTOCOL.md §15). */
import { type Check, fail, pass, Transcript, type Verdict } from '../checks.js'
import { toBase64Url, toHex } from '../protocol/bytes.js'
import type { ReceiptPayload } from '../protocol/receipt.js'
import type { Statement } from '../protocol/statement.js'
import { LISTING_CHECKS } from './checks.js'
import type { Endpoint, ListedPrice } from './descriptor.js'
import { nanosOf } from './price.js'

/** One endpoint of an accepted descriptor, and whose it is. */
export interface Listing {
  /** Raw Ed25519 public key, base64url. */
  readonly provider: string
  /** What the provider calls itself. */
  readonly name?: string
  readonly endpoint: Endpoint
}

const MODEL_REASONS = [
  ['weights', 'the worker serves other weights than its provider lists'],
  ['manifest', 'the worker serves another package of those weights than its provider lists'],
  ['id', 'the worker serves its model under another name than its provider lists'],
] as const

/** `statement` is that of an accepted live result. */
export function verifyListing(
  { provider, endpoint }: Listing,
  { model, operatorKey }: Pick<Statement, 'model' | 'operatorKey'>,
): { readonly verdict: Verdict; readonly checks: readonly Check[] } {
  const t = new Transcript(LISTING_CHECKS)
  t.check('listing.model', () => {
    const attested = { weights: toHex(model.weightsRoot), manifest: toHex(model.manifestDigest), id: model.id }
    for (const [member, reason] of MODEL_REASONS) {
      const [expected, actual] = [endpoint.model[member], attested[member]]
      if (expected !== actual) return fail(reason, { expected, actual })
    }
    return pass()
  })
  t.check('listing.operator', () => {
    if (operatorKey === undefined || toBase64Url(operatorKey) === provider) return pass()
    return fail('the worker’s own configuration names another operator than the provider that lists it', {
      expected: provider,
      actual: toBase64Url(operatorKey),
    })
  })
  return { verdict: t.verdict(), checks: t.checks() }
}

/**
 * Whether an answer's receipt asks for no more than was listed. `unstated` where either says nothing of a price, as the
 * receipts of this version all do.
 */
export function priceHeld(
  { price, usage }: Pick<ReceiptPayload, 'price' | 'usage'>,
  listed: ListedPrice | null,
): 'unstated' | 'held' | 'above' {
  if (price === null || listed === null) return 'unstated'
  const asked = nanosOf(price.amount)
  if (asked === undefined || price.currency !== listed.currency) return 'above'
  const most =
    BigInt(Math.max(0, usage.prompt_tokens)) * (nanosOf(listed.inputPerMillion) ?? 0n) +
    BigInt(Math.max(0, usage.completion_tokens)) * (nanosOf(listed.outputPerMillion) ?? 0n)
  return asked * 1_000_000n <= most ? 'held' : 'above'
}

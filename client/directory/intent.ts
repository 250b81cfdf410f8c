/** What a client wants of a worker, and whether what a provider lists fits it. All of it goes by the provider's own word. */
import type { Endpoint, ListedPrice } from '../../verifier/directory/descriptor.js'
import { nanosOf } from '../../verifier/directory/price.js'
import { UsageError } from '../../verifier/errors.js'
import type { AppraisalPolicy } from '../../verifier/policy.js'

/** Most a client pays for a million tokens; in no other currency than this. */
export interface PriceCap {
  readonly currency: string
  readonly inputPerMillion: string
  readonly outputPerMillion: string
}

export interface Intent {
  /**
   * Manifest or weights digest, 64 hexadecimal digits, which then also names the model for a policy that names none; or a model
   * id, which anybody may give to anything: the policy has to say what it may stand for.
   */
  readonly model: string
  /** Without it any price will do. Nothing attests a price: a cap keeps dear workers out, and no liar. */
  readonly maxPrice?: PriceCap
  /** `eu` also takes `eu-west-1`. Nothing attests a region. */
  readonly regions?: readonly string[]
  /** Which of several verified workers is the best. Default: `latency`. `price` needs `maxPrice`, for its currency. */
  readonly prefer?: 'latency' | 'price'
  /** Slowest answer to a request for evidence that will do, in milliseconds. */
  readonly maxLatencyMs?: number
}

/** @throws UsageError on an intent that cannot be meant, before any network. */
export function checkIntent(intent: Intent): void {
  const { model, maxPrice, regions, prefer, maxLatencyMs } = intent
  const refuse = (reason: string): never => {
    throw new UsageError('intent.invalid', `intent: ${reason}`)
  }
  if (typeof model !== 'string' || !/^[a-z0-9][a-z0-9._-]{0,99}$/i.test(model)) {
    refuse('expected model: a model id, or a manifest or weights digest of 64 hexadecimal digits')
  }
  if (maxPrice !== undefined) {
    const { currency, inputPerMillion, outputPerMillion } = maxPrice
    const amounts = [inputPerMillion, outputPerMillion].map((amount) => nanosOf(String(amount)))
    if (!/^[A-Z]{3,8}$/.test(currency) || amounts.includes(undefined)) {
      refuse(
        'expected maxPrice: a currency such as USD, and decimal numbers such as 0.50 for a million tokens in and out',
      )
    }
  }
  if (regions?.length === 0 || regions?.some((region) => !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(region))) {
    refuse('expected regions such as eu or eu-west-1')
  }
  if (prefer !== undefined && prefer !== 'latency' && prefer !== 'price') refuse('expected prefer: latency or price')
  if (prefer === 'price' && maxPrice === undefined)
    refuse('prefer: price needs maxPrice: prices are compared in one currency')
  if (maxLatencyMs !== undefined && !(maxLatencyMs > 0)) refuse('expected maxLatencyMs: a number of milliseconds')
}

const isDigest = (model: string): boolean => /^[0-9a-f]{64}$/i.test(model)

/**
 * The policy under which candidates are verified: one that names no model, or accepts any, accepts the intent's digest only. What
 * another one names stays as it is, and the intent's digest has to hold besides.
 */
export function policyFor({ model }: Intent, policy: AppraisalPolicy): AppraisalPolicy {
  const named = typeof policy.model === 'object' ? policy.model.digests.length > 0 : policy.model === 'release'
  return named || !isDigest(model) ? policy : { ...policy, model: { digests: [model.toLowerCase()] } }
}

/** Why a listed worker is not what is wanted; undefined when it may be. */
export function misfitOf(endpoint: Endpoint, { model, maxPrice, regions }: Intent): string | undefined {
  const { id, manifest, weights } = endpoint.model
  const listed = isDigest(model) ? [manifest, weights] : [id]
  if (!listed.includes(isDigest(model) ? model.toLowerCase() : model)) return `it serves ${id}`
  if (regions !== undefined && !regions.some((region) => `${endpoint.region}-`.startsWith(`${region}-`))) {
    return `it stands in ${endpoint.region}`
  }
  return maxPrice === undefined ? undefined : overCap(endpoint.price, maxPrice)
}

function overCap(price: ListedPrice | null, cap: PriceCap): string | undefined {
  if (price === null) return 'it lists no price'
  if (price.currency !== cap.currency) return `its price is in ${price.currency}, the cap in ${cap.currency}`
  const over = (['inputPerMillion', 'outputPerMillion'] as const).find(
    (side) => (nanosOf(price[side]) ?? 0n) > (nanosOf(cap[side]) ?? 0n),
  )
  return over === undefined ? undefined : `over the price cap: ${price[over]} against ${cap[over]} ${cap.currency}`
}

/** For comparing prices of one currency; no price is the dearest. */
export function comparePrices(a: ListedPrice | null, b: ListedPrice | null): number {
  if (a === null || b === null) return Number(a === null) - Number(b === null)
  const sum = (price: ListedPrice) => (nanosOf(price.inputPerMillion) ?? 0n) + (nanosOf(price.outputPerMillion) ?? 0n)
  const difference = sum(a) - sum(b)
  return difference < 0n ? -1 : difference > 0n ? 1 : 0
}

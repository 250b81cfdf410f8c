/** What the inputs and outputs of a decoder graph are called. */

/** The output that embeddings are made of. */
export const HIDDEN_STATE = 'hidden_state'
/** The input that says which positions of a run are wanted, counted from its end: -1 is the last. */
export const LOGIT_POSITIONS = 'logit_positions'

/** What it is given for the last `count` positions of a run, in order. */
export function lastPositions(count: number): BigInt64Array {
  return BigInt64Array.from({ length: count }, (_, i) => BigInt(i - count))
}

/** `0.key`, `0.value`. */
export function cacheNames(layer: number): readonly [string, string] {
  return [`${layer}.key`, `${layer}.value`]
}

export function pastName(cache: string): string {
  return `past_key_values.${cache}`
}

export function presentName(cache: string): string {
  return `present.${cache}`
}

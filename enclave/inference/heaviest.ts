/**
 * The likeliest of many tokens, without sorting: a vocabulary has 50,000 tokens and more, every answer asks once a token, and
 * sorting them would hold up the event loop for longer than a step of a small model takes.
 *
 * The bits of a float32 number without its sign, counted up or down from the middle, are an integer, and these are in the
 * order of the numbers. So three sums find the exact logit at the edge: one by its upper bits, then one by the next ones of
 * those that share these.
 * Of equal logits at the edge those with the lower id stay.
 */
/** Where each digit of an order begins, the highest first, and how many bits it has. */
const DIGITS = [
  { shift: 21, bits: 11 },
  { shift: 10, bits: 11 },
  { shift: 0, bits: 10 },
] as const

/** Sets the weights of all but the `count` tokens with the highest logits to 0. */
export function keepHeaviest(logits: Float32Array, weights: Float32Array, count: number): void {
  keep(logits, weights, () => 1, count)
}

/** Sets to 0 all weights but those of the fewest tokens with the highest logits that reach `share` of all weight. */
export function keepNucleus(logits: Float32Array, weights: Float32Array, share: number): void {
  keep(logits, weights, (weight) => weight, share * total(weights))
}

export function total(weights: Float32Array): number {
  let sum = 0
  for (let i = 0; i < weights.length; i++) sum += weights[i] ?? 0
  return sum
}

/**
 * Keeps the weights of the fewest whose measures reach `goal`, highest logit first. Mostly a handful of tokens does, so the
 * search begins with those that weigh something next to the likeliest.
 */
function keep(logits: Float32Array, weights: Float32Array, measure: (weight: number) => number, goal: number): void {
  const heavy: number[] = []
  let reached = 0
  for (let i = 0; i < weights.length && heavy.length <= MOST_HEAVY; i++) {
    const weight = weights[i] ?? 0
    if (weight < HEAVY) continue
    heavy.push(i)
    reached += measure(weight)
  }
  if (reached < goal || heavy.length > MOST_HEAVY) {
    drop(logits, weights, measure, goal)
    return
  }
  const left = Float32Array.from(heavy, (i) => weights[i] ?? 0)
  drop(
    Float32Array.from(heavy, (i) => logits[i] ?? 0),
    left,
    measure,
    goal,
  )
  weights.fill(0)
  for (const [at, i] of heavy.entries()) weights[i] = left[at] ?? 0
}

const HEAVY = 1e-3
const MOST_HEAVY = 2048

function drop(logits: Float32Array, weights: Float32Array, measure: (weight: number) => number, goal: number): void {
  const order = orderOf(logits)
  /** The edge's digits so far, and what is still to be reached by those that share them. */
  let known = 0
  let missing = goal
  for (const { shift, bits } of DIGITS) {
    const sums = new Float64Array(1 << bits)
    for (let i = 0; i < order.length; i++) {
      const digits = (order[i] ?? 0) >>> shift
      if (digits >>> bits !== known) continue
      const own = digits & (sums.length - 1)
      sums[own] = (sums[own] ?? 0) + measure(weights[i] ?? 0)
    }
    const { at, above } = edge(sums, missing)
    known = ((known << bits) | at) >>> 0
    missing -= above
  }
  for (let i = 0; i < order.length; i++) {
    const own = order[i] ?? 0
    if (own > known) continue
    if (own < known || missing <= 0) weights[i] = 0
    else missing -= measure(weights[i] ?? 0)
  }
}

/** Integers in the order of the logits. */
function orderOf(logits: Float32Array): Uint32Array {
  const bits = new Int32Array(logits.buffer, logits.byteOffset, logits.length)
  const order = new Uint32Array(bits.length)
  for (let i = 0; i < bits.length; i++) {
    const own = bits[i] ?? 0
    // Both zeros are one number.
    order[i] = own < 0 ? 0x8000_0000 - (own & 0x7fff_ffff) : own + 0x8000_0000
  }
  return order
}

/** The digit, from the highest down, at which the sum reaches `goal`, and the sum of those above it. */
function edge(sums: Float64Array, goal: number): { readonly at: number; readonly above: number } {
  let above = 0
  let last = { at: 0, above: 0 }
  for (let at = sums.length - 1; at >= 0; at--) {
    const own = sums[at] ?? 0
    if (own === 0) continue
    last = { at, above }
    if (above + own >= goal) break
    above += own
  }
  // Rounding can leave the sum of all a hair below the goal: then it is the lowest there is.
  return last
}

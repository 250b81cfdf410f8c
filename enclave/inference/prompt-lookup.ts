/**
 * Guesses at how an answer goes on, from where its last tokens were seen before: in the answer itself, in a text it was
 * predicted to be, or in its prompt. A wrong guess costs a little time and nothing else.
 */

export interface PromptLookup {
  /** Tokens that may come next, at most `most`; none where nothing like it was seen. */
  propose(most: number): readonly number[]
  /** The token that did come. */
  push(tokenId: number): void
  /** Of the tokens proposed, how many came and how many did not. */
  tally(): { readonly accepted: number; readonly rejected: number }
}

/** Longest and shortest run of tokens looked for. */
const [LONGEST, SHORTEST] = [4, 1]

export function createPromptLookup(promptTokens: readonly number[], prediction: readonly number[]): PromptLookup {
  const seen = [...promptTokens, ...prediction]
  const before = seen.length
  let proposed: readonly number[] = []
  /** How many of the last proposal came, and whether more of it still may. */
  let [met, open] = [0, false]
  let [asked, accepted] = [0, 0]

  return {
    propose(most) {
      // Whoever was far off last time is believed less.
      const reach = proposed.length === 0 ? most : Math.min(most, 2 * met + 2)
      const from = lastSeenBefore(seen, before)
      proposed = from === undefined ? [] : seen.slice(from, from + reach)
      asked += proposed.length
      met = 0
      open = true
      return proposed
    },
    push(tokenId) {
      seen.push(tokenId)
      open &&= proposed[met] === tokenId
      if (!open) return
      met += 1
      accepted += 1
    },
    tally: () => ({ accepted, rejected: asked - accepted }),
  }
}

/**
 * Where the text goes on after the latest earlier place that ends like it does, in as many tokens as can be had. `before`:
 * where the answer begins; what is looked for lies in the answer.
 */
function lastSeenBefore(seen: readonly number[], before: number): number | undefined {
  const end = seen.length
  let [best, bestLength] = [undefined as number | undefined, SHORTEST - 1]
  const longest = Math.min(LONGEST, end - before)
  for (let at = end - 1; at > 0 && bestLength < longest; at--) {
    let length = 0
    while (length < longest && length < at && seen[at - 1 - length] === seen[end - 1 - length]) length++
    if (length > bestLength) [best, bestLength] = [at, length]
  }
  return best
}

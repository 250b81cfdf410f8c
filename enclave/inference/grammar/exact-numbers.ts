/**
 * Numbers in JSON as they are written, for what must not lose any of their digits: a reader keeps them as doubles (IEEE 754),
 * and an integer beyond 2^53 may become its neighbour, or a large power nothing finite.
 */

/** A number, and the members and items that lead to it. */
export interface WrittenNumber {
  readonly path: readonly (string | number)[]
  readonly text: string
}

/** Those of a text that is known to be JSON, in order. */
export function* numbersIn(json: string): Generator<WrittenNumber> {
  const path: (string | number)[] = []
  let named = false
  for (let at = 0; at < json.length; at++) {
    const character = json[at] ?? ''
    if (character === '{') {
      path.push('')
      named = false
    } else if (character === '[') path.push(0)
    else if (character === '}' || character === ']') path.pop()
    else if (character === ',') {
      const last = path.at(-1)
      if (typeof last === 'number') path[path.length - 1] = last + 1
      named = false
    } else if (character === '"') {
      const start = at
      for (at++; json[at] !== '"' && at < json.length; at++) if (json[at] === '\\') at++
      if (typeof path.at(-1) !== 'string' || named) continue
      path[path.length - 1] = JSON.parse(json.slice(start, at + 1)) as string
      named = true
    } else if (character === '-' || (character >= '0' && character <= '9')) {
      const start = at
      while ('+-.0123456789Ee'.includes(json[at + 1] ?? ' ')) at++
      yield { path: [...path], text: json.slice(start, at + 1) }
    }
  }
}

/** Whether the number that a reader makes of it is written as the same decimal fraction again. */
export function isExact(text: string): boolean {
  const [before, after] = [digitsOf(text), digitsOf(String(Number(text)))]
  return before !== undefined && after !== undefined && before.digits === after.digits && before.power === after.power
}

/** The sign and the digits from the first that is not zero to the last, and the power of ten of that. */
function digitsOf(text: string): { readonly digits: string; readonly power: number } | undefined {
  const parts = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text)
  if (parts === null) return undefined
  const [, sign, whole = '', fraction = '', exponent = '0'] = parts
  const all = whole + fraction
  let [first, end] = [0, all.length]
  while (all[first] === '0') first++
  while (end > first && all[end - 1] === '0') end--
  if (first === end) return { digits: '', power: 0 }
  return { digits: `${sign}${all.slice(first, end)}`, power: Number(exponent) - fraction.length + all.length - end }
}

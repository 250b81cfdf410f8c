/**
 * `pattern` of JSON Schema to an automaton over code points. Only importer of the library that reads ECMAScript's regular
 * expressions as automata.
 *
 * Of those expressions (ECMA-262, flag `u`): everything regular, with `^` and `$`. Refused: lookaround, word boundaries,
 * backreferences, and whatever would need more than MAX_STATES states.
 */
import { CharSet, DFA, JS, NFA, type Node, type NoParent } from 'refa'
import { type Characters, MAX_CODE_POINT } from './characters.js'
import type { PatternBudget } from './json.js'
import { DEAD } from './terminal.js'

const MAX_STATES = 600
const MAX_PATTERN_CHARACTERS = 1024
const MAX_NODES = 5000

// Two characters beyond Unicode stand once before and once behind every text, for `^` and `$` to match.
const BEGIN = MAX_CODE_POINT + 1
const END = MAX_CODE_POINT + 2

export interface Length {
  /** Code points. */
  readonly min: number
  readonly max: number | undefined
}

/**
 * Undefined where the pattern is not one of those above, matches no text of such a length, or costs more than is left of
 * `budget`, from which it is taken.
 */
export function patternCharacters(source: string, length: Length, budget: PatternBudget): Characters | undefined {
  if (source.length > MAX_PATTERN_CHARACTERS || --budget.count < 0) return undefined
  try {
    const table = toTable(source)
    budget.steps -= table.steps.reduce((sum, own) => sum + own.length, 0)
    return budget.steps < 0 ? undefined : tableCharacters(withLength(table, length))
  } catch {
    // The library's messages quote the pattern.
    return undefined
  }
}

interface Step {
  readonly low: number
  readonly high: number
  readonly to: number
}

/** State 0 is the first. */
interface Table {
  readonly steps: readonly (readonly Step[])[]
  readonly accepting: readonly boolean[]
}

type Element = NoParent<
  Extract<Node, { type: 'CharacterClass' | 'Alternation' | 'Quantifier' | 'Assertion' | 'Unknown' }>
>
type Concatenation = NoParent<Extract<Node, { type: 'Concatenation' }>>

/** @throws Error on what is not regular or too large. */
function toTable(source: string): Table {
  const { expression } = JS.Parser.fromLiteral({ source, flags: 'u' }).parse({
    backreferences: 'throw',
    maxNodes: MAX_NODES,
  })
  const any = characters(0, MAX_CODE_POINT)
  const anything = repeated(0, Number.POSITIVE_INFINITY, any)
  // A pattern may match anywhere in the text.
  const whole = concatenation(
    repeated(0, 1, characters(BEGIN, BEGIN), anything),
    { type: 'Alternation', alternatives: expression.alternatives.map(marked) },
    repeated(0, 1, anything, characters(END, END)),
  )
  const nfa = NFA.fromRegex(
    { type: 'Expression', alternatives: [whole] },
    { maxCharacter: END },
    { assertions: 'throw' },
    new NFA.LimitedNodeFactory(MAX_STATES),
  )
  const dfa = DFA.fromFA(nfa, new DFA.LimitedNodeFactory(MAX_STATES))
  dfa.minimize()
  return readTable(dfa)
}

/** The same with `^` and `$` as the characters they stand for here. */
function marked({ elements }: Concatenation): Concatenation {
  return concatenation(...elements.map(markedElement))
}

function markedElement(element: Element): Element {
  switch (element.type) {
    case 'CharacterClass':
      return { type: 'CharacterClass', characters: CharSet.empty(END).union(element.characters.ranges) }
    case 'Alternation':
    case 'Quantifier':
      return { ...element, alternatives: element.alternatives.map(marked) }
    case 'Assertion': {
      const [only, ...others] = element.alternatives
      const [inner, ...more] = only?.elements ?? []
      const edge =
        others.length === 0 && more.length === 0 && inner?.type === 'CharacterClass' && inner.characters.isAll
      if (!edge || !element.negate) throw new Error('an assertion other than ^ and $')
      return element.kind === 'behind' ? characters(BEGIN, BEGIN) : characters(END, END)
    }
    default:
      throw new Error('an element that is not regular')
  }
}

function concatenation(...elements: readonly Element[]): Concatenation {
  return { type: 'Concatenation', elements: [...elements] }
}

function characters(min: number, max: number): Element {
  return { type: 'CharacterClass', characters: CharSet.empty(END).union([{ min, max }]) }
}

function repeated(min: number, max: number, ...elements: readonly Element[]): Element {
  return { type: 'Quantifier', min, max, lazy: false, alternatives: [concatenation(...elements)] }
}

/** What the automaton does between the two marks. */
function readTable(dfa: DFA): Table {
  const first = dfa.initial.out.get(BEGIN)
  if (first === undefined) throw new Error('a pattern that nothing matches')
  const numbers = new Map([[first, 0]])
  const steps: Step[][] = []
  const accepting: boolean[] = []
  for (const node of numbers.keys()) {
    const own: Step[] = []
    for (const [{ min, max }, next] of node.out) {
      if (min > MAX_CODE_POINT) continue
      const known = numbers.get(next)
      const to = known ?? numbers.size
      if (known === undefined) numbers.set(next, to)
      own.push({ low: min, high: Math.min(max, MAX_CODE_POINT), to })
    }
    steps.push(own.sort((a, b) => a.low - b.low))
    const last = node.out.get(END)
    accepting.push(last !== undefined && dfa.finals.has(last))
  }
  return { steps, accepting }
}

/** Of the texts of a table, those of a length. */
function withLength({ steps, accepting }: Table, { min, max }: Length): Table {
  if (min === 0 && max === undefined) return { steps, accepting }
  // Above the lower bound there is nothing to count where there is no upper one.
  const counts = (max ?? min) + 1
  if (counts * steps.length > MAX_STATES * 10) throw new Error('too many states')
  const at = (state: number, count: number): number => state * counts + Math.min(count, counts - 1)
  const counted = steps.flatMap((own) =>
    Array.from({ length: counts }, (_, count) =>
      max !== undefined && count === max ? [] : own.map((step) => ({ ...step, to: at(step.to, count + 1) })),
    ),
  )
  const ending = accepting.flatMap((accepts) => Array.from({ length: counts }, (_, count) => accepts && count >= min))
  return { steps: counted, accepting: ending }
}

/** Undefined when nothing is accepted. States from which nothing can be accepted any more are left out. */
function tableCharacters({ steps, accepting }: Table): Characters | undefined {
  const before: number[][] = steps.map(() => [])
  steps.forEach((own, from) => {
    for (const { to } of own) before[to]?.push(from)
  })
  const live = new Set<number>()
  const open = accepting.flatMap((accepts, state) => (accepts ? [state] : []))
  for (let state = open.pop(); state !== undefined; state = open.pop()) {
    if (live.has(state)) continue
    live.add(state)
    open.push(...(before[state] ?? []))
  }
  if (!live.has(0)) return undefined
  const alive = steps.map((own) => own.filter(({ to }) => live.has(to)))
  return {
    start: 0,
    step: (state, codePoint) =>
      alive[state]?.find(({ low, high }) => low <= codePoint && codePoint <= high)?.to ?? DEAD,
    accepts: (state) => accepting[state] === true,
    any: (state, from, to) => alive[state]?.some(({ low, high }) => low <= to && from <= high) ?? false,
    without(leads) {
      const ranges = [...leads].map(rangeOf)
      return tableCharacters({ steps: alive.map((own) => own.flatMap((step) => cut(step, ranges))), accepting })
    },
  }
}

interface Range {
  readonly low: number
  readonly high: number
}

/** The code points that UTF-8 (RFC 3629 §3) begins with a byte. */
function rangeOf(lead: number): Range {
  if (lead < 0x80) return { low: lead, high: lead }
  const following = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3
  const low = (lead & (0x3f >> following)) * 64 ** following
  return { low, high: Math.min(low + 64 ** following - 1, MAX_CODE_POINT) }
}

/** What is left of a step without some ranges. */
function cut(step: Step, ranges: readonly Range[]): readonly Step[] {
  return ranges.reduce<readonly Step[]>(
    (pieces, { low, high }) =>
      pieces.flatMap((piece) =>
        [
          { ...piece, high: Math.min(piece.high, low - 1) },
          { ...piece, low: Math.max(piece.low, high + 1) },
        ].filter((rest) => rest.low <= rest.high),
      ),
    [step],
  )
}

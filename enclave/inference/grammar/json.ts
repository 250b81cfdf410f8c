/**
 * The parts JSON is written with: values of any kind, objects and arrays as networks. One line, with one space or none
 * behind a comma or a colon, so that a model that drifts cannot fill its answer with blanks.
 */
import { utf8 } from '../../../verifier/protocol/bytes.js'
import { countedCharacters, otherCharacters } from './characters.js'
import { type Arc, MAX_POSITIONS, type Network, type Position } from './network.js'
import { anyNumberTerminal } from './number-terminal.js'
import { stringTerminal } from './string-terminal.js'
import { literalTerminal, type Terminal } from './terminal.js'

export type Via = Terminal | number

const share = (terminal: Terminal): Terminal => ({ ...terminal, shared: true })
export const ANY_STRING: Terminal = share(stringTerminal(countedCharacters(0, undefined)))
export const ANY_NUMBER: Terminal = share(anyNumberTerminal(false))
export const ANY_INTEGER: Terminal = share(anyNumberTerminal(true))
const COMMA = share(literals(',', ', '))
const COLON = share(literals(':', ': '))
const OPEN_OBJECT = share(literals('{'))
const CLOSE_OBJECT = share(literals('}'))
const OPEN_ARRAY = share(literals('['))
const CLOSE_ARRAY = share(literals(']'))
const SIMPLE = share(literals('true', 'false', 'null'))

export function literals(...texts: readonly string[]): Terminal {
  return literalTerminal(texts.map(utf8))
}

/** Adds networks to a grammar in the making. */
export interface Networks {
  add(network: Network): number
  /** A number for a network that is still being made, which may name itself. */
  reserve(): number
  fill(number: number, network: Network): void
  readonly all: readonly Network[]
  /** Whether there are more than a grammar may have: then there is no use in going on. */
  full(): boolean
  /** What patterns may still cost in this grammar, all tools' together: reading one stops every other request meanwhile. */
  readonly patterns: PatternBudget
}

export interface PatternBudget {
  count: number
  /** Of automata, one for each range of characters that leads from one state to another. */
  steps: number
}

const MAX_PATTERNS = 16
const MAX_PATTERN_STEPS = 100_000

export function createNetworks(): Networks {
  const all: Network[] = []
  let positions = 0
  return {
    all,
    full: () => positions > MAX_POSITIONS,
    patterns: { count: MAX_PATTERNS, steps: MAX_PATTERN_STEPS },
    add(network) {
      positions += network.length
      return all.push(network) - 1
    },
    reserve: () => all.push([]) - 1,
    fill(number, network) {
      positions += network.length
      all[number] = network
    },
  }
}

const END: Position = { arcs: [], final: true }

/** One after the other. */
export function sequence(...vias: readonly Via[]): Network {
  return [...vias.map((via, i): Position => ({ arcs: [{ via, to: i + 1 }], final: false })), END]
}

/** One of them. */
export function alternatives(vias: readonly Via[]): Network {
  return [{ arcs: vias.map((via) => ({ via, to: 1 })), final: false }, END]
}

export interface Member {
  readonly name: string
  readonly value: Via
  readonly required: boolean
}

/** Members in this order, those not required or not; then others, where there may be any, of other names. */
export function objectNetwork(networks: Networks, members: readonly Member[], others: Via | undefined): Network {
  // Two positions before each member: nothing written yet, and something, so that a comma comes first.
  const count = members.length
  const bare = (i: number): number => 1 + 2 * i
  const after = (i: number): number => 2 + 2 * i
  const network: { arcs: Arc[]; final: boolean }[] = Array.from({ length: 2 * count + 4 }, () => ({
    arcs: [],
    final: false,
  }))
  const end = 2 * count + 3
  const arc = (from: number, via: Arc['via'], to: number): void => void network[from]?.arcs.push({ via, to })
  arc(0, OPEN_OBJECT, bare(0))
  members.forEach(({ name, value, required }, i) => {
    const named = networks.add(sequence(literals(`${JSON.stringify(name)}:`, `${JSON.stringify(name)}: `), value))
    arc(bare(i), named, after(i + 1))
    arc(after(i), networks.add(sequence(COMMA, named)), after(i + 1))
    if (required) return
    arc(bare(i), undefined, bare(i + 1))
    arc(after(i), undefined, after(i + 1))
  })
  arc(bare(count), CLOSE_OBJECT, end)
  arc(after(count), CLOSE_OBJECT, end)
  if (others !== undefined) {
    const key = members.length === 0 ? ANY_STRING : stringTerminal(otherCharacters(members.map(({ name }) => name)))
    const other = networks.add(sequence(key, COLON, others))
    arc(bare(count), other, after(count))
    arc(after(count), networks.add(sequence(COMMA, other)), after(count))
  }
  if (network[end] !== undefined) network[end].final = true
  return network
}

/** The first items one by one, then any number of `rest` where there is such a thing, `min` to `max` altogether. */
export function arrayNetwork(
  networks: Networks,
  first: readonly Via[],
  rest: Via | undefined,
  min: number,
  max: number | undefined,
): Network {
  const longest = rest === undefined ? Math.min(max ?? first.length, first.length) : max
  // Without an end to count to, the last position before the bracket is come back to.
  const counted = longest ?? Math.max(min, first.length, 1)
  const network: { arcs: Arc[]; final: boolean }[] = Array.from({ length: counted + 3 }, () => ({
    arcs: [],
    final: false,
  }))
  const end = counted + 2
  const arc = (from: number, via: Arc['via'], to: number): void => void network[from]?.arcs.push({ via, to })
  const further = rest === undefined ? undefined : networks.add(sequence(COMMA, rest))
  arc(0, OPEN_ARRAY, 1)
  for (let i = 0; i <= counted; i++) {
    const at = i + 1
    if (i >= min) arc(at, CLOSE_ARRAY, end)
    const item = first[i] ?? rest
    if (item === undefined || (longest !== undefined && i === longest)) continue
    const loop = longest === undefined && i === counted
    const via =
      i === 0 ? item : first[i] === undefined && further !== undefined ? further : networks.add(sequence(COMMA, item))
    arc(at, via, loop ? at : at + 1)
  }
  if (network[end] !== undefined) network[end].final = true
  return network
}

/** Any JSON value, and any object. */
export function anyValue(networks: Networks): {
  readonly value: number
  readonly object: number
  readonly array: number
} {
  const value = networks.reserve()
  const object = networks.add(objectNetwork(networks, [], value))
  const array = networks.add(arrayNetwork(networks, [], value, 0, undefined))
  networks.fill(value, alternatives([ANY_STRING, ANY_NUMBER, SIMPLE, object, array]))
  return { value, object, array }
}

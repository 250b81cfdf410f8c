/**
 * Grammars as recursive transition networks (Woods 1970): each network is a small automaton whose arcs are terminals or
 * other networks, itself included. JSON Schema, tool calls and any JSON value are all put together from these.
 */
import type { Terminal } from './terminal.js'

export interface Arc {
  /** What is written on the way: a terminal, what the network of that number writes, or nothing. */
  readonly via: Terminal | number | undefined
  readonly to: number
}

export interface Position {
  readonly arcs: readonly Arc[]
  /** Whether the network may end here. */
  readonly final: boolean
}

/** Position 0 is the first. */
export type Network = readonly Position[]

/** Nothing in it is changed once it is made, so one grammar serves all answers to a request. */
export interface Grammar {
  readonly networks: readonly Network[]
  /** Number of the network the text must follow. */
  readonly root: number
  /** Networks inside each other that the shortest rest of a text needs, by network and position. */
  readonly depths: readonly (readonly number[])[]
}

/** Most networks inside each other in one text; deeper values are not written. */
export const MAX_DEPTH = 64
/** Most positions of all networks together. */
export const MAX_POSITIONS = 20_000

/** Undefined when no text of MAX_DEPTH can follow the grammar, or it is too large. */
export function createGrammar(networks: readonly Network[], root: number): Grammar | undefined {
  if (networks.reduce((sum, { length }) => sum + length, 0) > MAX_POSITIONS) return undefined
  const depths = shortestDepths(networks)
  return (depths[root]?.[0] ?? Number.POSITIVE_INFINITY) < MAX_DEPTH ? { networks, root, depths } : undefined
}

/** The depth an arc takes, and the rest of its network behind it. */
export function arcDepth({ depths }: Pick<Grammar, 'depths'>, network: number, { via, to }: Arc): number {
  const inner = typeof via === 'number' ? 1 + (depths[via]?.[0] ?? Number.POSITIVE_INFINITY) : 0
  return Math.max(inner, depths[network]?.[to] ?? Number.POSITIVE_INFINITY)
}

/** Fixed point from above: a network nobody can finish keeps infinity. */
function shortestDepths(networks: readonly Network[]): number[][] {
  const depths = networks.map((network) => network.map(({ final }) => (final ? 0 : Number.POSITIVE_INFINITY)))
  for (let changed = true; changed; ) {
    changed = false
    networks.forEach((network, number) => {
      const own = depths[number] ?? []
      // Most arcs lead onward, so that one pass from the end settles most of a network.
      for (let position = network.length - 1; position >= 0; position--) {
        for (const arc of network[position]?.arcs ?? []) {
          const depth = arcDepth({ depths }, number, arc)
          if (depth < (own[position] ?? 0)) {
            own[position] = depth
            changed = true
          }
        }
      }
    })
  }
  return depths
}

/**
 * Grammars for a vocabulary that lacks some bytes: the same without the characters that begin with one of those. What is
 * left can be written to its end by tokens of one byte, so that a mask never leads where no token goes on.
 */
import { EngineError } from '../errors.js'
import { createGrammar, type Grammar } from './network.js'
import type { Terminal } from './terminal.js'

/**
 * `unwritable` as `Vocabulary` has it. Terminals that all requests share stay shared.
 * @throws EngineError `schema.unsupported`, from what it returns, where nothing is left of a grammar.
 */
export function createWritable(unwritable: ReadonlySet<number>): (grammar: Grammar) => Grammar {
  if (unwritable.size === 0) return (grammar) => grammar
  const made = new WeakMap<Terminal, { readonly rest: Terminal | undefined }>()
  const restOf = (terminal: Terminal): Terminal | undefined => {
    if (terminal.without === undefined) return terminal
    const known = made.get(terminal)
    if (known !== undefined) return known.rest
    const without = terminal.without(unwritable)
    const rest = without && terminal.shared === true ? { ...without, shared: true } : without
    made.set(terminal, { rest })
    return rest
  }
  return ({ networks, root }) => {
    const grammar = createGrammar(
      networks.map((network) =>
        network.map(({ arcs, final }) => ({
          arcs: arcs.flatMap((arc) => {
            if (typeof arc.via !== 'object') return [arc]
            const via = restOf(arc.via)
            return via === undefined ? [] : [{ ...arc, via }]
          }),
          final,
        })),
      ),
      root,
    )
    if (grammar === undefined) {
      throw new EngineError('schema.unsupported', 'the schema asks for characters that the model has no tokens for')
    }
    return grammar
  }
}

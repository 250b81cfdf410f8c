/**
 * What the whole of an answer may be: JSON, JSON that follows a schema, or text and calls of tools.
 *
 * A call is written the way several model families were taught: `<tool_call>`, a line of JSON with `name` and `arguments`,
 * `</tool_call>`. Models whose template has other words for it follow these as well, since nothing else is let through.
 */
import { isDeepStrictEqual } from 'node:util'
import { utf8 } from '../../../verifier/protocol/bytes.js'
import { alternatives, anyValue, createNetworks, literals, type Networks, sequence, type Via } from './json.js'
import { createGrammar, type Grammar, type Network } from './network.js'
import { SchemaError, schemaGrammar } from './schema.js'
import { freeTextTerminal } from './terminal.js'

export const CALL_OPEN = '<tool_call>'
export const CALL_NAME = '\n{"name": "'
export const CALL_ARGUMENTS = '", "arguments": '
export const CALL_CLOSE = '}\n</tool_call>'
export const CALL_NEXT = '\n'
/** Most calls in one answer. */
const MAX_CALLS = 32

/** What an answer outside of calls is: anything, any JSON object, or JSON that follows a schema. */
export type AnswerFormat = { readonly type: 'json_object' } | { readonly type: 'json_schema'; readonly schema: unknown }

export interface Tool {
  readonly name: string
  readonly description?: string
  /** JSON Schema of the arguments; absent: any object. */
  readonly parameters?: unknown
}

export interface CallRules {
  readonly tools: readonly Tool[]
  /** Whether the answer must be a call. */
  readonly required: boolean
  /** Whether there may be several. */
  readonly parallel: boolean
}

/** @throws SchemaError, also where no answer of reasonable depth could follow the schema. */
export function formatGrammar(format: AnswerFormat): Grammar {
  const networks = createNetworks()
  return finish(networks, sequence(answerOf(format, networks)))
}

/** @throws SchemaError, which says by number which of the tools it is about. */
export function callGrammar({ tools, required, parallel }: CallRules, format: AnswerFormat | undefined): Grammar {
  const networks = createNetworks()
  const heads = tools.map(({ name, parameters }, index) =>
    networks.add(sequence(literals(`${CALL_NAME}${name}${CALL_ARGUMENTS}`), argumentsOf(parameters, index, networks))),
  )
  const call = networks.add(sequence(networks.add(alternatives(heads)), literals(CALL_CLOSE)))
  const further = networks.add(sequence(literals(`${CALL_NEXT}${CALL_OPEN}`), call))
  const calls = networks.add([
    { arcs: [{ via: call, to: 1 }], final: false },
    ...Array.from({ length: parallel ? MAX_CALLS - 1 : 0 }, (_, i) => ({
      arcs: [{ via: further, to: i + 2 }],
      final: true,
    })),
    { arcs: [], final: true },
  ])
  const opened = networks.add(sequence(literals(CALL_OPEN), calls))
  if (required) return finish(networks, sequence(opened))
  if (format !== undefined) return finish(networks, alternatives([opened, answerOf(format, networks)]))
  const marker = utf8(CALL_OPEN)
  const called = networks.add(sequence(freeTextTerminal(marker, true), calls))
  return finish(networks, alternatives([called, freeTextTerminal(marker, false)]))
}

/** What the arguments of a tool with these parameters follow: without any, they are still an object. */
export function argumentsSchema(parameters: unknown): unknown {
  return parameters === undefined || isDeepStrictEqual(parameters, {}) ? { type: 'object' } : parameters
}

function argumentsOf(parameters: unknown, index: number, networks: Networks): Via {
  const schema = argumentsSchema(parameters)
  try {
    if (!(typeof schema === 'object' && schema !== null && 'type' in schema && schema.type === 'object')) {
      throw new SchemaError('type', 'expected arguments to be an object')
    }
    return schemaGrammar(schema, networks)
  } catch (error) {
    throw error instanceof SchemaError ? error.ofTool(index) : error
  }
}

function answerOf(format: AnswerFormat, networks: Networks): Via {
  return format.type === 'json_object' ? anyValue(networks).object : schemaGrammar(format.schema, networks)
}

function finish(networks: Networks, root: Network): Grammar {
  const grammar = createGrammar([...networks.all, root], networks.all.length)
  if (grammar === undefined) {
    throw new SchemaError(undefined, 'too large, or nothing of reasonable depth can follow it')
  }
  return grammar
}

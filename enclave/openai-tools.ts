/**
 * `tools`, `tool_choice`, `parallel_tool_calls` and `response_format` of a chat: what the model may call, and what its
 * answer must follow. Schemas are always followed, whether `strict` says so or not; one that cannot be is refused.
 */
import * as v from 'valibot'
import type { Chat } from './inference/engine.js'
import { type AnswerFormat, callGrammar, formatGrammar, type Tool } from './inference/grammar/answers.js'
import { isExact, numbersIn } from './inference/grammar/exact-numbers.js'
import type { Grammar } from './inference/grammar/network.js'
import { SchemaError } from './inference/grammar/schema.js'
import { OpenAIError } from './openai-error.js'
import { anyObject, optional } from './openai-fields.js'

export interface Constraint extends Omit<Chat, 'messages'> {
  readonly grammar: Grammar | undefined
}

const MAX_TOOLS = 128
const MAX_DESCRIPTION_CHARACTERS = 16_384

const name = v.pipe(v.string(), v.regex(/^[\w-]{1,64}$/))
const described = { description: optional(v.pipe(v.string(), v.maxLength(MAX_DESCRIPTION_CHARACTERS))) }

/** For the entries of a schema. */
export const toolFields = {
  tools: optional(
    v.pipe(
      v.array(
        v.object({
          type: v.literal('function'),
          function: v.object({ name, ...described, parameters: optional(anyObject), strict: optional(v.boolean()) }),
        }),
      ),
      v.maxLength(MAX_TOOLS),
    ),
  ),
  tool_choice: optional(
    v.union([
      v.picklist(['none', 'auto', 'required']),
      v.object({ type: v.literal('function'), function: v.object({ name }) }),
    ]),
  ),
  parallel_tool_calls: optional(v.boolean()),
  response_format: optional(
    v.variant('type', [
      v.object({ type: v.literal('text') }),
      v.object({ type: v.literal('json_object') }),
      v.object({
        type: v.literal('json_schema'),
        json_schema: v.object({ name, ...described, schema: anyObject, strict: optional(v.boolean()) }),
      }),
    ]),
  ),
}

const toolSchema = v.object(toolFields)

/** @throws OpenAIError 400 on what does not go together, or a schema that cannot be followed. */
export function constraintOf(request: v.InferOutput<typeof toolSchema>): Constraint {
  const all = (request.tools ?? []).map(
    ({ function: tool }): Tool => ({
      name: tool.name,
      ...(typeof tool.description === 'string' ? { description: tool.description } : {}),
      ...(tool.parameters ? { parameters: tool.parameters } : {}),
    }),
  )
  const twice = all.findIndex((tool, i) => all.findIndex((other) => other.name === tool.name) < i)
  if (twice >= 0) {
    throw new OpenAIError(400, 'invalid_value', `tools[${twice}].function.name: expected another name`, 'tools')
  }
  const asked = request.tool_choice ?? 'auto'
  const choice = asked === 'auto' || asked === 'none' ? undefined : asked === 'required' ? asked : asked.function
  if (choice !== undefined && all.length === 0) {
    throw new OpenAIError(400, 'invalid_value', 'tool_choice: expected tools with it', 'tool_choice')
  }
  const callable = typeof choice === 'object' ? all.filter((tool) => tool.name === choice.name) : all
  if (choice !== undefined && callable.length === 0) {
    throw new OpenAIError(400, 'invalid_value', 'tool_choice: expected the name of one of the tools', 'tool_choice')
  }
  const tools = asked === 'none' ? [] : all
  // As OpenAI has it, a tool that is named is called once.
  const parallel = typeof choice !== 'object' && (request.parallel_tool_calls ?? true)
  const format = formatOf(request.response_format ?? { type: 'text' })
  return { tools, choice, parallel, format, grammar: grammarOf() }

  function grammarOf(): Grammar | undefined {
    try {
      if (tools.length > 0) {
        return callGrammar({ tools: callable, required: choice !== undefined, parallel }, format)
      }
      return format && formatGrammar(format)
    } catch (error) {
      if (!(error instanceof SchemaError)) throw error
      throw schemaError(error, all.indexOf(callable[error.tool ?? -1] as Tool))
    }
  }
}

/** Keywords whose numbers say which values follow: only these are named. */
const OF_NUMBERS: ReadonlySet<unknown> = new Set(
  'const enum minimum maximum exclusiveMinimum exclusiveMaximum multipleOf default examples'.split(' '),
)

/**
 * Holds the schemas of a request to be what they say once they were read: a number that a reader rounds would be another one.
 * `json` is the request. @throws OpenAIError 400, which says by order which number it is, and quotes nothing.
 */
export function expectExactSchemas(json: string): void {
  const seen = new Map<string, number>()
  for (const { path, text } of numbersIn(json)) {
    const param = schemaAt(path)
    if (param === undefined) continue
    const number = (seen.get(param) ?? 0) + 1
    seen.set(param, number)
    if (isExact(text)) continue
    const keyword = [...path].reverse().find((part) => OF_NUMBERS.has(part))
    const problem = `number ${number} of the schema, counted from its beginning, would be rounded: expected one that is the same as a double (IEEE 754), such as any of at most 15 digits; write a longer one as a string`
    const where = keyword === undefined ? param : `${param}: ${keyword}`
    throw new OpenAIError(400, 'invalid_json_schema', `${where}: ${problem}`, param)
  }
}

/** Which of a request's schemas such a place is in. */
function schemaAt([first, second, third, fourth]: readonly (string | number)[]): string | undefined {
  if (first === 'response_format' && second === 'json_schema' && third === 'schema') {
    return 'response_format.json_schema.schema'
  }
  const parameters = first === 'tools' && third === 'function' && fourth === 'parameters'
  return parameters ? `tools[${second}].function.parameters` : undefined
}

type ResponseFormat = NonNullable<v.InferOutput<typeof toolSchema>['response_format']>

function formatOf(format: ResponseFormat): AnswerFormat | undefined {
  switch (format.type) {
    case 'text':
      return undefined
    case 'json_object':
      return { type: 'json_object' }
    default:
      return { type: 'json_schema', schema: format.json_schema.schema }
  }
}

/** Names the keyword and where the schema is, and quotes nothing of it. */
function schemaError({ keyword, message }: SchemaError, tool: number): OpenAIError {
  const param = tool < 0 ? 'response_format.json_schema.schema' : `tools[${tool}].function.parameters`
  const problem = keyword === undefined ? message : `${keyword}: ${message}`
  return new OpenAIError(400, 'invalid_json_schema', `${param}: ${problem}`, param)
}

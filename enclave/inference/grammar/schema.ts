/**
 * JSON Schema (2020-12) to a grammar: every text of the grammar is JSON that follows the schema, and not every value the
 * schema allows can be written.
 *
 * Narrower than the schema: members come in the order of `properties`; an object that names its properties gets others
 * only where `additionalProperties` says so; what a schema without `type` leaves open is settled by the keywords it has.
 * Refused, by name: every keyword that is neither followed here nor a mere note, since an answer must not silently break
 * what was asked of it; and schemas that are too large or that nothing of reasonable depth can follow.
 */
import { EngineError } from '../errors.js'
import { countedCharacters } from './characters.js'
import { FORMATS, formatTerminal } from './formats.js'
import {
  ANY_INTEGER,
  ANY_NUMBER,
  ANY_STRING,
  alternatives,
  anyValue,
  arrayNetwork,
  literals,
  type Networks,
  objectNetwork,
  type Via,
} from './json.js'
import { boundedNumberTerminal, type NumberBounds } from './number-terminal.js'
import { patternCharacters } from './pattern.js'
import { stringTerminal } from './string-terminal.js'

const MAX_SCHEMAS = 2000
const MAX_SCHEMA_DEPTH = 64
const MAX_PROPERTIES = 256
const MAX_CHOICES = 500
const MAX_ALTERNATIVES = 256
const MAX_CHOICE_CHARACTERS = 50_000
const MAX_COUNT = 1000
const MAX_TEXT = 10_000

/** The schema cannot be followed. Thrown before anything was computed. What to do: take out the keyword, or simplify. */
export class SchemaError extends EngineError {
  /** The keyword of JSON Schema at fault; undefined where the schema as a whole is. */
  readonly keyword: string | undefined
  /** Which of the tools, by number, has this schema. */
  readonly tool: number | undefined

  constructor(keyword: string | undefined, problem: string, tool?: number) {
    super('schema.unsupported', problem)
    this.keyword = keyword
    this.tool = tool
  }

  /** The same error, about a tool. */
  ofTool(tool: number): SchemaError {
    return new SchemaError(this.keyword, this.message, tool)
  }
}

type Schema = Readonly<Record<string, unknown>>

/** Say nothing about which values are valid. */
const NOTES: ReadonlySet<string> = new Set([
  '$schema',
  '$id',
  '$comment',
  '$defs',
  'definitions',
  'title',
  'description',
  'default',
  'examples',
  'deprecated',
  'readOnly',
  'writeOnly',
])

const KEYWORDS_OF = {
  object: ['properties', 'required', 'additionalProperties'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
  integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
  boolean: [],
  null: [],
} as const
type Type = keyof typeof KEYWORDS_OF
const TYPES = Object.keys(KEYWORDS_OF) as readonly Type[]

/** Known to JSON Schema or OpenAPI, and not followed: named in the error. Any other is not repeated. */
const REFUSED: ReadonlySet<string> = new Set(
  (
    'oneOf allOf not if then else dependentSchemas dependentRequired dependencies patternProperties propertyNames ' +
    'minProperties maxProperties unevaluatedProperties unevaluatedItems uniqueItems contains minContains maxContains ' +
    'additionalItems contentEncoding contentMediaType contentSchema nullable discriminator xml externalDocs example ' +
    '$anchor $dynamicRef $dynamicAnchor $recursiveRef $recursiveAnchor $vocabulary id'
  ).split(' '),
)

/**
 * What writes a value that follows the schema. Networks are added to `networks`.
 * @throws SchemaError
 */
export function schemaGrammar(root: unknown, networks: Networks): Via {
  const any = anyValue(networks)
  /** By the schema itself, so that a reference leads back to where it was and recursion ends. */
  const made = new Map<object, number>()
  let schemas = 0

  function compile(schema: unknown, depth: number): Via {
    if (schema === true) return any.value
    if (schema === false) throw new SchemaError(undefined, 'a schema of false follows nothing')
    if (!isRecord(schema)) throw new SchemaError(undefined, 'expected each schema to be an object or true')
    const known = made.get(schema)
    if (known !== undefined) return known
    if (networks.full()) throw new SchemaError(undefined, 'too large')
    if (++schemas > MAX_SCHEMAS) throw new SchemaError(undefined, `more than ${MAX_SCHEMAS} schemas in one`)
    if (depth > MAX_SCHEMA_DEPTH)
      throw new SchemaError(undefined, `more than ${MAX_SCHEMA_DEPTH} schemas inside each other`)
    const number = networks.reserve()
    made.set(schema, number)
    networks.fill(number, alternatives(viasOf(schema, depth + 1)))
    return number
  }

  function viasOf(schema: Schema, depth: number): readonly Via[] {
    const keywords = Object.keys(schema).filter((keyword) => !NOTES.has(keyword))
    const only = (...allowed: readonly string[]): void => {
      const stray = keywords.find((keyword) => !allowed.includes(keyword))
      if (stray !== undefined) throw refused(stray, allowed[0])
    }
    if (Object.hasOwn(schema, '$ref')) {
      only('$ref')
      return [compile(target(schema['$ref']), depth)]
    }
    if (Object.hasOwn(schema, 'anyOf')) {
      only('anyOf')
      return list(schema, 'anyOf', 1, MAX_ALTERNATIVES).map((one) => compile(one, depth))
    }
    // Older generators wrap a reference so, to write notes beside it.
    if (Array.isArray(schema['allOf']) && schema['allOf'].length === 1) {
      only('allOf')
      return [compile(schema['allOf'][0], depth)]
    }
    const types = typesOf(schema)
    if (Object.hasOwn(schema, 'const') || Object.hasOwn(schema, 'enum')) {
      const kind = Object.hasOwn(schema, 'const') ? 'const' : 'enum'
      only(kind, 'type')
      const choices = kind === 'const' ? [schema['const']] : list(schema, 'enum', 1, MAX_CHOICES)
      return [
        chosen(
          kind,
          choices.filter((choice) => types === undefined || types.some((type) => isOf(choice, type))),
        ),
      ]
    }
    const possible =
      types ?? TYPES.filter((type) => KEYWORDS_OF[type].some((keyword) => Object.hasOwn(schema, keyword)))
    if (possible.length === 0) {
      only()
      return [any.value]
    }
    only('type', ...possible.flatMap((type) => KEYWORDS_OF[type]))
    // Every number is written by one of the two.
    const distinct = possible.filter((type) => type !== 'integer' || !possible.includes('number'))
    return distinct.map((type) => ofType(schema, type, depth))
  }

  function ofType(schema: Schema, type: Type, depth: number): Via {
    switch (type) {
      case 'object':
        return objectOf(schema, depth)
      case 'array':
        return arrayOf(schema, depth)
      case 'string':
        return stringOf(schema)
      case 'boolean':
        return literals('true', 'false')
      case 'null':
        return literals('null')
      default:
        return numberOf(schema, type === 'integer')
    }
  }

  function objectOf(schema: Schema, depth: number): Via {
    const properties = schema['properties'] ?? {}
    if (!isRecord(properties)) throw new SchemaError('properties', 'expected an object')
    const names = Object.keys(properties)
    if (names.length > MAX_PROPERTIES) throw new SchemaError('properties', `expected at most ${MAX_PROPERTIES}`)
    const required = Object.hasOwn(schema, 'required') ? list(schema, 'required', 0, MAX_PROPERTIES) : []
    const additional = schema['additionalProperties'] ?? !Object.hasOwn(schema, 'properties')
    const unnamed = required.filter((name) => typeof name !== 'string' || !Object.hasOwn(properties, name))
    if (unnamed.some((name) => typeof name !== 'string')) throw new SchemaError('required', 'expected names')
    if (unnamed.length > 0 && additional === false) {
      throw new SchemaError('required', 'names a property that properties does not have')
    }
    const others = additional === false ? undefined : compile(additional, depth)
    const members = [
      ...names.map((name) => ({
        name,
        value: compile(properties[name], depth),
        required: required.includes(name),
      })),
      ...[...new Set(unnamed)].map((name) => ({ name: String(name), value: others ?? any.value, required: true })),
    ]
    return networks.add(objectNetwork(networks, members, others))
  }

  function arrayOf(schema: Schema, depth: number): Via {
    const first = Object.hasOwn(schema, 'prefixItems') ? list(schema, 'prefixItems', 1, MAX_CHOICES) : []
    const items = schema['items'] ?? true
    if (Array.isArray(items)) throw new SchemaError('items', 'expected one schema; prefixItems takes a list')
    const min = count(schema, 'minItems', MAX_COUNT) ?? 0
    const max = count(schema, 'maxItems', MAX_COUNT)
    const rest = items === false ? undefined : compile(items, depth)
    const vias = first.map((item) => compile(item, depth))
    const most = items === false ? Math.min(max ?? first.length, first.length) : max
    if (most !== undefined && min > most) throw new SchemaError('minItems', 'more than there may be')
    return networks.add(arrayNetwork(networks, vias, rest, min, max))
  }

  function stringOf(schema: Schema): Via {
    const min = count(schema, 'minLength', MAX_TEXT) ?? 0
    const max = count(schema, 'maxLength', MAX_TEXT)
    if (max !== undefined && min > max) throw new SchemaError('minLength', 'more than maxLength')
    const pattern = schema['pattern']
    const format = schema['format']
    if (pattern !== undefined && format !== undefined) throw new SchemaError('format', 'expected no pattern beside it')
    if (format !== undefined) {
      const terminal = typeof format === 'string' ? formatTerminal(format, { min, max }, networks.patterns) : undefined
      if (terminal === undefined)
        throw new SchemaError('format', `expected one of ${FORMATS.join(', ')}, and few with lengths`)
      return terminal
    }
    if (pattern === undefined) {
      return min === 0 && max === undefined ? ANY_STRING : stringTerminal(countedCharacters(min, max))
    }
    const characters =
      typeof pattern === 'string' ? patternCharacters(pattern, { min, max }, networks.patterns) : undefined
    if (characters === undefined) {
      throw new SchemaError(
        'pattern',
        'expected a regular expression, not too large (nor with the others of this request), that some text of that length matches, without lookaround, word boundaries and references',
      )
    }
    return stringTerminal(characters)
  }

  return compile(root, 0)

  function target(reference: unknown): unknown {
    if (typeof reference !== 'string' || !/^#(\/|$)/.test(reference)) {
      throw new SchemaError('$ref', 'expected a reference inside the schema, as in #/$defs/name')
    }
    let at: unknown = root
    for (const part of reference.split('/').slice(1)) {
      const name = unescaped(part)
      at = typeof at === 'object' && at !== null && Object.hasOwn(at, name) ? (at as Schema)[name] : undefined
    }
    if (at === undefined) throw new SchemaError('$ref', 'leads to nothing')
    return at
  }
}

/** A part of a JSON pointer in a fragment (RFC 6901 §6). */
function unescaped(part: string): string {
  try {
    return decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~')
  } catch {
    throw new SchemaError('$ref', 'expected a reference inside the schema, as in #/$defs/name')
  }
}

function numberOf(schema: Schema, integer: boolean): Via {
  const bounds: Record<string, number> = {}
  for (const keyword of KEYWORDS_OF.number) {
    const value = schema[keyword]
    if (value === undefined) continue
    if (typeof value !== 'number' || !Number.isFinite(value)) throw new SchemaError(keyword, 'expected a number')
    bounds[keyword] = value
  }
  const multiple = bounds['multipleOf']
  if (multiple !== undefined && !(Number.isSafeInteger(multiple) && multiple > 0)) {
    // Fractions of two have no exact multiples of most others.
    throw new SchemaError('multipleOf', 'expected a positive integer')
  }
  if (Object.keys(bounds).length === 0) return integer ? ANY_INTEGER : ANY_NUMBER
  const terminal = boundedNumberTerminal(integer || multiple !== undefined, bounds as NumberBounds)
  if (terminal === undefined) throw new SchemaError('minimum', 'no number of at most 15 digits is within these bounds')
  return terminal
}

/** Exactly one of the values, written as JSON.stringify does. */
function chosen(keyword: string, choices: readonly unknown[]): Via {
  if (choices.length === 0) throw new SchemaError(keyword, 'no value of the type')
  const texts = choices.map((choice) => JSON.stringify(choice))
  if (texts.reduce((sum, { length }) => sum + length, 0) > MAX_CHOICE_CHARACTERS) {
    throw new SchemaError(keyword, `expected at most ${MAX_CHOICE_CHARACTERS} characters altogether`)
  }
  return literals(...texts)
}

function typesOf(schema: Schema): readonly Type[] | undefined {
  const type = schema['type']
  if (type === undefined) return undefined
  const named = Array.isArray(type) ? type : [type]
  const types = TYPES.filter((known) => named.includes(known))
  if (types.length === 0 || types.length !== new Set(named).size) {
    throw new SchemaError('type', `expected ${TYPES.join(', ')}, or a list of them`)
  }
  return types
}

/** Whether the value is of that type of JSON Schema's, by its name; of no other, whatever the name. */
export function isOf(value: unknown, type: unknown): boolean {
  switch (type) {
    case 'object':
      return isRecord(value)
    case 'array':
      return Array.isArray(value)
    case 'null':
      return value === null
    case 'integer':
      return Number.isInteger(value)
    default:
      return typeof value === type
  }
}

function list(schema: Schema, keyword: string, min: number, max: number): readonly unknown[] {
  const value = schema[keyword]
  if (Array.isArray(value) && value.length >= min && value.length <= max) return value
  throw new SchemaError(keyword, `expected a list of ${min} to ${max}`)
}

function count(schema: Schema, keyword: string, most: number): number | undefined {
  const value = schema[keyword]
  if (value === undefined) return undefined
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= most) return value
  throw new SchemaError(keyword, `expected an integer from 0 to ${most}`)
}

function refused(keyword: string, beside: string | undefined): SchemaError {
  const followed = Object.values(KEYWORDS_OF).flat() as readonly string[]
  if (beside !== undefined && [...followed, 'type', '$ref', 'anyOf', 'const', 'enum'].includes(keyword)) {
    return new SchemaError(keyword, 'cannot be followed together with the keywords beside it')
  }
  return REFUSED.has(keyword)
    ? new SchemaError(keyword, 'this keyword is not supported')
    : new SchemaError(undefined, 'a keyword that JSON Schema does not have')
}

function isRecord(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

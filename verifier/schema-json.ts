/**
 * From the valibot schemas that documents are read with to JSON Schema 2020-12, as far as those schemas go: objects,
 * lists, choices, literals, numbers, text and their bounds. Anything else throws, so that a schema this cannot express is
 * noticed by the tests and never published as weaker than it is.
 *
 * Custom checks (`v.check`, such as "all zeros expects nothing") have no counterpart and stay with the reader.
 */

export type JsonSchemaNode = Readonly<Record<string, unknown>>

/** What is read of a valibot schema or action; its own types do not describe one walked at run time. */
interface Node {
  readonly kind: string
  readonly type: string
  readonly pipe?: readonly Node[]
  readonly entries?: Readonly<Record<string, Node>>
  readonly wrapped?: Node
  readonly item?: Node
  readonly options?: readonly unknown[]
  readonly literal?: unknown
  readonly key?: Node
  readonly value?: Node
  readonly requirement?: unknown
  readonly getter?: (input: unknown) => Node
}

/** @throws TypeError on a schema with something that has no counterpart. */
export function toJsonSchema(schema: object): JsonSchemaNode {
  return convert(schema as Node)
}

function convert(node: Node): JsonSchemaNode {
  if (node.pipe === undefined) return base(node)
  const [first, ...rest] = node.pipe
  if (first === undefined) throw new TypeError('an empty pipe')
  const letters = rest.find((action) => action.type === 'to_lower_case' || action.type === 'to_upper_case')
  return Object.assign(base(first), ...rest.map((action) => bound(action, first.type, letters !== undefined)))
}

function base(node: Node): JsonSchemaNode {
  switch (node.type) {
    case 'string':
      return { type: 'string' }
    case 'number':
      return { type: 'number' }
    case 'null':
      return { type: 'null' }
    case 'boolean':
      return { type: 'boolean' }
    case 'literal':
      return { const: node.literal }
    case 'picklist':
      return { enum: [...(node.options ?? [])] }
    case 'array':
      return { type: 'array', items: convert(required(node.item)) }
    case 'union':
      return { anyOf: (node.options ?? []).map((option) => convert(option as Node)) }
    case 'record':
      return {
        type: 'object',
        propertyNames: convert(required(node.key)),
        additionalProperties: convert(required(node.value)),
      }
    case 'optional':
    case 'exact_optional':
      return convert(required(node.wrapped))
    case 'lazy': {
      // A choice made by the kind of input: an object, or a word.
      const getter = required(node.getter)
      return { anyOf: [convert(getter('')), convert(getter({}))] }
    }
    case 'strict_object': {
      const entries = Object.entries(node.entries ?? {})
      const needed = entries.filter(([, entry]) => !/optional$/.test(entry.type)).map(([name]) => name)
      return {
        type: 'object',
        properties: Object.fromEntries(entries.map(([name, entry]) => [name, convert(entry)])),
        ...(needed.length === 0 ? {} : { required: needed }),
        additionalProperties: false,
      }
    }
    default:
      throw new TypeError(`no JSON Schema for ${node.type}`)
  }
}

function bound({ type, requirement }: Node, of: string, anyCase: boolean): JsonSchemaNode {
  switch (type) {
    case 'integer':
      return { type: 'integer' }
    case 'min_value':
      return { minimum: requirement }
    case 'max_value':
      return { maximum: requirement }
    case 'min_length':
      return of === 'array' ? { minItems: requirement } : { minLength: requirement }
    case 'max_length':
      return of === 'array' ? { maxItems: requirement } : { maxLength: requirement }
    case 'regex': {
      const { source } = requirement as RegExp
      // The reader folds case before it matches.
      return { pattern: anyCase ? source.replace(/a-f|A-F/g, 'a-fA-F') : source }
    }
    case 'to_lower_case':
    case 'to_upper_case':
    case 'check':
      return {}
    default:
      throw new TypeError(`no JSON Schema for ${type}`)
  }
}

function required<T>(part: T | undefined): T {
  if (part === undefined) throw new TypeError('a schema without its part')
  return part
}

/** JSON Schema 2020-12 as far as the published schemas use it. A keyword it does not know throws: nothing is skipped. */

type Schema = Readonly<Record<string, unknown>>
const NOTES = ['$schema', '$id', 'title']

/** Every violation as `path: what`, or an empty list. */
export function violations(value: unknown, schema: Schema, path = '$'): string[] {
  const unknown = Object.keys(schema).filter((keyword) => !(keyword in KEYWORDS) && !NOTES.includes(keyword))
  if (unknown.length > 0) throw new TypeError(`unsupported keywords: ${unknown.join(' ')}`)
  return Object.entries(KEYWORDS).flatMap(([keyword, check]) =>
    keyword in schema ? check(value, schema[keyword] as never, path, schema) : [],
  )
}

type Check = (value: unknown, argument: never, path: string, schema: Schema) => string[]
const when = (holds: boolean, message: string): string[] => (holds ? [] : [message])
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b)

function typeOf(value: unknown): string[] {
  if (value === null) return ['null']
  if (Array.isArray(value)) return ['array']
  return Number.isInteger(value) ? ['number', 'integer'] : [typeof value]
}

const KEYWORDS: Readonly<Record<string, Check>> = {
  type: (value, type: string | string[], path) =>
    when(
      typeOf(value).some((is) => [type].flat().includes(is)),
      `${path}: expected ${type}`,
    ),
  enum: (value, choices: unknown[], path) =>
    when(
      choices.some((choice) => same(choice, value)),
      `${path}: not one of ${choices}`,
    ),
  const: (value, only: unknown, path) => when(same(only, value), `${path}: expected ${only}`),
  pattern: (value, source: string, path) =>
    when(typeof value !== 'string' || new RegExp(source, 'u').test(value), `${path}: does not match ${source}`),
  minLength: (value, n: number, path) => when(typeof value !== 'string' || value.length >= n, `${path}: too short`),
  maxLength: (value, n: number, path) => when(typeof value !== 'string' || value.length <= n, `${path}: too long`),
  minimum: (value, n: number, path) => when(typeof value !== 'number' || value >= n, `${path}: too small`),
  maximum: (value, n: number, path) => when(typeof value !== 'number' || value <= n, `${path}: too large`),
  minItems: (value, n: number, path) => when(!Array.isArray(value) || value.length >= n, `${path}: too few`),
  maxItems: (value, n: number, path) => when(!Array.isArray(value) || value.length <= n, `${path}: too many`),
  items: (value, schema: Schema, path) =>
    Array.isArray(value) ? value.flatMap((item, i) => violations(item, schema, `${path}[${i}]`)) : [],
  required: (value, names: string[], path) =>
    isObject(value) ? names.filter((name) => !(name in value)).map((name) => `${path}: no ${name}`) : [],
  properties: (value, schemas: Record<string, Schema>, path) =>
    isObject(value)
      ? Object.entries(schemas).flatMap(([name, schema]) =>
          name in value ? violations(value[name], schema, `${path}.${name}`) : [],
        )
      : [],
  propertyNames: (value, schema: Schema, path) =>
    isObject(value) ? Object.keys(value).flatMap((name) => violations(name, schema, `${path}.${name}`)) : [],
  additionalProperties: (value, schema: Schema | false, path, { properties }) => {
    if (!isObject(value)) return []
    const extra = Object.keys(value).filter((name) => !(name in ((properties ?? {}) as object)))
    return extra.flatMap((name) =>
      schema === false ? [`${path}: unknown ${name}`] : violations(value[name], schema, `${path}.${name}`),
    )
  },
  anyOf: (value, schemas: Schema[], path) =>
    when(
      schemas.some((schema) => violations(value, schema, path).length === 0),
      `${path}: none of the choices`,
    ),
  oneOf: (value, schemas: Schema[], path) =>
    when(
      schemas.filter((schema) => violations(value, schema, path).length === 0).length === 1,
      `${path}: not exactly one of the choices`,
    ),
}

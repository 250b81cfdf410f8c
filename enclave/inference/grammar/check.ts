/**
 * Whether a value follows a schema of the kind `schema.ts` takes: for answers that another program constrained. Only for
 * schemas a grammar was made of; patterns are matched as automata, so that no text takes long. `format` is a note here, as
 * JSON Schema has it: grammars write fewer texts of each than there are.
 */
import { isDeepStrictEqual } from 'node:util'
import { type Characters, countedCharacters } from './characters.js'
import { patternCharacters } from './pattern.js'
import { isOf } from './schema.js'
import { DEAD } from './terminal.js'

type Schema = Readonly<Record<string, unknown>>

export function followsSchema(root: unknown, value: unknown): boolean {
  /** By pattern and lengths: an answer may have many texts of one kind. */
  const made = new Map<string, Characters | undefined>()
  return follows(root, value)

  function follows(schema: unknown, own: unknown): boolean {
    if (typeof schema !== 'object' || schema === null) return schema === true
    const s = schema as Schema
    if (typeof s['$ref'] === 'string') return follows(target(s['$ref']), own)
    if (Array.isArray(s['anyOf'])) return s['anyOf'].some((one) => follows(one, own))
    if (Array.isArray(s['allOf'])) return s['allOf'].every((one) => follows(one, own))
    const types = s['type'] === undefined ? undefined : [s['type']].flat()
    if (types !== undefined && !types.some((type) => isOf(own, type))) return false
    if (Object.hasOwn(s, 'const') && !isDeepStrictEqual(own, s['const'])) return false
    if (Array.isArray(s['enum']) && !s['enum'].some((choice) => isDeepStrictEqual(own, choice))) return false
    if (typeof own === 'number') return inBounds(s, own)
    if (typeof own === 'string') return isText(s, own)
    if (Array.isArray(own)) return isArray(s, own)
    return typeof own !== 'object' || own === null || isObject(s, own as Schema)
  }

  function isArray(s: Schema, own: readonly unknown[]): boolean {
    const first = Array.isArray(s['prefixItems']) ? s['prefixItems'] : []
    const {
      minItems = 0,
      maxItems = Number.POSITIVE_INFINITY,
      items = true,
    } = s as { minItems?: number; maxItems?: number; items?: unknown }
    if (own.length < minItems || own.length > maxItems) return false
    return own.every((item, i) => follows(i < first.length ? first[i] : items, item))
  }

  function isObject(s: Schema, own: Schema): boolean {
    const properties = (s['properties'] ?? {}) as Schema
    const required = Array.isArray(s['required']) ? s['required'] : []
    const additional = s['additionalProperties'] ?? true
    if (!required.every((name) => typeof name === 'string' && Object.hasOwn(own, name))) return false
    return Object.entries(own).every(([name, item]) =>
      follows(Object.hasOwn(properties, name) ? properties[name] : additional, item),
    )
  }

  function isText({ pattern, minLength, maxLength }: Schema, text: string): boolean {
    const key = JSON.stringify([pattern, minLength, maxLength])
    const known = made.get(key)
    const characters = made.has(key) ? known : charactersOf(pattern, minLength, maxLength)
    made.set(key, characters)
    let state = characters?.start ?? DEAD
    for (const character of text) {
      if (state === DEAD) return false
      state = characters?.step(state, character.codePointAt(0) ?? 0) ?? DEAD
    }
    return state !== DEAD && characters?.accepts(state) === true
  }

  function target(reference: string): unknown {
    let at: unknown = root
    for (const part of reference.split('/').slice(1)) {
      const name = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~')
      at = typeof at === 'object' && at !== null && Object.hasOwn(at, name) ? (at as Schema)[name] : undefined
    }
    return at
  }
}

function inBounds(s: Schema, value: number): boolean {
  const bound = (keyword: string, holds: (limit: number) => boolean): boolean => {
    const limit = s[keyword]
    return typeof limit !== 'number' || holds(limit)
  }
  return (
    Number.isFinite(value) &&
    bound('minimum', (limit) => value >= limit) &&
    bound('maximum', (limit) => value <= limit) &&
    bound('exclusiveMinimum', (limit) => value > limit) &&
    bound('exclusiveMaximum', (limit) => value < limit) &&
    bound('multipleOf', (limit) => value % limit === 0)
  )
}

function charactersOf(pattern: unknown, minLength: unknown, maxLength: unknown): Characters | undefined {
  const min = typeof minLength === 'number' ? minLength : 0
  const max = typeof maxLength === 'number' ? maxLength : undefined
  // The grammar was made of the same patterns, and they cost no more than they may.
  const budget = { count: 1, steps: Number.POSITIVE_INFINITY }
  return typeof pattern === 'string' ? patternCharacters(pattern, { min, max }, budget) : countedCharacters(min, max)
}

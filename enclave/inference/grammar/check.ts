/**
 * Whether a value follows a schema of the kind `schema.ts` takes: for answers that another program constrained. Only for
 * schemas a grammar was made of; patterns are matched as automata, so that no text takes long. `format` is a note here, as
 * JSON Schema has it: grammars write fewer texts of each than there are.
 *
 * References and alternatives are taken apart first, each once, into the schemas that say something of a value: a reference
 * that leads back to itself says nothing. Each of those is held against each value once, however many ways lead there.
 */
import { setImmediate as nextLoop } from 'node:timers/promises'
import { EngineError } from '../errors.js'
import { type Characters, countedCharacters } from './characters.js'
import { patternCharacters } from './pattern.js'
import { isOf } from './schema.js'
import { DEAD } from './terminal.js'

type Schema = Readonly<Record<string, unknown>>
/** Yields whenever other work should have its turn. */
type Slices<T> = Generator<void, T, void>

/** Values inside each other; the grammars made here write fewer. */
const MAX_VALUE_DEPTH = 256
/** Comparisons, of a schema with a value or of a character with a pattern. */
const MAX_STEPS = 2_000_000
const SLICE_STEPS = 10_000

/**
 * The event loop gets its turn in between. A value that is too deep does not follow.
 * @throws EngineError `engine.failed` when value and schema together are more than can be compared.
 */
export async function followsSchema(root: unknown, value: unknown): Promise<boolean> {
  const slices = createFollows(root)(root, value, 0)
  for (;;) {
    const slice = slices.next()
    if (slice.done === true) return slice.value
    await nextLoop()
  }
}

function createFollows(root: unknown): (schema: unknown, own: unknown, depth: number) => Slices<boolean> {
  const known = new Map<unknown, Map<unknown, boolean>>()
  const telling = new Map<unknown, readonly unknown[]>()
  const characters = new Map<Schema, Characters | undefined>()
  const choices = new Map<Schema, ReadonlySet<string>>()
  const spelled = new WeakMap<object, string>()
  let [steps, slice] = [0, 0]

  return follows

  function spend(count: number): boolean {
    steps += count
    slice += count
    if (steps > MAX_STEPS) throw new EngineError('engine.failed', 'an answer with too much in it to compare')
    if (slice < SLICE_STEPS) return false
    slice = 0
    return true
  }

  function* follows(schema: unknown, own: unknown, depth: number): Slices<boolean> {
    if (schema === true) return true
    if (depth > MAX_VALUE_DEPTH) return false
    const ofSchema = known.get(schema) ?? new Map<unknown, boolean>()
    known.set(schema, ofSchema)
    const before = ofSchema.get(own)
    if (before !== undefined) return before
    let result = false
    for (const one of tellingOf(schema)) {
      if (spend(1)) yield
      result =
        one === true || (one === schema ? yield* holds(one as Schema, own, depth) : yield* follows(one, own, depth))
      if (result) break
    }
    ofSchema.set(own, result)
    return result
  }

  /** The schemas behind references and alternatives, none of which are either: a value follows if it follows one of them. */
  function tellingOf(schema: unknown): readonly unknown[] {
    const made = telling.get(schema)
    if (made !== undefined) return made
    const found: unknown[] = []
    const seen = new Set<unknown>()
    const open = [schema]
    while (open.length > 0) {
      const one = open.pop()
      if (seen.has(one)) continue
      seen.add(one)
      if (one === true) found.push(true)
      if (typeof one !== 'object' || one === null) continue
      const { $ref: reference, anyOf, allOf } = one as Schema
      if (typeof reference === 'string') open.push(target(reference))
      else if (Array.isArray(anyOf)) open.push(...[...anyOf].reverse())
      // Grammars are made of no longer ones.
      else if (Array.isArray(allOf)) open.push(...(allOf.length === 1 ? allOf : []))
      else found.push(one)
    }
    spend(seen.size)
    telling.set(schema, found)
    return found
  }

  /** Of a schema that is no reference. */
  function* holds(s: Schema, own: unknown, depth: number): Slices<boolean> {
    const types = s['type'] === undefined ? undefined : [s['type']].flat()
    if (types !== undefined && !types.some((type) => isOf(own, type))) return false
    if (Object.hasOwn(s, 'const') || Array.isArray(s['enum'])) return choicesOf(s).has(spell(own))
    if (typeof own === 'number') return inBounds(s, own)
    if (typeof own === 'string') return yield* isText(s, own)
    if (Array.isArray(own)) return yield* isArray(s, own, depth)
    return typeof own !== 'object' || own === null || (yield* isObject(s, own as Schema, depth))
  }

  function* isArray(s: Schema, own: readonly unknown[], depth: number): Slices<boolean> {
    const first = Array.isArray(s['prefixItems']) ? s['prefixItems'] : []
    const {
      minItems = 0,
      maxItems = Number.POSITIVE_INFINITY,
      items = true,
    } = s as { minItems?: number; maxItems?: number; items?: unknown }
    if (own.length < minItems || own.length > maxItems) return false
    for (const [i, item] of own.entries()) {
      if (spend(1)) yield
      if (!(yield* follows(i < first.length ? first[i] : items, item, depth + 1))) return false
    }
    return true
  }

  function* isObject(s: Schema, own: Schema, depth: number): Slices<boolean> {
    const properties = (s['properties'] ?? {}) as Schema
    const required = Array.isArray(s['required']) ? s['required'] : []
    const additional = s['additionalProperties'] ?? true
    if (spend(required.length)) yield
    if (!required.every((name) => typeof name === 'string' && Object.hasOwn(own, name))) return false
    for (const [name, item] of Object.entries(own)) {
      if (spend(1)) yield
      const schema = Object.hasOwn(properties, name) ? properties[name] : additional
      if (!(yield* follows(schema, item, depth + 1))) return false
    }
    return true
  }

  function* isText(s: Schema, text: string): Slices<boolean> {
    if (!characters.has(s)) characters.set(s, charactersOf(s))
    const automaton = characters.get(s)
    let state = automaton?.start ?? DEAD
    for (const character of text) {
      if (state === DEAD) return false
      if (spend(1)) yield
      state = automaton?.step(state, character.codePointAt(0) ?? 0) ?? DEAD
    }
    return state !== DEAD && automaton?.accepts(state) === true
  }

  function choicesOf(s: Schema): ReadonlySet<string> {
    const made = choices.get(s)
    if (made !== undefined) return made
    const values = Object.hasOwn(s, 'const') ? [s['const']] : (s['enum'] as readonly unknown[])
    const set = new Set(values.map(spell))
    spend(values.length)
    choices.set(s, set)
    return set
  }

  /** Alike for equal values, in whatever order their members are. */
  function spell(value: unknown, depth = 0): string {
    if (typeof value !== 'object' || value === null) return JSON.stringify(value)
    const made = spelled.get(value)
    if (made !== undefined) return made
    // No choice of a request is as deep.
    if (depth > MAX_VALUE_DEPTH) return ''
    spend(1)
    const text = Array.isArray(value)
      ? `[${value.map((item) => spell(item, depth + 1)).join()}]`
      : `{${Object.entries(value)
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .map(([name, item]) => `${JSON.stringify(name)}:${spell(item, depth + 1)}`)
          .join()}}`
    spelled.set(value, text)
    return text
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

function charactersOf({ pattern, minLength, maxLength }: Schema): Characters | undefined {
  const min = typeof minLength === 'number' ? minLength : 0
  const max = typeof maxLength === 'number' ? maxLength : undefined
  // The grammar was made of the same patterns, and they cost no more than they may.
  const budget = { count: 1, steps: Number.POSITIVE_INFINITY }
  return typeof pattern === 'string' ? patternCharacters(pattern, { min, max }, budget) : countedCharacters(min, max)
}

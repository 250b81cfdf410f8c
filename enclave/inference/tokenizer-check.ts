/**
 * Whether a tokenizer.json fits its model: every token has a number of its own that the model knows, and is of a kind that the
 * tokenizer library runs as it was meant. The library itself takes any number, and any kind for one of those it has.
 */
import { EngineError } from './errors.js'
import type { ModelManifest } from './package.js'

const KINDS = ['BPE', 'Unigram'] as const

type Fields = Readonly<Record<string, unknown>>

/** `definition` is the object in tokenizer.json. @throws EngineError `package.unusable`. */
export function checkTokenizer(
  definition: object,
  { vocabularySize, eosTokenIds }: ModelManifest['architecture'],
): void {
  const model = fieldsOf((definition as Fields)['model'], 'model')
  const kind = KINDS.find((known) => known === model['type'])
  if (kind === undefined) {
    throw unusable(`model: type: expected ${KINDS.join(' or ')}, got ${quoted(model['type'])}`)
  }
  /** By number. */
  const texts = new Map<number, string>()
  const add = (text: string, id: unknown): void => {
    if (typeof id !== 'number' || !Number.isSafeInteger(id) || id < 0 || id >= vocabularySize) {
      throw unusable(`the token ${quoted(text)}: expected a number from 0 to ${vocabularySize - 1}, got ${quoted(id)}`)
    }
    const known = texts.get(id)
    if (known !== undefined && known !== text)
      throw unusable(`${quoted(known)} and ${quoted(text)} are both token ${id}`)
    texts.set(id, text)
  }
  if (kind === 'BPE') for (const [text, id] of Object.entries(fieldsOf(model['vocab'], 'model: vocab'))) add(text, id)
  else pieces(model['vocab']).forEach(add)
  addedTokens((definition as Fields)['added_tokens'], texts).forEach(({ content, id }) => {
    add(content, id)
  })
  const unknown = model[kind === 'BPE' ? 'unk_token' : 'unk_id'] ?? undefined
  const known = kind === 'BPE' ? [...texts.values()].includes(String(unknown)) : texts.has(Number(unknown))
  if (unknown !== undefined && !known) throw unusable('what stands for unknown text is no token')
  if (splitsByRegex((definition as Fields)['decoder'])) {
    // Answers are decoded where everybody's are, and nothing stops an expression there that goes on for ever.
    throw unusable('decoder: expected texts to be replaced, got a regular expression')
  }
  const stray = eosTokenIds.find((id) => !texts.has(id))
  if (stray !== undefined)
    throw unusable(`the manifest ends answers with token ${stray}, which the tokenizer does not have`)
}

function splitsByRegex(decoder: unknown): boolean {
  if (typeof decoder !== 'object' || decoder === null) return false
  const { pattern, decoders } = decoder as Fields
  if (typeof pattern === 'object' && pattern !== null && 'Regex' in pattern) return true
  return Array.isArray(decoders) && decoders.some(splitsByRegex)
}

function pieces(vocab: unknown): readonly string[] {
  if (!Array.isArray(vocab)) throw unusable('model: vocab: expected a list')
  return vocab.map((entry: unknown) => {
    const [text, score]: readonly unknown[] = Array.isArray(entry) ? entry : []
    if (typeof text === 'string' && typeof score === 'number') return text
    throw unusable('model: vocab: expected texts with their scores')
  })
}

/** Their texts may be in the vocabulary already, under the same number. */
function addedTokens(
  value: unknown,
  texts: ReadonlyMap<number, string>,
): readonly { readonly content: string; readonly id: number }[] {
  if (!Array.isArray(value)) throw unusable('added_tokens: expected a list')
  const numbers = new Map([...texts].map(([id, text]) => [text, id]))
  return value.map((entry: unknown) => {
    const { content, id } = fieldsOf(entry, 'added_tokens')
    // An empty text would be found everywhere.
    if (typeof content !== 'string' || content === '')
      throw unusable('added_tokens: expected content that is not empty')
    const known = numbers.get(content) ?? id
    if (known !== id) throw unusable(`the token ${quoted(content)} has two numbers, ${quoted(known)} and ${quoted(id)}`)
    numbers.set(content, id as number)
    return { content, id: id as number }
  })
}

function fieldsOf(value: unknown, what: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields
  throw unusable(`${what}: expected an object`)
}

function quoted(value: unknown): string {
  return JSON.stringify(typeof value === 'string' ? value.slice(0, 40) : value)?.slice(0, 60) ?? 'none'
}

function unusable(problem: string): EngineError {
  return new EngineError('package.unusable', `tokenizer.json: ${problem}`)
}

/**
 * Text to token ids and back, as the package's tokenizer.json says. Only importer of the tokenizer library.
 */
import { Tokenizer } from '@huggingface/tokenizers'
import { fromUtf8, utf8 } from '../../verifier/protocol/bytes.js'
import { EngineError } from './errors.js'
import { createVocabulary, tokenBytes, type Vocabulary } from './grammar/vocabulary.js'
import { fileBytes, type ModelPackage } from './package.js'
import { checkTokenizer } from './tokenizer-check.js'

export interface TextTokenizer {
  /** Token ids. Control tokens spelled out in `text` become control tokens: see `chat.ts` for text that is not ours. */
  encode(text: string): number[]
  /** Text without control tokens; never tidied, so that pieces add up. Any list of ids of the vocabulary. */
  decode(tokenIds: readonly number[]): string
  /** One token decoded alone, control tokens spelled out. */
  spell(tokenId: number): string
  /** What the model begins every text with: usually nothing, or one control token. */
  readonly prefix: readonly number[]
  /** The spelling of every control token. */
  readonly controlTokens: readonly string[]
  /** What each token writes, for constrained answers; undefined where the tokenizer is of no known family. */
  readonly vocabulary: Vocabulary | undefined
  /** `bos_token`, `eos_token` and the like, for the chat template. */
  readonly named: Readonly<Record<string, string>>
}

/** @throws EngineError `package.unusable`. */
export function createTokenizer(modelPackage: ModelPackage): TextTokenizer {
  const config = parseJson(modelPackage, 'tokenizer_config.json')
  const definition = parseJson(modelPackage, 'tokenizer.json')
  checkTokenizer(definition, modelPackage.manifest.architecture)
  const tokenizer = construct(definition, config)
  const added = [...tokenizer.get_added_tokens_decoder().values()]
  const controlTokens = added.filter((token) => token.special).map((token) => token.content)
  if (controlTokens.some((token) => [...token].length < 2)) {
    throw new EngineError('package.unusable', 'a control token of one character cannot be told from text')
  }
  const decodeWith = (tokenIds: readonly number[], skipControl: boolean): string => {
    // A model may have more tokens than its tokenizer, and choose one of those: they write nothing.
    const known = tokenIds.filter((id) => tokenizer.id_to_token(id) !== undefined)
    return known.length === 0
      ? ''
      : tokenizer.decode(known, { skip_special_tokens: skipControl, clean_up_tokenization_spaces: false })
  }

  return {
    encode: (text) => tokenizer.encode(text, { add_special_tokens: false }).ids,
    decode: (tokenIds) => decodeWith(tokenIds, true),
    spell: (tokenId) => decodeWith([tokenId], false),
    prefix: prefixOf(tokenizer),
    controlTokens,
    vocabulary: readVocabulary(modelPackage, definition, added),
    named: namedTokens(config),
  }
}

function construct(definition: object, config: object): Tokenizer {
  try {
    return new Tokenizer(definition, config)
  } catch (cause) {
    throw new EngineError('package.unusable', 'tokenizer.json is not a tokenizer this library can run', { cause })
  }
}

/** What comes before the tokens of a text when control tokens are asked for, and not when they are not. */
function prefixOf(tokenizer: Tokenizer): number[] {
  const bare: number[] = tokenizer.encode('a', { add_special_tokens: false }).ids
  const whole: number[] = tokenizer.encode('a', { add_special_tokens: true }).ids
  const at = whole.findIndex((_, i) => bare.every((id, j) => whole[i + j] === id))
  return whole.slice(0, Math.max(0, at))
}

/** Added tokens write themselves, but for control tokens, which write nothing. */
function readVocabulary(
  { manifest }: ModelPackage,
  definition: object,
  added: readonly { readonly id: number; readonly content: string; readonly special: boolean }[],
): Vocabulary | undefined {
  const bytesOf = 'decoder' in definition ? tokenBytes(definition.decoder) : undefined
  const model = 'model' in definition ? definition.model : undefined
  const entries = typeof model === 'object' && model !== null && 'vocab' in model ? model.vocab : undefined
  if (bytesOf === undefined || typeof entries !== 'object' || entries === null || Array.isArray(entries))
    return undefined
  const size = manifest.architecture.vocabularySize
  const all: (Uint8Array | undefined)[] = Array.from({ length: size }, () => undefined)
  for (const [token, id] of Object.entries(entries)) if (Number.isInteger(id) && id < size) all[id] = bytesOf(token)
  for (const { id, content, special } of added) if (id < size) all[id] = special ? undefined : utf8(content)
  return createVocabulary(size, all)
}

function namedTokens(config: object): Record<string, string> {
  const named: Record<string, string> = {}
  for (const [name, value] of Object.entries(config)) {
    if (!/^[a-z]+_token$/.test(name)) continue
    const content: unknown = typeof value === 'object' && value !== null ? value.content : value
    if (typeof content === 'string') named[name] = content
  }
  return named
}

function parseJson(modelPackage: ModelPackage, path: string): object {
  let value: unknown
  try {
    value = JSON.parse(fromUtf8(fileBytes(modelPackage, path)))
  } catch (cause) {
    if (cause instanceof EngineError) throw cause
    throw new EngineError('package.unusable', `${path}: expected JSON`, { cause })
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  throw new EngineError('package.unusable', `${path}: expected an object`)
}

/**
 * Text to token ids and back, as the package's tokenizer.json says: texts on a thread of their own, ids at once.
 */
import { Tokenizer } from '@huggingface/tokenizers'
import { fromUtf8, utf8 } from '../../verifier/protocol/bytes.js'
import { ContextOverflowError, EngineError } from './errors.js'
import { createFewestTokens } from './fewest-tokens.js'
import { createVocabulary, tokenBytes, type Vocabulary } from './grammar/vocabulary.js'
import { fileBytes, type ModelPackage } from './package.js'
import { checkTokenizer } from './tokenizer-check.js'
import { startTokenizerThread, type TokenizerThread } from './tokenizer-thread.js'

export interface TextTokenizer {
  /**
   * Token ids of the parts of a text, each tokenised by itself. Control tokens spelled out in one become control tokens: see
   * `chat.ts` for text that is not ours. Where it is known that there would be more than `most` (default: any number), it is
   * refused before it is tokenised; what comes may still be more.
   * @throws EngineError `context.overflow`, `engine.failed`, `closed`.
   */
  encode(parts: readonly string[], most?: number): Promise<number[]>
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
  /** False once the thread is gone, with every text that comes. */
  healthy(): boolean
  /** Ends the thread; what waits for it fails with `closed`. */
  close(): Promise<void>
}

/** @throws EngineError `package.unusable`. */
export async function createTokenizer(modelPackage: ModelPackage): Promise<TextTokenizer> {
  const config = parseJson(modelPackage, 'tokenizer_config.json')
  const definition = parseJson(modelPackage, 'tokenizer.json')
  checkTokenizer(definition, modelPackage.manifest.architecture)
  const tokenizer = construct(withoutMerges(definition), config)
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
  const written = writtenBytes(modelPackage, definition, added)
  const fewest = written && createFewestTokens(definition, written.all, added)
  const vocabulary = written && createVocabulary(written.text.length, written.text)
  const named = namedTokens(config)
  // Last: whatever fails before leaves no thread behind.
  const thread = await startTokenizerThread(
    fromUtf8(fileBytes(modelPackage, 'tokenizer.json')),
    fromUtf8(fileBytes(modelPackage, 'tokenizer_config.json')),
  )

  return {
    async encode(parts, most = Number.POSITIVE_INFINITY) {
      let count = 0
      for (const part of fewest === undefined || most === Number.POSITIVE_INFINITY ? [] : parts) {
        count += fewest?.(part, most - count) ?? 0
        if (count > most) throw new ContextOverflowError(count, 0, most)
      }
      return thread.encode(parts)
    },
    decode: (tokenIds) => decodeWith(tokenIds, true),
    spell: (tokenId) => decodeWith([tokenId], false),
    prefix: prefixOf(thread.sample),
    controlTokens,
    vocabulary,
    named,
    healthy: thread.healthy,
    close: thread.close,
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
function prefixOf([bare, whole]: TokenizerThread['sample']): readonly number[] {
  const at = whole.findIndex((_, i) => bare.every((id, j) => whole[i + j] === id))
  return whole.slice(0, Math.max(0, at))
}

/** The rules by which texts become tokens, most of such a file, are for the thread alone. */
function withoutMerges(definition: object): object {
  const model: unknown = 'model' in definition ? definition.model : undefined
  const merging = typeof model === 'object' && model !== null && 'merges' in model && Array.isArray(model.merges)
  return merging ? { ...definition, model: { ...model, merges: [] } } : definition
}

/** What each token writes; undefined where the tokenizer is of no known family. */
interface Written {
  /** As text: control tokens write none. */
  readonly text: readonly (Uint8Array | undefined)[]
  /** Of all tokens, control tokens by their spelling. */
  readonly all: readonly Uint8Array[]
}

/** Added tokens write themselves. */
function writtenBytes(
  { manifest }: ModelPackage,
  definition: object,
  added: readonly { readonly id: number; readonly content: string; readonly special: boolean }[],
): Written | undefined {
  const bytesOf = 'decoder' in definition ? tokenBytes(definition.decoder) : undefined
  const model = 'model' in definition ? definition.model : undefined
  const entries = typeof model === 'object' && model !== null && 'vocab' in model ? model.vocab : undefined
  if (bytesOf === undefined || typeof entries !== 'object' || entries === null || Array.isArray(entries))
    return undefined
  const size = manifest.architecture.vocabularySize
  const text: (Uint8Array | undefined)[] = Array.from({ length: size }, () => undefined)
  for (const [token, id] of Object.entries(entries)) if (Number.isInteger(id) && id < size) text[id] = bytesOf(token)
  for (const { id, content, special } of added) if (id < size) text[id] = special ? undefined : utf8(content)
  const known = text.filter((bytes) => bytes !== undefined)
  return { text, all: [...known, ...added.map(({ content }) => utf8(content))] }
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

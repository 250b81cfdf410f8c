/**
 * Text to token ids and back, as the package's tokenizer.json says. Only importer of the tokenizer library.
 */
import { Tokenizer } from '@huggingface/tokenizers'
import { fromUtf8 } from '../../verifier/protocol/bytes.js'
import { EngineError } from './errors.js'
import { fileBytes, type ModelPackage } from './package.js'

export interface TextTokenizer {
  /** Token ids. Control tokens spelled out in `text` become control tokens: see `chat.ts` for text that is not ours. */
  encode(text: string): number[]
  /** Text without control tokens; never tidied, so that pieces add up. Any list of ids of the vocabulary. */
  decode(tokenIds: readonly number[]): string
  /** One token decoded alone, control tokens spelled out. */
  spell(tokenId: number): string
  /** The spelling of every control token. */
  readonly controlTokens: readonly string[]
  /** `bos_token`, `eos_token` and the like, for the chat template. */
  readonly named: Readonly<Record<string, string>>
}

/** @throws EngineError `package.unusable`. */
export function createTokenizer(modelPackage: ModelPackage): TextTokenizer {
  const config = parseJson(modelPackage, 'tokenizer_config.json')
  const tokenizer = construct(parseJson(modelPackage, 'tokenizer.json'), config)
  const added = [...tokenizer.get_added_tokens_decoder().values()]
  const controlTokens = added.filter((token) => token.special).map((token) => token.content)
  if (controlTokens.some((token) => [...token].length < 2)) {
    throw new EngineError('package.unusable', 'a control token of one character cannot be told from text')
  }
  const decodeWith = (tokenIds: readonly number[], skipControl: boolean): string =>
    tokenIds.length === 0
      ? ''
      : tokenizer.decode([...tokenIds], { skip_special_tokens: skipControl, clean_up_tokenization_spaces: false })

  return {
    encode: (text) => tokenizer.encode(text, { add_special_tokens: false }).ids,
    decode: (tokenIds) => decodeWith(tokenIds, true),
    spell: (tokenId) => decodeWith([tokenId], false),
    controlTokens,
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

/**
 * The byte-level BPE tokenizer inside a GGUF file, in the form of tokenizer.json. GGUF names its way of splitting text and
 * leaves the rule to the reader: only names whose rule is known here are taken. SentencePiece vocabularies are not.
 */
import type { GgufHeader } from './gguf.js'
import { broken } from './model-file.js'

const LLAMA3_WORDS =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
const byteLevel = (useRegex: boolean): object => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
})
const words = (pattern: string): object => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
    byteLevel(false),
  ],
})

const SPLITTERS: Readonly<
  Record<string, { readonly pre: object; readonly normalizer?: object; readonly ignoreMerges?: boolean }>
> = {
  'gpt-2': { pre: byteLevel(true) },
  smollm: { pre: { type: 'Sequence', pretokenizers: [{ type: 'Digits', individual_digits: true }, byteLevel(true)] } },
  'llama-bpe': { pre: words(LLAMA3_WORDS), ignoreMerges: true },
  qwen2: { pre: words(LLAMA3_WORDS.replace('{1,3}', '')), normalizer: { type: 'NFC' } },
}

/** For each token; most are made in one way, and some in several. */
const MOST_MERGES = 16
const NORMAL_TOKEN = 1
const CONTROL_TOKEN = 3
const USER_TOKEN = 4

export interface GgufTokenizer {
  readonly tokenizer: object
  readonly config: object
  readonly eosTokenIds: readonly number[]
  readonly vocabularySize: number
}

/** @throws ModelFileError, saying what to give instead. */
export function readGgufTokenizer({ metadata }: GgufHeader): GgufTokenizer {
  const model = metadata.get('tokenizer.ggml.model')
  const splitting = metadata.get('tokenizer.ggml.pre') ?? 'gpt-2'
  const splitter =
    typeof splitting === 'string' && Object.hasOwn(SPLITTERS, splitting) ? SPLITTERS[splitting] : undefined
  if (model !== 'gpt2' || splitter === undefined) {
    throw broken(
      'this tokenizer is not one that can be taken from a GGUF file: import the Hugging Face folder of the model',
    )
  }
  const tokens = texts(metadata.get('tokenizer.ggml.tokens'), 'tokens')
  const merges = texts(metadata.get('tokenizer.ggml.merges'), 'merges')
  if (new Set(tokens).size !== tokens.length) throw broken('tokenizer.ggml.tokens: a token is there twice')
  if (merges.length > MOST_MERGES * tokens.length) {
    throw broken(`tokenizer.ggml.merges: expected at most ${MOST_MERGES * tokens.length}, got ${merges.length}`)
  }
  const types = metadata.get('tokenizer.ggml.token_type')
  const kindOf = (id: number): unknown => (typeof types === 'object' ? types.at(id) : undefined) ?? NORMAL_TOKEN
  const added = tokens
    .map((content, id) => ({ id, content, kind: kindOf(id) }))
    .filter(({ kind }) => kind === CONTROL_TOKEN || kind === USER_TOKEN)
  const idOf = (key: string): number | undefined => {
    const id = metadata.get(`tokenizer.ggml.${key}_token_id`)
    return typeof id === 'number' && id >= 0 && id < tokens.length ? id : undefined
  }
  const eosTokenIds = [...new Set(['eos', 'eot', 'eom'].map(idOf).filter((id) => id !== undefined))]
  if (eosTokenIds.length === 0) throw broken('the file names no token that ends an answer')
  const named = ['bos', 'eos', 'unk'].flatMap((key) => {
    const id = idOf(key === 'unk' ? 'unknown' : key)
    return id === undefined ? [] : [[`${key}_token`, tokens[id]] as const]
  })
  return {
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added.map(({ id, content, kind }) => ({
        id,
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: kind === CONTROL_TOKEN,
      })),
      normalizer: splitter.normalizer ?? null,
      pre_tokenizer: splitter.pre,
      post_processor: null,
      decoder: byteLevel(true),
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: splitter.ignoreMerges ?? false,
        vocab: Object.fromEntries(tokens.map((content, id) => [content, id])),
        merges,
      },
    },
    config: {
      tokenizer_class: 'PreTrainedTokenizerFast',
      clean_up_tokenization_spaces: false,
      ...Object.fromEntries(named),
    },
    eosTokenIds,
    vocabularySize: tokens.length,
  }
}

function texts(value: unknown, what: string): readonly string[] {
  if (Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'string')) return value
  throw broken(`tokenizer.ggml.${what}: expected a list of texts`)
}

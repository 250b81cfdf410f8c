/** Tokenizer and template of a package, after a trial: whether they make a plain chat into tokens of the model. */
import { type ChatEncoder, createChatEncoder } from './chat.js'
import { EngineError } from './errors.js'
import type { ModelPackage } from './package.js'
import { createTokenizer, type TextTokenizer } from './tokenizer.js'

export interface TriedChats {
  readonly tokenizer: TextTokenizer
  readonly encoder: ChatEncoder
}

/** The tokenizer, which has a thread, is the caller's to close; where this fails nothing is left of it. @throws EngineError `package.unusable`. */
export async function openChats(modelPackage: ModelPackage): Promise<TriedChats> {
  const tokenizer = await createTokenizer(modelPackage)
  try {
    const encoder = createChatEncoder(modelPackage, tokenizer)
    await expectChats(encoder, modelPackage.manifest.architecture.vocabularySize)
    return { tokenizer, encoder }
  } catch (error) {
    await tokenizer.close()
    throw error
  }
}

async function expectChats(encoder: ChatEncoder, vocabularySize: number): Promise<void> {
  const content = 'Hello, 1 + 1?'
  let tokens: readonly number[]
  let plain: readonly number[]
  try {
    tokens = await encoder.chat([{ role: 'user', content }])
    plain = await encoder.text(content)
  } catch (cause) {
    const slow = cause instanceof EngineError && cause.code === 'text.slow'
    const problem = slow ? 'the tokenizer takes too long over' : 'the chat template refuses'
    throw new EngineError('package.unusable', `${problem} a chat of one message`, { cause })
  }
  const known = (id: number): boolean => Number.isSafeInteger(id) && id >= 0 && id < vocabularySize
  if (tokens.length === 0 || !tokens.every(known) || !plain.every(known)) {
    throw new EngineError('package.unusable', 'template and tokenizer make no tokens of the model of a plain chat')
  }
}

/** A trial at start-up: whether template and tokenizer make a plain chat into tokens of the model. */
import type { ChatEncoder } from './chat.js'
import { EngineError } from './errors.js'

/** @throws EngineError `package.unusable`. */
export async function expectChats(encoder: ChatEncoder, vocabularySize: number): Promise<void> {
  const content = 'Hello, 1 + 1?'
  let tokens: readonly number[]
  try {
    tokens = await encoder.chat([{ role: 'user', content }])
  } catch (cause) {
    throw new EngineError('package.unusable', 'the chat template refuses a chat of one message', { cause })
  }
  const known = (id: number): boolean => Number.isSafeInteger(id) && id >= 0 && id < vocabularySize
  if (tokens.length === 0 || !tokens.every(known) || !(await encoder.text(content)).every(known)) {
    throw new EngineError('package.unusable', 'template and tokenizer make no tokens of the model of a plain chat')
  }
}

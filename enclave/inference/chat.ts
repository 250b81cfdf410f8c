/**
 * Chats to token ids, through the package's own chat template.
 *
 * The template comes from the measured package, never from a request: the template language has no step limit, so a
 * hostile template could run forever. And text from a request never becomes a control token: a user who writes the
 * model's end-of-turn marker would otherwise speak as the system or the assistant.
 */
import { Template } from '@huggingface/jinja'
import { fromUtf8 } from '../../verifier/protocol/bytes.js'
import type { ChatMessage } from './engine.js'
import { EngineError } from './errors.js'
import { fileByRole, type ModelPackage } from './package.js'
import type { TextTokenizer } from './tokenizer.js'

const ROLES: readonly string[] = ['system', 'user', 'assistant', 'tool']

/** A Unicode noncharacter: never in exchanged text, so it can mark where a control token must be broken apart. */
const BREAK = '\uFDD0'

/**
 * A function from a chat to token ids, ending where the assistant begins to speak; it throws EngineError `chat.invalid`.
 * @throws EngineError `package.unusable` when the template does not parse.
 */
export function createChatEncoder(
  modelPackage: ModelPackage,
  tokenizer: TextTokenizer,
): (messages: readonly ChatMessage[]) => number[] {
  const template = parseTemplate(fromUtf8(fileByRole(modelPackage, 'template')))
  const disarm = createDisarm(tokenizer.controlTokens)

  return (messages) => {
    const disarmed = messages.map(({ role, content }) => {
      if (!ROLES.includes(role)) throw new EngineError('chat.invalid', `expected a role of ${ROLES.join(', ')}`)
      if (typeof content !== 'string') throw new EngineError('chat.invalid', 'expected the content to be text')
      return { role, content: disarm(content) }
    })
    if (disarmed.length === 0) throw new EngineError('chat.invalid', 'expected at least one message')
    const text = render(template, { ...tokenizer.named, messages: disarmed, add_generation_prompt: true })
    // Each part is tokenised by itself, so the two halves of a broken control token never meet.
    return text.split(BREAK).flatMap((part) => (part === '' ? [] : tokenizer.encode(part)))
  }
}

function parseTemplate(source: string): Template {
  try {
    return new Template(source)
  } catch (cause) {
    throw new EngineError('package.unusable', 'the chat template does not parse', { cause })
  }
}

function render(template: Template, variables: Record<string, unknown>): string {
  try {
    return template.render(variables)
  } catch {
    // The cause is dropped: template errors may quote the chat.
    throw new EngineError('chat.invalid', 'the chat template refused this chat')
  }
}

/** Puts BREAK after the first character of every control token in a text, overlapping ones included. */
function createDisarm(controlTokens: readonly string[]): (content: string) => string {
  const spellings = controlTokens.map((token) => token.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
  const start = new RegExp(`(?=(?:${spellings.join('|')}))(.)`, 'gsu')
  return (content) => {
    const clean = content.replaceAll(BREAK, '\uFFFD')
    return controlTokens.length === 0 ? clean : clean.replace(start, `$1${BREAK}`)
  }
}

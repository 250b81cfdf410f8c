/**
 * Chats to token ids, through the package's own chat template.
 *
 * The template comes from the measured package, never from a request. And text from a request never becomes a control
 * token: a user who writes the model's end-of-turn marker would otherwise speak as the system or the assistant.
 */
import { fromUtf8 } from '../../verifier/protocol/bytes.js'
import type { ChatMessage } from './engine.js'
import { EngineError } from './errors.js'
import type { Tool } from './grammar/answers.js'
import { fileByRole, type ModelPackage } from './package.js'
import { createTemplate } from './template.js'
import type { TextTokenizer } from './tokenizer.js'
import { describeTools, spellTools, templateTakesTools } from './tool-prompt.js'

const ROLES: readonly string[] = ['system', 'user', 'assistant', 'tool']

/** A Unicode noncharacter: never in exchanged text, so it can mark where a control token must be broken apart. */
const BREAK = '\uFDD0'

export interface ChatEncoder {
  /**
   * Token ids of a chat, ending where the assistant begins to speak. @throws EngineError `chat.invalid`, and as `text` does.
   */
  chat(messages: readonly ChatMessage[], tools?: readonly Tool[]): Promise<number[]>
  /**
   * Token ids of a text as it is, behind what the model begins every text with.
   * @throws EngineError `context.overflow` where it is known without tokenising that they would be too many.
   */
  text(text: string): Promise<number[]>
}

/** @throws EngineError `package.unusable` when the template does not parse. */
export function createChatEncoder(modelPackage: ModelPackage, tokenizer: TextTokenizer): ChatEncoder {
  const source = fromUtf8(fileByRole(modelPackage, 'template'))
  const template = createTemplate(source, tokenizer.named)
  const takesTools = templateTakesTools(source)
  const disarm = createDisarm(tokenizer.controlTokens)
  // Each part is tokenised by itself, so the two halves of a broken control token never meet.
  const encode = (text: string): Promise<number[]> =>
    tokenizer.encode(
      text.split(BREAK).filter((part) => part !== ''),
      modelPackage.manifest.architecture.contextLength,
    )

  return {
    async chat(messages, tools = []) {
      for (const { role, content } of messages) {
        if (!ROLES.includes(role)) throw new EngineError('chat.invalid', `expected a role of ${ROLES.join(', ')}`)
        if (typeof content !== 'string') throw new EngineError('chat.invalid', 'expected the content to be text')
      }
      if (messages.length === 0) throw new EngineError('chat.invalid', 'expected at least one message')
      const disarmed = <T>(value: T): T => everyText(value, disarm) as T
      if (!takesTools) return encode(template.render(disarmed(spellTools(messages, tools))))
      const variables = tools.length === 0 ? {} : { tools: disarmed(describeTools(tools)) }
      return encode(template.render(disarmed(messages.map(asTemplateMessage)), variables))
    },
    text: async (text) => [...tokenizer.prefix, ...(await encode(disarm(text)))],
  }
}

/** As templates expect it, which write the arguments of a call as JSON by themselves. */
function asTemplateMessage(message: ChatMessage): object {
  return asOpenAIMessage(message, parseArguments)
}

/** A message with OpenAI's field names, `argumentsOf` telling how the arguments of calls are given. */
export function asOpenAIMessage(
  { role, content, toolCalls, toolCallId }: ChatMessage,
  argumentsOf: (text: string) => unknown,
): object {
  return {
    role,
    content,
    ...(toolCalls === undefined
      ? {}
      : {
          tool_calls: toolCalls.map(({ id, name, arguments: text }) => ({
            id,
            type: 'function',
            function: { name, arguments: argumentsOf(text) },
          })),
        }),
    ...(toolCallId === undefined ? {} : { tool_call_id: toolCallId }),
  }
}

function parseArguments(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new EngineError('chat.invalid', 'expected the arguments of a call to be JSON')
  }
}

/** The same value with every text in it changed, names of members included. */
function everyText(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === 'string') return change(value)
  if (Array.isArray(value)) return value.map((item) => everyText(item, change))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [change(name), everyText(item, change)]))
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

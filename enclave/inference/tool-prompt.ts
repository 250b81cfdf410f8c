/**
 * How tools come into a chat. A template that takes `tools` and writes `<tool_call>` is given them; for any other they are
 * put into words of ours in the system message, and calls and results into the text of their messages.
 */
import type { ChatMessage, ToolCall } from './engine.js'
import { CALL_ARGUMENTS, CALL_CLOSE, CALL_NAME, CALL_OPEN, type Tool } from './grammar/answers.js'

/** Whether a template speaks of tools the way answers are constrained to. */
export function templateTakesTools(source: string): boolean {
  return /\btools\b/.test(source) && source.includes(CALL_OPEN)
}

/** The tools as templates expect them: OpenAI's shape. */
export function describeTools(tools: readonly Tool[]): readonly object[] {
  return tools.map(({ name, description, parameters }) => ({
    type: 'function',
    function: { name, description: description ?? '', parameters: parameters ?? { type: 'object', properties: {} } },
  }))
}

/** The same chat without tools, calls and results of their own. */
export function spellTools(messages: readonly ChatMessage[], tools: readonly Tool[]): readonly ChatMessage[] {
  const spelled = messages.map(spellMessage)
  if (tools.length === 0) return spelled
  const [first, ...others] = spelled
  const words = preamble(tools)
  return first?.role === 'system'
    ? [{ role: 'system', content: `${first.content}\n\n${words}` }, ...others]
    : [{ role: 'system', content: words }, ...spelled]
}

function spellMessage({ role, content, toolCalls = [] }: ChatMessage): ChatMessage {
  if (role === 'tool') return { role: 'user', content: `<tool_response>\n${content}\n</tool_response>` }
  const calls = toolCalls.map(spellCall)
  return { role, content: [content, ...calls].filter((part) => part !== '').join('\n') }
}

function spellCall({ name, arguments: text }: ToolCall): string {
  return `${CALL_OPEN}${CALL_NAME}${name}${CALL_ARGUMENTS}${text}${CALL_CLOSE}`
}

function preamble(tools: readonly Tool[]): string {
  return [
    'You may call these tools, each described by a line of JSON:',
    '<tools>',
    ...describeTools(tools).map((tool) => JSON.stringify(tool)),
    '</tools>',
    'To call one, answer with its name and arguments like this, and nothing else:',
    `${CALL_OPEN}${CALL_NAME}tool${CALL_ARGUMENTS}{"argument": "value"}${CALL_CLOSE}`,
    'The results come in <tool_response>.',
  ].join('\n')
}

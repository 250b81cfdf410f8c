/**
 * Looks at what a server says in answer to a chat: calls only of tools there are, with arguments that follow their schemas,
 * and text that follows the format that was asked for. A whole answer that does not becomes an error, and never looks whole.
 */
import type { CallPiece, Chat, EngineEvent } from '../engine.js'
import { EngineError } from '../errors.js'
import { followsSchema } from '../grammar/check.js'

/** Returns each event, or throws EngineError `engine.failed`. */
export function createAnswerCheck(chat: Chat | undefined): (event: EngineEvent) => EngineEvent {
  let text = ''
  const calls = new Map<number, { readonly name: string; arguments: string }>()

  const add = ({ index, name, arguments: more }: CallPiece): void => {
    const known = calls.get(index)
    if (known !== undefined) known.arguments += more
    else calls.set(index, { name: name ?? '', arguments: more })
  }
  return (event) => {
    if (chat === undefined) return event
    if (event.type === 'token') {
      if (chat.format !== undefined) text += event.text
      for (const piece of event.calls ?? []) add(piece)
      return event
    }
    if (event.finishReason === 'length') return event
    if (!(wellCalled(chat, [...calls.values()]) && wellFormed(chat, text, calls.size > 0))) {
      throw new EngineError('engine.failed', 'the server gave an answer that was not asked for')
    }
    return calls.size > 0 ? { ...event, finishReason: 'tool_calls' } : event
  }
}

function wellCalled({ tools, choice, parallel }: Chat, calls: readonly { name: string; arguments: string }[]): boolean {
  if (calls.length === 0) return choice === undefined
  if (!parallel && calls.length > 1) return false
  return calls.every(({ name, arguments: text }) => {
    if (typeof choice === 'object' && choice.name !== name) return false
    const tool = tools.find((candidate) => candidate.name === name)
    return tool !== undefined && parses(text, (value) => followsSchema(tool.parameters ?? { type: 'object' }, value))
  })
}

function wellFormed({ format }: Chat, text: string, called: boolean): boolean {
  if (format === undefined || called) return true
  const schema = format.type === 'json_object' ? { type: 'object' } : format.schema
  return parses(text, (value) => followsSchema(schema, value))
}

function parses(text: string, follows: (value: unknown) => boolean): boolean {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return false
  }
  return follows(value)
}

/**
 * Looks at what a server says in answer to a chat: calls only of tools there are, with arguments that follow their schemas,
 * and text that follows the format that was asked for. A whole answer that does not becomes an error, and never looks whole.
 */
import type { CallPiece, Chat, EngineEvent } from '../engine.js'
import { EngineError } from '../errors.js'
import { argumentsSchema } from '../grammar/answers.js'
import { followsSchema } from '../grammar/check.js'
import { isExact, numbersIn } from '../grammar/exact-numbers.js'

/** Gives back each event, or rejects with EngineError `engine.failed`. */
export function createAnswerCheck(chat: Chat | undefined): (event: EngineEvent) => Promise<EngineEvent> {
  let text = ''
  const calls = new Map<number, { readonly name: string; arguments: string }>()

  const add = ({ index, name, arguments: more }: CallPiece): void => {
    const known = calls.get(index)
    if (known !== undefined) known.arguments += more
    else calls.set(index, { name: name ?? '', arguments: more })
  }
  return async (event) => {
    if (chat === undefined) return event
    if (event.type === 'token') {
      if (chat.format !== undefined) text += event.text
      for (const piece of event.calls ?? []) add(piece)
      return event
    }
    if (event.finishReason === 'length') return event
    if (!((await wellCalled(chat, [...calls.values()])) && (await wellFormed(chat, text, calls.size > 0)))) {
      throw new EngineError('engine.failed', 'the server gave an answer that was not asked for')
    }
    return calls.size > 0 ? { ...event, finishReason: 'tool_calls' } : event
  }
}

async function wellCalled(
  { tools, choice, parallel }: Chat,
  calls: readonly { name: string; arguments: string }[],
): Promise<boolean> {
  if (calls.length === 0) return choice === undefined
  if (!parallel && calls.length > 1) return false
  for (const { name, arguments: text } of calls) {
    if (typeof choice === 'object' && choice.name !== name) return false
    const tool = tools.find((candidate) => candidate.name === name)
    if (tool === undefined || !(await parsesAs(argumentsSchema(tool.parameters), text))) return false
  }
  return true
}

async function wellFormed({ format }: Chat, text: string, called: boolean): Promise<boolean> {
  if (format === undefined || called) return true
  return parsesAs(format.type === 'json_object' ? { type: 'object' } : format.schema, text)
}

async function parsesAs(schema: unknown, text: string): Promise<boolean> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return false
  }
  // As integers they would be held against the schema after they were rounded; of fractions that is the last bit.
  for (const { text: number } of numbersIn(text)) if (Number.isInteger(Number(number)) && !isExact(number)) return false
  return followsSchema(schema, value)
}

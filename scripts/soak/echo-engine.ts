/** An engine that says back what the last message said, a few characters a token: whoever gets another's answer knows. */
import type { ChatMessage, Engine, EngineEvent, GenerateOptions } from '../../enclave/inference/engine.js'
import { EngineError } from '../../enclave/inference/errors.js'
import { utf8 } from '../../verifier/protocol/bytes.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import type { DemoModel } from '../bench/channel-worker.js'

const MODEL_ID = 'echo-1'
const CONTEXT_LENGTH = 8192
const CHARACTERS_A_TOKEN = 3

/** `stepMs` is awaited now and then, so that answers overlap. */
export function createEchoModel(stepMs: number): DemoModel {
  const digest = sha256(utf8(MODEL_ID))
  return {
    engine: echoEngine(stepMs),
    model: {
      id: MODEL_ID,
      weightsRoot: digest,
      tokenizerDigest: digest,
      templateDigest: digest,
      manifestDigest: digest,
    },
  }
}

function echoEngine(stepMs: number): Engine {
  return {
    info: {
      name: 'echo',
      version: '1.0.0',
      determinism: 'single',
      contextLength: CONTEXT_LENGTH,
      manifest: {
        schema: 'subrosa-model/1',
        id: MODEL_ID,
        title: 'Echo',
        license: 'Apache-2.0',
        architecture: {
          family: 'llama',
          parameters: 1,
          layers: 1,
          hiddenSize: 1,
          vocabularySize: 65_536,
          contextLength: CONTEXT_LENGTH,
          eosTokenIds: [0],
        },
        determinism: 'single',
        format: 'fp32',
        files: [],
      },
    },
    tokenizeChat: async (messages: readonly ChatMessage[]) =>
      [...(messages.at(-1)?.content ?? '')].map((character) => character.charCodeAt(0)),
    tokenizeText: async (text: string) => [...text].map((character) => character.charCodeAt(0)),
    generate: (promptTokens, options) => echo(promptTokens, options, stepMs),
    close: async () => undefined,
  }
}

async function* echo(
  promptTokens: readonly number[],
  { signal }: GenerateOptions,
  stepMs: number,
): AsyncGenerator<EngineEvent> {
  let completionTokens = 0
  for (let at = 0; at < promptTokens.length; at += CHARACTERS_A_TOKEN) {
    if (completionTokens % 4 === 0) await new Promise((resolve) => setTimeout(resolve, stepMs))
    if (signal?.aborted === true) throw new EngineError('aborted', 'aborted')
    completionTokens += 1
    const text = String.fromCharCode(...promptTokens.slice(at, at + CHARACTERS_A_TOKEN))
    yield { type: 'token', text, tokenId: promptTokens[at] ?? 0 }
  }
  yield { type: 'done', finishReason: 'stop', usage: { promptTokens: promptTokens.length, completionTokens } }
}

/** From a request's body, on either path that generates, to what is to be generated. */
import type { Bytes } from '../verifier/protocol/bytes.js'
import type { AnswerShape } from './answer-shape.js'
import { chatShape, completionShape } from './answer-shape.js'
import type { Engine, GenerateOptions } from './inference/engine.js'
import { ContextOverflowError } from './inference/errors.js'
import { parseCompletionRequest } from './openai-completion.js'
import { asTokens, OpenAIError, openAIErrorOf } from './openai-error.js'
import type { SamplingFields } from './openai-fields.js'
import { parseChatRequest } from './openai-request.js'

/** What is to be generated, whatever path it was asked on. */
export interface GenerationRequest {
  readonly model: string
  readonly sampling: SamplingFields
  /** Each gets `n` answers. At least one, none of them empty. */
  readonly prompts: readonly (readonly number[])[]
  /** The field the prompts came in. */
  readonly field: 'messages' | 'prompt'
  /** Absent: as much as fits. */
  readonly maxTokens: number | undefined
  /** What else the engine is told. */
  readonly options: Pick<GenerateOptions, 'chat' | 'grammar' | 'calls' | 'logprobs' | 'prediction'>
  readonly shape: AnswerShape
}

/** Of `POST /v1/chat/completions`. @throws OpenAIError */
export async function readChat(engine: Engine, body: Bytes): Promise<GenerationRequest> {
  const request = parseChatRequest(body)
  expectModel(engine, request.model)
  const { model, maxTokens, topLogprobs, constraint, messages, prediction } = request
  const { tools, choice, parallel, format, grammar } = constraint
  return {
    model,
    sampling: request,
    prompts: [await asTokens('messages', () => engine.tokenizeChat(messages, tools))],
    field: 'messages',
    maxTokens,
    options: {
      chat: { messages, tools, choice, parallel, format },
      ...(grammar === undefined ? {} : { grammar, calls: tools.length > 0 }),
      ...(topLogprobs === undefined ? {} : { logprobs: topLogprobs }),
      ...(prediction === undefined ? {} : { prediction: await predictedTokens(engine, prediction) }),
    },
    shape: chatShape(topLogprobs !== undefined),
  }
}

/** As much of it as an answer can have; nothing of one that no answer can be like, being far longer. @throws OpenAIError */
async function predictedTokens(engine: Engine, prediction: string): Promise<readonly number[]> {
  if (prediction === '') return []
  try {
    return (await engine.tokenizeText(prediction)).slice(0, engine.info.contextLength)
  } catch (error) {
    if (error instanceof ContextOverflowError) return []
    throw openAIErrorOf(error)
  }
}

/** Of `POST /v1/completions`. @throws OpenAIError */
export async function readCompletion(engine: Engine, body: Bytes): Promise<GenerationRequest> {
  const request = parseCompletionRequest(body)
  expectModel(engine, request.model)
  const { model, maxTokens, topLogprobs } = request
  return {
    model,
    sampling: request,
    prompts: await tokenizePrompts(engine, request.prompts, 'prompt'),
    field: 'prompt',
    maxTokens,
    options: topLogprobs === undefined ? {} : { logprobs: topLogprobs },
    shape: completionShape(topLogprobs !== undefined),
  }
}

/** Texts become tokens; tokens must be the model's. @throws OpenAIError naming `field`. */
export async function tokenizePrompts(
  engine: Engine,
  prompts: readonly (string | readonly number[])[],
  field: 'prompt' | 'input',
): Promise<readonly (readonly number[])[]> {
  const { vocabularySize } = engine.info.manifest.architecture
  const tokenized: (readonly number[])[] = []
  for (const [i, prompt] of prompts.entries()) {
    const at = prompts.length === 1 ? field : `${field}[${i}]`
    const tokens = typeof prompt === 'string' ? await asTokens(field, () => engine.tokenizeText(prompt)) : prompt
    if (tokens.length === 0) throw new OpenAIError(400, 'invalid_value', `${at}: expected at least one token`, field)
    if (tokens.some((token) => token >= vocabularySize)) {
      throw new OpenAIError(400, 'invalid_value', `${at}: expected tokens from 0 to ${vocabularySize - 1}`, field)
    }
    tokenized.push(tokens)
  }
  return tokenized
}

/** @throws OpenAIError 404 */
export function expectModel({ info }: Engine, model: string): void {
  if (model === info.manifest.id) return
  throw new OpenAIError(404, 'model_not_found', `this worker serves ${info.manifest.id} and no other model`, 'model')
}

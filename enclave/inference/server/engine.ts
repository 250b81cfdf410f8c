/**
 * The engine on an OpenAI-compatible server in the same machine, for models that need what such a server has. Tokenizer and
 * template of the measured package count tokens here; the server renders chats itself, from the model it was given.
 *
 * Such a server may read control tokens out of a text, so a chat that spells one is refused. Answers that must follow
 * a schema are held to it by the server, and looked at here when they end: one that does not follow it becomes an error.
 * Nothing is promised about bits (`none`): how it batches is its own affair.
 */
import { createHmac, randomBytes } from 'node:crypto'
import * as v from 'valibot'
import { asOpenAIMessage } from '../chat.js'
import { openChats } from '../chat-trial.js'
import type { Chat, ChatMessage, EmbedOptions, Engine, EngineEvent, GenerateOptions } from '../engine.js'
import { ContextOverflowError, closedError, EngineError, OverloadedError } from '../errors.js'
import type { Tool } from '../grammar/answers.js'
import { checkOptions } from '../options.js'
import type { ModelPackage } from '../package.js'
import { describeTools } from '../tool-prompt.js'
import { createAnswerCheck } from './answer-check.js'
import type { ServerConfig } from './config.js'
import { ask, readJson, type ServerReply } from './http.js'
import { readStream } from './stream.js'

/** A server that runs. */
export interface RunningServer {
  readonly config: ServerConfig
  /** SHA-256 in hexadecimal, for the statement. */
  readonly digest: string
  /** Whether it answered when it was last asked. */
  healthy(): boolean
  close(): Promise<void>
}

/** The weights of the package are not read: the server has them. @throws EngineError `package.unusable`. */
export async function createServerEngine(modelPackage: ModelPackage, server: RunningServer): Promise<Engine> {
  const { manifest } = modelPackage
  const { config } = server
  const { contextLength, hiddenSize } = manifest.architecture
  const { tokenizer, encoder } = await openChats(modelPackage)
  /** What a session's prompts are reused under, where the server reuses any: drawn here, so that no client can choose it. */
  const secret = randomBytes(32)
  let closed = false

  const open = async (path: string, body: object, signal: AbortSignal | undefined): Promise<ServerReply> => {
    const reply = await ask(config.listen, path, body, signal)
    if (reply.status === 200) return reply
    // Not read: what it says may quote the request.
    for await (const _ of reply.body) break
    if (reply.status === 429 || reply.status === 503) throw new OverloadedError(1)
    if (reply.status === 400) throw new EngineError('options.invalid', 'the server does not take this request')
    throw new EngineError('engine.failed', `the server answers with status ${reply.status}`)
  }

  const check = (promptTokens: readonly number[], maxTokens: number): void => {
    if (closed) throw closedError()
    if (!server.healthy()) throw new EngineError('closed', 'the server does not run')
    if (promptTokens.length + maxTokens > contextLength) {
      throw new ContextOverflowError(promptTokens.length, maxTokens, contextLength)
    }
  }

  async function* generate(promptTokens: readonly number[], options: GenerateOptions): AsyncGenerator<EngineEvent> {
    const { chat, tenant } = options
    const salt = config.kind === 'vllm' ? { cache_salt: saltOf(secret, tenant) } : {}
    const common = {
      model: config.model,
      stream: true,
      stream_options: { include_usage: true },
      n: 1,
      ...sampling(options),
      ...salt,
    }
    const reply =
      chat === undefined
        ? await open('/v1/completions', { ...common, prompt: promptTokens, ...legacyLogprobs(options) }, options.signal)
        : await open(
            '/v1/chat/completions',
            { ...common, ...chatFields(chat), ...chatLogprobs(options) },
            options.signal,
          )
    const checked = createAnswerCheck(chat)
    for await (const event of readStream(reply.body, chat === undefined ? 'text' : 'chat', promptTokens.length)) {
      yield await checked(event)
    }
  }

  return {
    info: {
      name: `openai-server/${config.kind}`,
      version: config.version,
      build: `sha256:${server.digest}`,
      determinism: 'none',
      manifest,
      contextLength,
    },
    async tokenizeChat(messages, tools = []) {
      refuseControlTokens({ messages, tools }, tokenizer.controlTokens)
      return encoder.chat(messages, tools)
    },
    tokenizeText: encoder.text,
    generate(promptTokens, options) {
      checkOptions(options)
      check(promptTokens, options.maxTokens)
      return generate([...promptTokens], options)
    },
    ...(config.embeddings
      ? {
          async embed(promptTokens: readonly number[], { signal }: EmbedOptions) {
            check(promptTokens, 0)
            const body = { model: config.model, input: promptTokens, encoding_format: 'float' }
            return unitVector(await readJson(await open('/v1/embeddings', body, signal)), hiddenSize)
          },
        }
      : {}),
    healthy: () => !closed && tokenizer.healthy() && server.healthy(),
    async close() {
      closed = true
      await Promise.all([tokenizer.close(), server.close()])
    },
  }
}

function sampling(options: GenerateOptions): object {
  return {
    max_tokens: options.maxTokens,
    temperature: options.temperature,
    top_p: options.topP,
    // Servers differ in how they say that all are kept.
    ...(options.topK === 0 ? {} : { top_k: options.topK }),
    ...(options.minP === 0 ? {} : { min_p: options.minP }),
    seed: options.seed,
    presence_penalty: options.presencePenalty,
    frequency_penalty: options.frequencyPenalty,
    ...(options.stop.length === 0 ? {} : { stop: options.stop }),
  }
}

function legacyLogprobs({ logprobs }: GenerateOptions): object {
  return logprobs === undefined ? {} : { logprobs }
}

function chatLogprobs({ logprobs }: GenerateOptions): object {
  return logprobs === undefined ? {} : { logprobs: true, top_logprobs: logprobs }
}

function chatFields({ messages, tools, choice, parallel, format }: Chat): object {
  return {
    messages: messages.map((message) => asOpenAIMessage(message, (text) => text)),
    ...(tools.length === 0
      ? {}
      : {
          tools: describeTools(tools),
          tool_choice: typeof choice === 'object' ? { type: 'function', function: choice } : (choice ?? 'auto'),
          parallel_tool_calls: parallel,
        }),
    ...(format === undefined
      ? {}
      : {
          response_format:
            format.type === 'json_object'
              ? format
              : { type: 'json_schema', json_schema: { name: 'answer', schema: format.schema, strict: true } },
        }),
  }
}

/** Alike for a session, and for nothing else; a request without a session has its own. */
function saltOf(secret: Uint8Array, tenant: string | undefined): string {
  if (tenant === undefined) return randomBytes(32).toString('base64')
  return createHmac('sha256', secret).update(tenant).digest('base64')
}

/** A server may render the arguments of a call from their JSON: what escapes spell there counts. @throws EngineError `chat.invalid`. */
function refuseControlTokens(
  chat: { readonly messages: readonly ChatMessage[]; readonly tools: readonly Tool[] },
  controlTokens: readonly string[],
): void {
  const called = chat.messages.flatMap(({ toolCalls = [] }) => toolCalls.map((call) => parsed(call.arguments)))
  const spelled = textsOf([chat, called]).some((text) => controlTokens.some((token) => text.includes(token)))
  if (spelled) throw new EngineError('chat.invalid', 'the chat spells a control token of this model')
}

/** Undefined where it is no JSON: then it can only be rendered as it is. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function textsOf(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, item]) => [name, ...textsOf(item)])
}

const embeddingReply = v.object({ data: v.tuple([v.object({ embedding: v.array(v.number()) })]) })

/** @throws EngineError `engine.failed`. */
function unitVector(json: unknown, size: number): Float32Array {
  const result = v.safeParse(embeddingReply, json)
  const values = result.success ? result.output.data[0].embedding : []
  const length = Math.hypot(...values)
  if (values.length !== size || !(length > 0 && Number.isFinite(length))) {
    throw new EngineError('engine.failed', `expected an embedding of ${size} values`)
  }
  return Float32Array.from(values, (value) => value / length)
}

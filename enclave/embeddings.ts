/**
 * `POST /v1/embeddings`: OpenAI's fields and shapes, padded and receipted like any other answer. An embedding is the state
 * behind the last token of its text, scaled to length 1; `dimensions` other than the model's own is refused, since these
 * models are not trained to be cut.
 */
import * as v from 'valibot'
import { type Bytes, toBase64 } from '../verifier/protocol/bytes.js'
import { RECEIPT_TRAILER } from '../verifier/protocol/receipt.js'
import type { PaddingMode } from '../verifier/protocol/statement.js'
import { withTrailers } from './channel-response.js'
import { expectModel, tokenizePrompts } from './generation.js'
import type { Engine } from './inference/engine.js'
import { EngineError } from './inference/errors.js'
import { errorCode, type Logger } from './log.js'
import { promptsOf, tokenList } from './openai-completion.js'
import { brokenOff, OpenAIError } from './openai-error.js'
import { integer, optional, parseFields } from './openai-fields.js'
import { padBody } from './padding.js'
import { type OpenReceipt, RECEIPT_ID_HEADER } from './receipts.js'

export interface EmbeddingDeps {
  readonly engine: Engine
  readonly padding: PaddingMode
  readonly log: Logger
  /** Longest time one answer may take. */
  readonly timeoutMs: number
}

export interface EmbeddingExchange {
  readonly request: EmbeddingRequest
  readonly receipt: OpenReceipt
  readonly session: string | undefined
  readonly signal: AbortSignal
}

export interface EmbeddingRequest {
  readonly model: string
  /** None of them empty. */
  readonly inputs: readonly (readonly number[])[]
  readonly format: 'float' | 'base64'
}

const MAX_INPUTS = 256
/** An answer is written as a whole. */
const MAX_VALUES = 512 * 1024

const schema = v.object({
  model: v.string(),
  input: v.union([
    v.string(),
    tokenList,
    v.pipe(v.array(v.union([v.string(), tokenList])), v.minLength(1), v.maxLength(MAX_INPUTS)),
  ]),
  encoding_format: optional(v.picklist(['float', 'base64'])),
  dimensions: optional(integer(1)),
})

/** @throws OpenAIError */
export async function readEmbeddings(engine: Engine, body: Bytes): Promise<EmbeddingRequest> {
  const request = parseFields(body, schema, new Map())
  expectModel(engine, request.model)
  if (engine.embed === undefined) {
    throw new OpenAIError(400, 'unsupported_model', 'this model gives no embeddings', 'model')
  }
  const { architecture } = engine.info.manifest
  if ((request.dimensions ?? architecture.hiddenSize) !== architecture.hiddenSize) {
    const expected = `dimensions: expected ${architecture.hiddenSize}, which is all this model has`
    throw new OpenAIError(400, 'invalid_value', expected, 'dimensions')
  }
  const inputs = await tokenizePrompts(engine, promptsOf(request.input), 'input')
  const longest = Math.max(...inputs.map(({ length }) => length))
  if (longest > engine.info.contextLength) {
    const problem = `input: ${longest} tokens do not fit into a context of ${engine.info.contextLength}`
    throw new OpenAIError(400, 'context_length_exceeded', problem, 'input')
  }
  if (inputs.length * architecture.hiddenSize > MAX_VALUES) {
    throw new OpenAIError(400, 'invalid_value', `input: expected at most ${MAX_VALUES} values in an answer`, 'input')
  }
  return { model: request.model, inputs, format: request.encoding_format ?? 'float' }
}

/** @throws OpenAIError */
export async function embed(deps: EmbeddingDeps, exchange: EmbeddingExchange): Promise<Response> {
  const { engine, padding } = deps
  const { request, receipt } = exchange
  const embeddings = await compute(deps, exchange)
  const promptTokens = request.inputs.reduce((sum, { length }) => sum + length, 0)
  const bytes = padBody(
    padding,
    JSON.stringify({
      object: 'list',
      model: request.model,
      data: embeddings.map((values, index) => ({
        object: 'embedding',
        index,
        embedding: request.format === 'float' ? [...values] : encodeFloats(values),
      })),
      usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
    }),
  )
  receipt.record(bytes)
  const headers = { 'content-type': 'application/json', 'cache-control': 'no-store', [RECEIPT_ID_HEADER]: receipt.id }
  return withTrailers(new Response(bytes, { headers }), async () => {
    const { determinism } = engine.info
    const jws = await receipt.sign({
      final: true,
      sampling: {},
      seed: null,
      determinism,
      promptTokens,
      completionTokens: 0,
    })
    return new Headers({ [RECEIPT_TRAILER]: jws })
  })
}

/** One after the other: they take turns with everyone else's. */
async function compute(
  { engine, log, timeoutMs }: EmbeddingDeps,
  { request, session, signal }: EmbeddingExchange,
): Promise<readonly Float32Array[]> {
  const timeout = AbortSignal.timeout(timeoutMs)
  const options = {
    signal: AbortSignal.any([signal, timeout]),
    ...(session === undefined ? {} : { tenant: session }),
  }
  const embeddings: Float32Array[] = []
  try {
    for (const input of request.inputs) {
      const values = await engine.embed?.(input, options)
      if (values !== undefined) embeddings.push(values)
    }
    return embeddings
  } catch (error) {
    if (timeout.aborted) throw new OpenAIError(504, 'timeout', 'the answer took too long')
    if (!(error instanceof EngineError && error.code === 'aborted')) {
      log.error('inference.failed', { code: errorCode(error) })
    }
    throw brokenOff(error, embeddings.length === 0)
  }
}

/** Little-endian fp32. */
function encodeFloats(values: Float32Array): string {
  const bytes = new Uint8Array(values.length * 4)
  const view = new DataView(bytes.buffer)
  for (const [i, value] of values.entries()) view.setFloat32(4 * i, value, true)
  return toBase64(bytes)
}

/**
 * How an OpenAI-compatible server in the same machine is run: which program, with which arguments, as whom. What it may and must
 * be told is in `arguments.ts`. Kinds this file does not know are for simulated machines only.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import * as v from 'valibot'
import { toHex, utf8 } from '../../../verifier/protocol/bytes.js'
import { encodeCbor } from '../../../verifier/protocol/cbor.js'
import { sha256 } from '../../../verifier/protocol/hash.js'
import { EngineError } from '../errors.js'
import { checkArguments } from './arguments.js'

const text = v.pipe(v.string(), v.minLength(1), v.maxLength(4096))
const id = v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(0xfffffffe))

const schema = v.strictObject({
  kind: v.picklist(['vllm', 'sglang', 'llama.cpp', 'other']),
  /** As the program itself says. */
  version: v.pipe(v.string(), v.regex(/^[\w.+-]{1,64}$/)),
  /** Absolute path of what is run. */
  program: v.pipe(v.string(), v.regex(/^\//), v.maxLength(4096)),
  arguments: v.pipe(v.array(text), v.maxLength(256)),
  /** A unix socket by absolute path, or 127.0.0.1 and a port. */
  listen: v.union([
    v.pipe(v.string(), v.regex(/^\/[^\0]{1,100}$/)),
    v.pipe(v.string(), v.regex(/^127\.0\.0\.1:[1-9]\d{0,4}$/)),
  ]),
  /** What the server calls the model. */
  model: text,
  /** Whether it answers on /v1/embeddings. */
  embeddings: v.boolean(),
  /** Whom it runs as: not root, and not the worker's own user. */
  uid: id,
  gid: id,
})

export type ServerConfig = v.InferOutput<typeof schema>

const ENVIRONMENTS: Readonly<Record<ServerConfig['kind'], Readonly<Record<string, string>>>> = {
  vllm: { VLLM_NO_USAGE_STATS: '1', VLLM_DO_NOT_TRACK: '1', DO_NOT_TRACK: '1', VLLM_LOGGING_LEVEL: 'ERROR' },
  sglang: { DO_NOT_TRACK: '1' },
  'llama.cpp': {},
  other: {},
}

/** @throws EngineError `server.config`, naming what is wrong. */
export function parseServerConfig(value: unknown, simulated: boolean): ServerConfig {
  const result = v.safeParse(schema, value, { abortEarly: true })
  if (!result.success) {
    const [issue] = result.issues
    const path = (issue.path ?? []).map(({ key }) => String(key)).join('.')
    throw new EngineError(
      'server.config',
      `${path === '' ? 'the configuration' : path}: expected ${issue.expected ?? 'another value'}`,
    )
  }
  const config = result.output
  if (config.kind === 'other' && !simulated) {
    throw new EngineError(
      'server.config',
      'kind: expected vllm, sglang or llama.cpp on a machine that is not simulated',
    )
  }
  checkArguments(config)
  return config
}

/** What the server is given of the environment: nothing of the worker's own but the path. */
export function serverEnvironment({ kind }: ServerConfig): Record<string, string> {
  return { PATH: '/usr/local/bin:/usr/bin:/bin', HOME: '/nonexistent', LANG: 'C.UTF-8', ...ENVIRONMENTS[kind] }
}

/**
 * SHA-256 over the configuration and the program's bytes, as the statement names it. What else the program loads is
 * covered by the measurement of the image it lies in. @throws EngineError `server.config` when it cannot be read.
 */
export async function serverDigest(config: ServerConfig): Promise<string> {
  const hash = createHash('sha256')
  try {
    await pipeline(createReadStream(config.program), hash)
  } catch (cause) {
    throw new EngineError('server.config', 'program: cannot be read', { cause })
  }
  const canonical = JSON.stringify(Object.fromEntries(Object.entries(config).sort(([a], [b]) => (a < b ? -1 : 1))))
  return toHex(sha256(encodeCbor([utf8(canonical), new Uint8Array(hash.digest())])))
}

/**
 * How an OpenAI-compatible server in the same machine is run: which program, with which arguments, as whom. For each kind
 * there is what it must be told, so that no request is logged, no usage is reported, and no prompt is reused for another
 * session; a configuration without it is refused. It names one model, and no weights besides. Kinds this file does not know are for simulated machines only.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { resolve, sep } from 'node:path'
import { pipeline } from 'node:stream/promises'
import * as v from 'valibot'
import { toHex, utf8 } from '../../../verifier/protocol/bytes.js'
import { encodeCbor } from '../../../verifier/protocol/cbor.js'
import { sha256 } from '../../../verifier/protocol/hash.js'
import { EngineError } from '../errors.js'

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

interface Kind {
  /** Of each group one argument must be there. */
  readonly required: readonly (readonly string[])[]
  /** Arguments that must not be there. */
  readonly forbidden: readonly string[]
  /** Names of the argument that says which model to load. */
  readonly model: readonly string[]
  readonly environment: Readonly<Record<string, string>>
}

const KINDS: Readonly<Record<ServerConfig['kind'], Kind>> = {
  vllm: {
    required: [['--no-enable-prefix-caching'], ['--no-enable-log-requests', '--disable-log-requests']],
    forbidden: [
      ...['--enable-prefix-caching', '--enable-log-requests', '--enable-log-outputs', '--kv-transfer-config'],
      ...[
        '--config',
        '--lora-modules',
        '--speculative-config',
        '--hf-config-path',
        '--tokenizer',
        '--generation-config',
      ],
    ],
    model: ['--model'],
    environment: { VLLM_NO_USAGE_STATS: '1', VLLM_DO_NOT_TRACK: '1', DO_NOT_TRACK: '1', VLLM_LOGGING_LEVEL: 'ERROR' },
  },
  sglang: {
    required: [['--disable-radix-cache']],
    forbidden: [
      ...['--log-requests', '--log-requests-level', '--enable-trace', '--crash-dump-folder'],
      ...['--config', '--lora-paths', '--speculative-draft-model-path', '--tokenizer-path'],
    ],
    model: ['--model-path', '--model'],
    environment: { DO_NOT_TRACK: '1' },
  },
  'llama.cpp': {
    required: [['--no-cache-prompt'], ['--no-slots'], ['--log-disable']],
    forbidden: [
      ...['--cache-prompt', '--cache-reuse', '--slots', '--slot-save-path', '--log-file', '--verbose', '-v'],
      ...[
        '--model-url',
        '-mu',
        '--hf-repo',
        '-hf',
        '-hfr',
        '--hf-file',
        '-hff',
        '--models-dir',
        '--models-preset',
        '--rpc',
      ],
      ...['--lora', '--lora-scaled', '--control-vector', '--control-vector-scaled', '--model-draft', '-md', '--mmproj'],
    ],
    model: ['--model', '-m'],
    environment: {},
  },
  other: { required: [], forbidden: [], model: [], environment: {} },
}

/**
 * The server loads what lies in this folder, and no other weights: its model argument, of which there is one, names the folder
 * or a file in it. @throws EngineError `server.config`.
 */
export function expectModelIn(directory: string, { kind, arguments: args }: ServerConfig): void {
  const folder = resolve(directory)
  const inside = (path: string): boolean =>
    resolve('/', path) === folder || resolve('/', path).startsWith(`${folder}${sep}`)
  if (kind === 'other') {
    if (args.some(inside)) return
    throw new EngineError('server.config', `arguments: expected the folder of the model, ${folder}`)
  }
  const names = KINDS[kind].model
  const models = args.flatMap((argument, i) => {
    const [name = '', ...rest] = argument.split('=')
    if (names.includes(name)) return [rest.length > 0 ? rest.join('=') : (args[i + 1] ?? '')]
    return kind === 'vllm' && i === 1 && args[0] === 'serve' && !argument.startsWith('-') ? [argument] : []
  })
  const [model] = models
  if (model !== undefined && models.length === 1 && inside(model)) return
  throw new EngineError(
    'server.config',
    `arguments: expected ${names[0]} once, with the folder of the model or a file in it, ${folder}`,
  )
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
  const { required, forbidden } = KINDS[config.kind]
  if (config.kind === 'other' && !simulated) {
    throw new EngineError(
      'server.config',
      'kind: expected vllm, sglang or llama.cpp on a machine that is not simulated',
    )
  }
  const named = config.arguments.map((argument) => argument.split('=')[0] ?? '')
  const missing = required.find((group) => !group.some((argument) => named.includes(argument)))
  if (missing !== undefined) throw new EngineError('server.config', `arguments: expected ${missing.join(' or ')}`)
  const stray = forbidden.find((argument) => named.includes(argument))
  if (stray !== undefined) throw new EngineError('server.config', `arguments: expected no ${stray}`)
  return config
}

/** What the server is given of the environment: nothing of the worker's own but the path. */
export function serverEnvironment({ kind }: ServerConfig): Record<string, string> {
  return { PATH: '/usr/local/bin:/usr/bin:/bin', HOME: '/nonexistent', LANG: 'C.UTF-8', ...KINDS[kind].environment }
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

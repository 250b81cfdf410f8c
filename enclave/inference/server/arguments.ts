/**
 * What a server may be told: for each kind the words that begin its arguments, the model among them, and a list of options, of
 * which any may come once. Everything else is refused by name. These programs take abbreviations, other spellings and the
 * last of several, and have ever more options that keep prompts or load weights, so no list of forbidden ones would be whole.
 */
import { resolve } from 'node:path'
import { EngineError } from '../errors.js'
import type { ModelManifest } from '../package.js'
import type { ServerConfig } from './config.js'

interface Rules {
  /** How arguments begin; MODEL stands for the model's path. */
  readonly beginnings: readonly (readonly string[])[]
  /** What the model's path names: the package's folder, or one of its files of role weights. */
  readonly model: 'folder' | 'file'
  /** Without a value. */
  readonly switches: readonly string[]
  /** With a value, behind `=` or as the next argument. */
  readonly options: readonly string[]
  /** Of each group one must be there, so that no request is logged and no prompt reused for another session. */
  readonly required: readonly (readonly string[])[]
}

const MODEL = '<model>'

const RULES: Readonly<Record<Exclude<ServerConfig['kind'], 'other'>, Rules>> = {
  vllm: {
    beginnings: [
      ['serve', MODEL],
      ['-m', 'vllm.entrypoints.openai.api_server', '--model', MODEL],
    ],
    model: 'folder',
    switches: [
      ...['--no-enable-prefix-caching', '--no-enable-log-requests', '--disable-log-requests', '--disable-log-stats'],
      ...['--enforce-eager', '--enable-chunked-prefill', '--enable-auto-tool-choice', '--disable-custom-all-reduce'],
    ],
    options: [
      ...[
        '--host',
        '--port',
        '--uds',
        '--served-model-name',
        '--dtype',
        '--quantization',
        '--kv-cache-dtype',
        '--seed',
      ],
      ...['--max-model-len', '--max-num-seqs', '--max-num-batched-tokens', '--gpu-memory-utilization', '--block-size'],
      ...[
        '--tensor-parallel-size',
        '--pipeline-parallel-size',
        '--data-parallel-size',
        '--runner',
        '--convert',
        '--task',
      ],
      ...['--tool-call-parser', '--reasoning-parser'],
    ],
    required: [['--no-enable-prefix-caching'], ['--no-enable-log-requests', '--disable-log-requests']],
  },
  sglang: {
    beginnings: [['-m', 'sglang.launch_server', '--model-path', MODEL]],
    model: 'folder',
    switches: ['--disable-radix-cache', '--is-embedding', '--disable-cuda-graph', '--skip-server-warmup'],
    options: [
      ...['--host', '--port', '--served-model-name', '--dtype', '--quantization', '--kv-cache-dtype', '--random-seed'],
      ...['--context-length', '--mem-fraction-static', '--max-running-requests', '--chunked-prefill-size'],
      ...['--tp-size', '--dp-size', '--ep-size', '--attention-backend', '--sampling-backend', '--grammar-backend'],
      ...['--tool-call-parser', '--reasoning-parser'],
    ],
    required: [['--disable-radix-cache']],
  },
  'llama.cpp': {
    beginnings: [['--model', MODEL]],
    model: 'file',
    switches: ['--no-cache-prompt', '--no-slots', '--log-disable', '--jinja', '--embeddings', '--mlock', '--no-mmap'],
    options: [
      ...['--host', '--port', '--alias', '--cache-ram', '--ctx-size', '--parallel', '--threads', '--threads-batch'],
      ...['--threads-http', '--batch-size', '--ubatch-size', '--n-gpu-layers', '--split-mode', '--tensor-split'],
      ...['--main-gpu', '--flash-attn', '--cache-type-k', '--cache-type-v', '--pooling', '--timeout'],
    ],
    // Without a prompt cache there is still one in the host's memory, unless it has no room.
    required: [['--no-cache-prompt'], ['--no-slots'], ['--log-disable'], ['--cache-ram=0']],
  },
}

/** @throws EngineError `server.config`, naming the argument that stands in the way. */
export function checkArguments({ kind, arguments: args }: ServerConfig): void {
  if (kind === 'other') return
  const { beginnings, switches, options, required } = RULES[kind]
  const beginning = beginningOf(args, beginnings)
  if (beginning === undefined)
    throw refused(`expected to begin with ${beginnings.map((b) => b.join(' ')).join(' or ')}`)
  const given = new Map<string, string | undefined>()
  for (let i = beginning.length; i < args.length; i++) {
    const [name = '', ...rest] = (args[i] ?? '').split('=')
    if (given.has(name)) throw refused(`expected ${name} once`)
    if (switches.includes(name) && rest.length === 0) given.set(name, undefined)
    else if (options.includes(name)) {
      const value = rest.length > 0 ? rest.join('=') : (args[++i] ?? '')
      if (value === '' || value.startsWith('-')) throw refused(`expected a value of ${name}`)
      given.set(name, value)
    } else throw refused(`expected no ${name}`)
  }
  const holds = (wanted: string): boolean => {
    const [name = '', value] = wanted.split('=')
    return given.has(name) && given.get(name) === value
  }
  const missing = required.find((group) => !group.some(holds))
  if (missing !== undefined) throw refused(`expected ${missing.join(' or ')}`)
}

/**
 * The server loads what the package's weights digest names: its model is the package's folder, or a file of role weights in
 * it, by that very path. Arguments must have been checked. @throws EngineError `server.config`.
 */
export function expectModelOf(
  directory: string,
  manifest: ModelManifest,
  { kind, arguments: args }: ServerConfig,
): void {
  const folder = resolve(directory)
  if (kind === 'other') {
    if (args.includes(folder)) return
    throw refused(`expected the folder of the model, ${folder}`)
  }
  const { beginnings, model } = RULES[kind]
  const path = args[beginningOf(args, beginnings)?.indexOf(MODEL) ?? -1]
  const allowed =
    model === 'folder'
      ? [folder]
      : manifest.files.filter(({ role }) => role === 'weights').map((file) => `${folder}/${file.path}`)
  if (path !== undefined && allowed.includes(path)) return
  throw refused(`expected the model to be ${model === 'folder' ? folder : `a file of weights in ${folder}`}`)
}

function beginningOf(
  args: readonly string[],
  beginnings: readonly (readonly string[])[],
): readonly string[] | undefined {
  return beginnings.find((words) =>
    words.every((word, i) => word === args[i] || (word === MODEL && args[i] !== undefined)),
  )
}

function refused(what: string): EngineError {
  return new EngineError('server.config', `arguments: ${what}`)
}

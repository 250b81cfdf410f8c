/**
 * Texts to token ids on a thread of their own: the library takes microseconds for each character, in one piece, and whoever
 * writes a long text would hold everybody's answers for seconds. Only importer of worker threads.
 *
 * One text at a time, the shortest of those that wait first, so that a long one keeps others waiting once at most. Nothing
 * of a text is kept for the next, the words a tokenizer would remember included: how fast a prompt is read tells of no other.
 * Texts are split by regular expressions of the package, and one of those may go on for ever over a text that was made for it: each
 * has a time, by its length, after which the others get their turn.
 */
import { Script } from 'node:vm'
import { isMainThread, type MessagePort, parentPort, Worker, workerData } from 'node:worker_threads'
import { Tokenizer } from '@huggingface/tokenizers'
import { EngineError } from './errors.js'

export interface TokenizerThread {
  /** Token ids of each part, without what the model begins a text with. @throws EngineError `text.slow`, `engine.failed`, `closed`. */
  encode(parts: readonly string[]): Promise<number[]>
  /** The ids of the same text without and with control tokens around it. */
  readonly sample: readonly [readonly number[], readonly number[]]
  /** False once the thread is gone. */
  healthy(): boolean
  close(): Promise<void>
}

const ROLE = 'subrosa tokenizer'

/** Milliseconds for a text, and for each character of it: real tokenizers were seen to take up to 0.016 of them. */
const [TEXT_MS, CHARACTER_MS] = [5000, 0.1]
/** What the thread says of a text in the place of its ids. */
const UNREADABLE = 'unreadable'
const SLOW = 'slow'

/** Where this module is as JavaScript: itself, whatever it is bundled into, or, run from its sources, what the build made. */
const PROGRAM = new URL(
  import.meta.url.endsWith('.ts') ? '../../dist/enclave/inference/tokenizer-thread.js' : import.meta.url,
  import.meta.url,
)

interface ThreadData {
  readonly role: typeof ROLE
  readonly definition: string
  readonly config: string
}

interface Job {
  readonly parts: readonly string[]
  readonly length: number
  readonly resolve: (ids: number[]) => void
  readonly reject: (error: EngineError) => void
}

/** Both files as JSON. @throws EngineError `package.unusable` when the library cannot run them. */
export async function startTokenizerThread(definition: string, config: string): Promise<TokenizerThread> {
  const worker = new Worker(PROGRAM, {
    execArgv: [],
    env: {},
    workerData: { role: ROLE, definition, config } satisfies ThreadData,
  })
  const sample = await new Promise<TokenizerThread['sample'] | undefined>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
    // A thread that ends before it says anything will say nothing more.
    worker.once('exit', () => resolve(undefined))
  })
  // A process that has nothing else to do ends.
  worker.unref()
  if (sample === undefined) {
    throw new EngineError('package.unusable', 'tokenizer.json is not a tokenizer this library can run')
  }
  const waiting: Job[] = []
  let running: Job | undefined
  let gone: EngineError | undefined

  const next = (): void => {
    if (running !== undefined || waiting.length === 0) return
    const shortest = waiting.reduce((best, { length }, i) => (length < (waiting[best]?.length ?? 0) ? i : best), 0)
    running = waiting.splice(shortest, 1)[0]
    if (running === undefined) return
    // Whoever waits for a text keeps the process alive.
    worker.ref()
    worker.postMessage(running.parts)
  }
  const leave = (error: EngineError): void => {
    gone ??= error
    for (const { reject } of [...(running === undefined ? [] : [running]), ...waiting.splice(0)]) reject(gone)
    running = undefined
  }
  worker.on('message', (ids: Float64Array | typeof UNREADABLE | typeof SLOW) => {
    const job = running
    running = undefined
    worker.unref()
    if (ids === SLOW) job?.reject(new EngineError('text.slow', 'a text that the tokenizer takes too long over'))
    else if (ids === UNREADABLE) job?.reject(new EngineError('engine.failed', 'a text that the tokenizer cannot read'))
    else job?.resolve(Array.from(ids))
    next()
  })
  // Its own message may quote what it had in hand.
  worker.on('error', () => leave(new EngineError('engine.failed', 'the tokenizer broke down')))
  worker.on('exit', () => leave(new EngineError('engine.failed', 'the tokenizer broke down')))

  return {
    sample,
    encode(parts) {
      if (gone !== undefined) return Promise.reject(gone)
      return new Promise((resolve, reject) => {
        waiting.push({ parts, length: parts.reduce((sum, { length }) => sum + length, 0), resolve, reject })
        next()
      })
    },
    healthy: () => gone === undefined,
    async close() {
      leave(new EngineError('closed', 'the engine was closed'))
      await worker.terminate()
    },
  }
}

/** Says the sample, or nothing where there is no such tokenizer; then answers each list of texts with ids, or with nothing. */
function serve(port: MessagePort, { definition, config }: ThreadData): void {
  try {
    const tokenizer = new Tokenizer(JSON.parse(definition), JSON.parse(config))
    const encode = (text: string, control: boolean): number[] =>
      tokenizer.encode(text, { add_special_tokens: control }).ids
    const encodeAll = (parts: readonly string[], control: boolean): number[] =>
      within(TEXT_MS + CHARACTER_MS * parts.reduce((sum, { length }) => sum + length, 0), () =>
        parts.flatMap((part) => encode(part, control)),
      )
    port.on('message', (parts: readonly string[]) => {
      try {
        // What is no token becomes NaN, and is refused as any other number that is no token.
        const ids = Float64Array.from(encodeAll(parts, false))
        port.postMessage(ids, [ids.buffer])
      } catch (error) {
        port.postMessage((error as { code?: unknown }).code === TIMED_OUT ? SLOW : UNREADABLE)
      }
      forget(tokenizer.model)
    })
    port.postMessage([encodeAll(['a'], false), encodeAll(['a'], true)])
  } catch {
    port.postMessage(undefined)
    port.close()
  }
}

const TIMED_OUT = 'ERR_SCRIPT_EXECUTION_TIMEOUT'
const RUN = 'subrosa tokenizer run'
/** Only what a script runs can be stopped, and a script finds only what is global: on this thread, nothing else is. */
const SCRIPT = new Script(`globalThis[Symbol.for('${RUN}')]()`)

/**
 * What `run` gives, if it does so in that many milliseconds of the clock; a regular expression is stopped in its midst.
 * @throws Error with the code TIMED_OUT
 */
function within<T>(ms: number, run: () => T): T {
  Object.assign(globalThis, { [Symbol.for(RUN)]: run })
  return SCRIPT.runInThisContext({ timeout: Math.ceil(ms) }) as T
}

/** The words the library remembers, of those kinds of tokenizers that do. */
function forget(model: object | null): void {
  if (model !== null && 'clear_cache' in model && typeof model.clear_cache === 'function') model.clear_cache()
}

const given = workerData as Partial<ThreadData> | null
if (!isMainThread && parentPort !== null && given?.role === ROLE) {
  serve(parentPort, given as ThreadData)
  // Bundled, this is a part of everything else, none of which is to begin on this thread.
  await new Promise(() => undefined)
}

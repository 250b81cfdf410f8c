/**
 * An engine whose weights are still encrypted: it knows its manifest, and refuses every chat until it is given the key once.
 * From then on it is the engine it was opened to.
 */
import type { ChatMessage, Engine, EngineEvent, EngineInfo, GenerateOptions } from './engine.js'
import { closedError, EngineError } from './errors.js'
import type { Tool } from './grammar/answers.js'

export interface LockedEngine {
  readonly engine: Engine
  /** Whether the key has yet to come. */
  locked(): boolean
  /**
   * Opens the weights and starts the engine; once open it stays so, and later keys are not looked at. One attempt runs at a
   * time. @throws whatever `open` throws, and the engine stays locked; EngineError `closed`.
   */
  unlock(key: string): Promise<void>
}

/** `info` is what the engine will say of itself; `open` makes it, and must make one that says the same. */
export function createLockedEngine(info: EngineInfo, open: (key: string) => Promise<Engine>): LockedEngine {
  let engine: Engine | undefined
  let attempt: Promise<void> = Promise.resolve()
  let closed = false

  const opened = (): Engine => {
    if (engine !== undefined) return engine
    if (closed) throw closedError()
    throw lockedError()
  }
  const tryOnce = async (key: string): Promise<void> => {
    if (closed) throw closedError()
    if (engine !== undefined) return
    const made = await open(key)
    const { name, version, build } = made.info
    if (closed || name !== info.name || version !== info.version || build !== info.build) {
      await made.close()
      throw closed
        ? closedError()
        : new EngineError('package.unusable', 'the weights make another engine than announced')
    }
    engine = made
  }

  const refuse = async (): Promise<Float32Array> => {
    throw lockedError()
  }
  return {
    locked: () => engine === undefined,
    unlock(key) {
      const next = attempt.then(
        () => tryOnce(key),
        () => tryOnce(key),
      )
      attempt = next
      return next
    },
    engine: {
      get info() {
        // Once open, what it found out: the class of its answers may be a weaker one than the manifest claims.
        return engine?.info ?? info
      },
      tokenizeChat: async (messages: readonly ChatMessage[], tools?: readonly Tool[]): Promise<number[]> =>
        opened().tokenizeChat(messages, tools),
      tokenizeText: async (text: string): Promise<number[]> => opened().tokenizeText(text),
      generate: (prompt: readonly number[], options: GenerateOptions): AsyncIterable<EngineEvent> =>
        opened().generate(prompt, options),
      get embed() {
        return engine === undefined ? refuse : engine.embed
      },
      healthy: () => !closed && engine?.healthy?.() !== false,
      async close() {
        closed = true
        await attempt.catch(() => undefined)
        await engine?.close()
      },
    },
  }
}

function lockedError(): EngineError {
  return new EngineError('locked', "the model's weights are encrypted and their key has not come yet")
}

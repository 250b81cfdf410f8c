/** Passing a response body on while knowing how it ends, without holding back that its reader has gone away. */
import type { Bytes } from '../verifier/protocol/bytes.js'
import { fromReadable, toReadable } from '../verifier/protocol/streams.js'

export interface BodyWatcher {
  /** Runs once: at the end, after a failure, or when the reader went away. */
  readonly onEnd?: () => void
  /** Takes a failure of the source; the body then just ends. Without it the failure is passed on. */
  readonly onFailure?: (error: unknown) => void
}

/** The same body. Cancelling it cancels the source at once, even while the source is waiting for its next piece. */
export function watchedBody(body: ReadableStream<Uint8Array>, watcher: BodyWatcher): ReadableStream<Bytes> {
  const gone = new AbortController()
  let ended = false
  const end = (): void => {
    if (ended) return
    ended = true
    watcher.onEnd?.()
  }
  async function* pieces(): AsyncGenerator<Bytes> {
    try {
      yield* fromReadable(body, gone.signal)
    } catch (error) {
      if (gone.signal.aborted) return
      if (watcher.onFailure === undefined) throw error
      watcher.onFailure(error)
    } finally {
      end()
    }
  }
  return toReadable(pieces(), (reason) => {
    gone.abort(reason)
    // Nobody has started the generator when the reader leaves before its first read.
    if (!body.locked) void body.cancel(reason).catch(() => undefined)
    end()
  })
}

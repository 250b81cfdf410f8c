/**
 * Reading a stream of bytes in exact amounts, and the two bridges to web streams.
 *
 * A reader holds at most one piece of its source plus the bytes of the read in progress; callers check a length against
 * their limit before asking for it. The end of the source in the middle of something is a TruncatedError.
 */
import { type Bytes, toBytes } from './bytes.js'
import { FormatError } from './errors.js'
import { decodeVarint, varintLength } from './varint.js'

/**
 * The stream ended before the message did.
 * What to do: treat everything received from it as incomplete; the sender or the path cut it short.
 */
export class TruncatedError extends FormatError {
  constructor(what: string) {
    super('stream.truncated', `${what}: the stream ended before the message did`)
  }
}

/** Sequential reads over an async iterable of byte pieces, whatever their sizes. */
export class StreamReader {
  readonly #source: AsyncIterator<Uint8Array>
  readonly #what: string
  #piece: Uint8Array = new Uint8Array(0)
  #done = false

  constructor(source: AsyncIterable<Uint8Array>, what: string) {
    this.#source = source[Symbol.asyncIterator]()
    this.#what = what
  }

  /** Whether every byte has been read; waits for the source when that is not known yet. */
  async ended(): Promise<boolean> {
    while (this.#piece.length === 0 && !this.#done) {
      const next = await this.#source.next()
      if (next.done === true) this.#done = true
      else this.#piece = next.value
    }
    return this.#piece.length === 0
  }

  /** At least one and at most `limit` bytes, as soon as there are any. @throws TruncatedError at the end. */
  async some(limit: number): Promise<Bytes> {
    if (await this.ended()) throw new TruncatedError(this.#what)
    const out = this.#piece.subarray(0, limit)
    this.#piece = this.#piece.subarray(out.length)
    return toBytes(out)
  }

  /** Exactly `length` bytes. The caller has bounded `length`. @throws TruncatedError when the stream is shorter. */
  async take(length: number): Promise<Bytes> {
    const out = new Uint8Array(length)
    // Nothing to wait for: lengths are a byte or two, and waiting costs more than reading them.
    if (length <= this.#piece.length) {
      out.set(this.#piece.subarray(0, length))
      this.#piece = this.#piece.subarray(length)
      return out
    }
    let filled = 0
    while (filled < length) {
      const part = await this.some(length - filled)
      out.set(part, filled)
      filled += part.length
    }
    return out
  }

  /** One QUIC varint. @throws FormatError */
  async varint(): Promise<number> {
    const here = this.#piece
    const size = here.length === 0 ? 0 : varintLength(here[0] ?? 0)
    if (size > 0 && size <= here.length) {
      this.#piece = here.subarray(size)
      return decodeVarint(here.subarray(0, size))
    }
    const first = await this.take(1)
    const rest = await this.take(varintLength(first[0] ?? 0) - 1)
    const whole = new Uint8Array(1 + rest.length)
    whole.set(first)
    whole.set(rest, 1)
    return decodeVarint(whole)
  }

  /** Everything that is left, at most `limit` bytes. @throws FormatError `stream.too-long` beyond it. */
  async rest(limit: number): Promise<Bytes> {
    const parts: Uint8Array[] = []
    let length = 0
    while (!(await this.ended())) {
      const part = await this.some(Number.POSITIVE_INFINITY)
      length += part.length
      if (length > limit) throw new FormatError('stream.too-long', `${this.#what}: more than ${limit} bytes`)
      parts.push(part)
    }
    const out = new Uint8Array(length)
    let offset = 0
    for (const part of parts) {
      out.set(part, offset)
      offset += part.length
    }
    return out
  }

  /** Tells the source that no more will be read. */
  async cancel(): Promise<void> {
    this.#done = true
    this.#piece = new Uint8Array(0)
    await this.#source.return?.()
  }
}

/** The given pieces, as a stream. */
export async function* streamOf(...pieces: readonly Uint8Array[]): AsyncGenerator<Bytes> {
  for (const piece of pieces) yield toBytes(piece)
}

/**
 * The pieces of a web stream (or none); leaving the loop early cancels it. An aborted signal cancels it too, even while
 * a read is waiting, and the loop then throws the signal's reason. `failed` makes the error to throw when the stream fails.
 */
export async function* fromReadable(
  stream: ReadableStream<Uint8Array> | null,
  signal?: AbortSignal,
  failed: (error: unknown) => unknown = (error) => error,
): AsyncGenerator<Bytes> {
  signal?.throwIfAborted()
  if (stream === null) return
  const reader = stream.getReader()
  const cancel = () => void reader.cancel(signal?.reason).catch(() => undefined)
  signal?.addEventListener('abort', cancel, { once: true })
  let finished = false
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error: unknown) => {
        throw failed(error)
      })
      signal?.throwIfAborted()
      if (done) break
      yield toBytes(value)
    }
    finished = true
  } finally {
    signal?.removeEventListener('abort', cancel)
    // Without this a reader that stops early would leave the other end producing for nobody.
    if (!finished) await reader.cancel().catch(() => undefined)
    reader.releaseLock()
  }
}

/** How a web stream made of pieces ends; one of them runs, unless nobody reads it to its end. */
export interface ReadableEnd {
  /** When the reader goes away, ahead of everything: a generator waiting on its source cannot be told to return until it wakes. */
  readonly cancelled?: (reason: unknown) => void
  /** When the pieces have ended. */
  readonly ended?: () => void
  /** When they failed: returns what the stream fails with, or undefined to let it just end. Default: it fails with the same. */
  readonly failed?: (error: unknown) => unknown
}

/** A web stream that asks for one piece at a time, so nothing is produced ahead of the reader. */
export function toReadable(pieces: AsyncIterable<Uint8Array>, end: ReadableEnd = {}): ReadableStream<Bytes> {
  const iterator = pieces[Symbol.asyncIterator]()
  return new ReadableStream<Bytes>(
    {
      async pull(controller) {
        try {
          const next = await iterator.next()
          if (next.done !== true) return controller.enqueue(toBytes(next.value))
        } catch (error) {
          const failure = end.failed === undefined ? error : end.failed(error)
          return failure === undefined ? controller.close() : controller.error(failure)
        }
        end.ended?.()
        controller.close()
      },
      async cancel(reason) {
        end.cancelled?.(reason)
        await iterator.return?.()
      },
    },
    { highWaterMark: 0 },
  )
}

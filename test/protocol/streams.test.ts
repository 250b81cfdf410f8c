import { describe, expect, it } from 'vitest'
import { utf8 } from '../../verifier/protocol/bytes.js'
import { KEM_X25519_HKDF_SHA256 } from '../../verifier/protocol/hpke.js'
import { openResponse, sealRequest } from '../../verifier/protocol/ohttp.js'
import { generateKeyConfiguration } from '../../verifier/protocol/ohttp-generate.js'
import { fromReadable, StreamReader, streamOf, TruncatedError, toReadable } from '../../verifier/protocol/streams.js'
import { collect, failureOf } from './pieces.js'

/** A web stream that never ends by itself, and what happened to it. */
function endless(): { stream: ReadableStream<Uint8Array>; state: { cancelled: boolean; pulled: number } } {
  const state = { cancelled: false, pulled: 0 }
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        state.pulled++
        if (state.pulled > 2) await new Promise(() => undefined)
        controller.enqueue(utf8('x'))
      },
      cancel() {
        state.cancelled = true
      },
    },
    { highWaterMark: 0 },
  )
  return { stream, state }
}

describe('streams', () => {
  it('leaving a loop early cancels its web stream', async () => {
    const { stream, state } = endless()
    for await (const _ of fromReadable(stream)) break
    expect(state.cancelled).toBe(true)
  })

  it('an abort wakes a waiting read, cancels, and throws its reason', async () => {
    const { stream, state } = endless()
    const controller = new AbortController()
    const pieces = fromReadable(stream, controller.signal)
    await pieces.next()
    await pieces.next()
    const waiting = failureOf(() => pieces.next())
    controller.abort(new Error('enough'))
    expect(await waiting).toMatchObject({ message: 'enough' })
    expect(state.cancelled).toBe(true)
  })

  it('a reader of an opened response that stops early cancels what it came from', async () => {
    const { configuration } = await generateKeyConfiguration(1, KEM_X25519_HKDF_SHA256)
    const sealed = await sealRequest(configuration, streamOf(utf8('x')))
    const state = { returned: false }
    async function* wire() {
      try {
        yield new Uint8Array(32)
        yield new Uint8Array([0x40, 0x08]) // a chunk shorter than its own tag
        yield new Uint8Array(100)
      } finally {
        state.returned = true
      }
    }
    expect(await failureOf(() => collect(openResponse(sealed, wire())))).toMatchObject({ code: 'ohttp.chunk-length' })
    expect(state.returned).toBe(true)
  })

  it('nothing is produced ahead of the reader', async () => {
    let produced = 0
    async function* pieces() {
      for (;;) {
        produced++
        yield utf8('x')
      }
    }
    const reader = toReadable(pieces()).getReader()
    await reader.read()
    expect(produced).toBe(1)
  })

  it('reads exact amounts, bounds the rest, and tells an early end apart', async () => {
    const reader = new StreamReader(streamOf(utf8('ab'), utf8(''), utf8('cdef')), 'test')
    expect(await reader.take(3)).toEqual(utf8('abc'))
    expect(await reader.some(2)).toEqual(utf8('de'))
    await expect(reader.take(2)).rejects.toBeInstanceOf(TruncatedError)
    const long = new StreamReader(streamOf(utf8('abc')), 'test')
    await expect(long.rest(2)).rejects.toMatchObject({ code: 'stream.too-long' })
  })
})

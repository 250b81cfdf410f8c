/**
 * The chunk framing of draft-ietf-ohai-chunked-ohttp §3 and §6, shared by requests and responses.
 *
 * Non-final chunk: varint(length of ciphertext) ‖ Seal(aad "", piece), the piece not empty and at most 16,384 bytes.
 * Final chunk: varint(0) ‖ Seal(aad "final", piece), running to the end of the body; its piece may be empty. The AEAD
 * nonce counts chunks, so a dropped, repeated or reordered chunk does not open, and a missing final chunk is a
 * TruncatedError. A piece is delivered as soon as its chunk is complete and authentic, never before.
 */
import { type Bytes, concat, utf8 } from './bytes.js'
import { FormatError } from './errors.js'
import { OhttpError } from './ohttp-errors.js'
import { type StreamReader, TruncatedError } from './streams.js'
import { encodeVarint } from './varint.js'

/** Largest plaintext piece in one chunk: what every receiver must accept, and all that this one does. */
export const MAX_PIECE_BYTES = 16_384

const NO_AAD: Bytes = new Uint8Array(0)
const FINAL_AAD: Bytes = utf8('final')

export type SealChunk = (aad: Uint8Array, plaintext: Uint8Array) => Promise<Bytes>
export type OpenChunk = (aad: Uint8Array, ciphertext: Uint8Array) => Promise<Bytes>

/**
 * One chunk or more per source piece, then an empty final chunk. Empty source pieces are skipped. What goes ahead of the chunks goes
 * with the first of them: a piece of its own would be a packet and a turn of the reader's.
 */
export async function* sealChunks(
  ahead: Uint8Array,
  plaintext: AsyncIterable<Uint8Array>,
  seal: SealChunk,
): AsyncGenerator<Bytes> {
  let before = ahead
  for await (const piece of plaintext) {
    for (let start = 0; start < piece.length; start += MAX_PIECE_BYTES) {
      const sealed = await seal(NO_AAD, piece.subarray(start, start + MAX_PIECE_BYTES))
      yield concat(before, encodeVarint(sealed.length), sealed)
      before = NO_AAD
    }
  }
  yield concat(before, encodeVarint(0), await seal(FINAL_AAD, NO_AAD))
}

/** A message at hand, in as few chunks as hold it: the last of them, most often the only one, is the final one. */
export async function sealWhole(message: Uint8Array, seal: SealChunk): Promise<Bytes> {
  const chunks: Uint8Array[] = []
  let start = 0
  for (; message.length - start > MAX_PIECE_BYTES; start += MAX_PIECE_BYTES) {
    const sealed = await seal(NO_AAD, message.subarray(start, start + MAX_PIECE_BYTES))
    chunks.push(encodeVarint(sealed.length), sealed)
  }
  return concat(...chunks, encodeVarint(0), await seal(FINAL_AAD, message.subarray(start)))
}

/**
 * The pieces of a chunk stream. `tagBytes` is the AEAD's Nt. Ending normally proves the final chunk was authentic and
 * nothing followed it. @throws FormatError on a bad length, TruncatedError on a missing end, OhttpError `ohttp.open`.
 */
export async function* openChunks(reader: StreamReader, open: OpenChunk, tagBytes: number): AsyncGenerator<Bytes> {
  const limit = MAX_PIECE_BYTES + tagBytes
  for (;;) {
    const length = await reader.varint()
    if (length === 0) break
    if (length <= tagBytes || length > limit) {
      throw new FormatError(
        'ohttp.chunk-length',
        `chunk: ${length} bytes of ciphertext, expected ${tagBytes + 1}-${limit}`,
      )
    }
    yield await openOr(open, NO_AAD, await reader.take(length))
  }
  const last = await reader.rest(limit)
  if (last.length < tagBytes) throw new TruncatedError('final chunk')
  const piece = await openOr(open, FINAL_AAD, last)
  if (piece.length > 0) yield piece
}

/** Opens one ciphertext, turning any failure into the one error that failed decryption has here. */
export async function openOr(open: OpenChunk, aad: Uint8Array, ciphertext: Uint8Array): Promise<Bytes> {
  try {
    return await open(aad, ciphertext)
  } catch (cause) {
    throw new OhttpError('ohttp.open', 'the message is not authentic', { cause })
  }
}

/** The response nonce sequence: base nonce XOR a big-endian counter of the same length, one value per call. */
export function nonceSequence(base: Uint8Array): () => Bytes {
  let counter = 0n
  return () => {
    const nonce = new Uint8Array(base)
    const view = new DataView(nonce.buffer)
    const at = nonce.length - 8
    // 64 bits of counter under a 96-bit nonce: no stream lasts long enough to wrap.
    view.setBigUint64(at, view.getBigUint64(at) ^ counter)
    counter++
    return nonce
  }
}

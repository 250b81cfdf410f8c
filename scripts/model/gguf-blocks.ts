/**
 * ggml's tensor types as fp32 (ggml-quants.c, dequantize_row_*): what is stored is decoded exactly, so requantising into one
 * of our formats is the only loss.
 */

interface TypeFacts {
  readonly code: number
  readonly blockElements: number
  readonly blockBytes: number
}

export const GGML_TYPES = {
  F32: { code: 0, blockElements: 1, blockBytes: 4 },
  F16: { code: 1, blockElements: 1, blockBytes: 2 },
  BF16: { code: 30, blockElements: 1, blockBytes: 2 },
  Q4_0: { code: 2, blockElements: 32, blockBytes: 18 },
  Q4_1: { code: 3, blockElements: 32, blockBytes: 20 },
  Q5_0: { code: 6, blockElements: 32, blockBytes: 22 },
  Q5_1: { code: 7, blockElements: 32, blockBytes: 24 },
  Q8_0: { code: 8, blockElements: 32, blockBytes: 34 },
  Q4_K: { code: 12, blockElements: 256, blockBytes: 144 },
  Q5_K: { code: 13, blockElements: 256, blockBytes: 176 },
  Q6_K: { code: 14, blockElements: 256, blockBytes: 210 },
} as const satisfies Record<string, TypeFacts>
export type GgmlType = keyof typeof GGML_TYPES

/** IEEE 754 binary16. */
export function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1
  const exponent = (half >> 10) & 31
  const fraction = half & 1023
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

type BlockDecoder = (block: Buffer, out: Float32Array, at: number) => void

/** `bytes` holds whole blocks. */
export function decodeTensor(type: GgmlType, bytes: Buffer): Float32Array {
  const { blockElements, blockBytes } = GGML_TYPES[type]
  const blocks = bytes.length / blockBytes
  const out = new Float32Array(blocks * blockElements)
  const decode = DECODERS[type]
  for (let block = 0; block < blocks; block++) {
    decode(bytes.subarray(block * blockBytes, (block + 1) * blockBytes), out, block * blockElements)
  }
  return out
}

const half = (block: Buffer, at: number): number => halfToFloat(block.readUInt16LE(at))
const byte = (block: Buffer, at: number): number => block[at] ?? 0

/** 32 values in 16 bytes: the low halves first, then the high ones; `high` adds a fifth bit. */
function decodeNibbles(
  block: Buffer,
  start: number,
  out: Float32Array,
  at: number,
  value: (code: number) => number,
  high = 0,
): void {
  for (let j = 0; j < 16; j++) {
    const pair = byte(block, start + j)
    out[at + j] = value((pair & 15) | (((high >>> j) & 1) << 4))
    out[at + j + 16] = value((pair >> 4) | (((high >>> (j + 16)) & 1) << 4))
  }
}

/** Scale and minimum number `j` of the eight six-bit pairs of a K block (get_scale_min_k4). */
function scaleAndMin(block: Buffer, start: number, j: number): readonly [number, number] {
  if (j < 4) return [byte(block, start + j) & 63, byte(block, start + j + 4) & 63]
  return [
    (byte(block, start + j + 4) & 15) | ((byte(block, start + j - 4) >> 6) << 4),
    (byte(block, start + j + 4) >> 4) | ((byte(block, start + j) >> 6) << 4),
  ]
}

/** Q4_K and Q5_K: eight groups of 32; two groups share 32 bytes of nibbles. */
function decodeK(block: Buffer, out: Float32Array, at: number, fifth: boolean): void {
  const [d, least] = [half(block, 0), half(block, 2)]
  const codes = fifth ? 48 : 16
  for (let group = 0; group < 8; group++) {
    const [scale, min] = scaleAndMin(block, 4, group)
    for (let l = 0; l < 32; l++) {
      const pair = byte(block, codes + (group >> 1) * 32 + l)
      const low = group % 2 === 0 ? pair & 15 : pair >> 4
      const high = fifth ? ((byte(block, 16 + l) >> group) & 1) << 4 : 0
      out[at + group * 32 + l] = d * scale * (low | high) - least * min
    }
  }
}

const DECODERS: Readonly<Record<GgmlType, BlockDecoder>> = {
  F32(block, out, at) {
    out[at] = block.readFloatLE()
  },
  F16(block, out, at) {
    out[at] = half(block, 0)
  },
  BF16(block, out, at) {
    out[at] = Buffer.from([0, 0, byte(block, 0), byte(block, 1)]).readFloatLE()
  },
  Q8_0(block, out, at) {
    const d = half(block, 0)
    for (let j = 0; j < 32; j++) out[at + j] = block.readInt8(2 + j) * d
  },
  Q4_0(block, out, at) {
    const d = half(block, 0)
    decodeNibbles(block, 2, out, at, (code) => (code - 8) * d)
  },
  Q4_1(block, out, at) {
    const [d, m] = [half(block, 0), half(block, 2)]
    decodeNibbles(block, 4, out, at, (code) => code * d + m)
  },
  Q5_0(block, out, at) {
    const d = half(block, 0)
    decodeNibbles(block, 6, out, at, (code) => (code - 16) * d, block.readUInt32LE(2))
  },
  Q5_1(block, out, at) {
    const [d, m] = [half(block, 0), half(block, 2)]
    decodeNibbles(block, 8, out, at, (code) => code * d + m, block.readUInt32LE(4))
  },
  Q4_K: (block, out, at) => decodeK(block, out, at, false),
  Q5_K: (block, out, at) => decodeK(block, out, at, true),
  Q6_K(block, out, at) {
    const d = half(block, 208)
    for (let part = 0; part < 2; part++) {
      for (let l = 0; l < 32; l++) {
        const high = byte(block, 128 + part * 32 + l)
        for (let quarter = 0; quarter < 4; quarter++) {
          const pair = byte(block, part * 64 + (quarter % 2) * 32 + l)
          const code = (quarter < 2 ? pair & 15 : pair >> 4) | (((high >> (quarter * 2)) & 3) << 4)
          const scale = block.readInt8(192 + part * 8 + quarter * 2 + (l >> 4))
          out[at + part * 128 + quarter * 32 + l] = d * scale * (code - 32)
        }
      }
    }
  },
}

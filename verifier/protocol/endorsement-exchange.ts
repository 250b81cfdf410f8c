/**
 * How a worker without a network asks a relay on its host for endorsements (PROTOCOL.md §14): one question and one answer on
 * a byte stream, each a frame of u32 big-endian length and deterministic CBOR.
 *
 * The question holds evidence, which the worker shows everybody anyway. The answer is whatever the host likes: it is bounded,
 * it is candidates, and nothing in it is trusted by whoever reads it.
 */
import {
  type CpuType,
  isCpuType,
  isEndorsementType,
  MAX_DEVICES,
  MAX_ENDORSEMENTS,
  type StapledEndorsement,
} from './bundle.js'
import { type Bytes, concat, toBytes } from './bytes.js'
import { CborFields, type CborKey, type CborValue, decodeCbor, encodeCbor, expectArray, expectBytes } from './cbor.js'
import { FormatError } from './errors.js'

const QUESTION_SCHEMA = 'subrosa-endorsements-request/1'
const ANSWER_SCHEMA = 'subrosa-endorsements/1'
/** Largest question, in bytes: a quote and evidence of a board of GPUs. */
export const MAX_QUESTION_BYTES: number = 1024 * 1024
/** Largest answer, in bytes. */
export const MAX_ANSWER_BYTES: number = 8 * 1024 * 1024
/** Bytes before every frame. */
export const FRAME_HEAD_BYTES = 4
const MAX_REASONS = 64
const MAX_REASON_CHARACTERS = 400

export interface EndorsementQuestion {
  readonly cpu?: { readonly type: CpuType; readonly evidence: Bytes }
  readonly gpus: readonly Bytes[]
  readonly switches: readonly Bytes[]
}

export interface EndorsementAnswer {
  readonly endorsements: readonly StapledEndorsement[]
  /** Why something is not among them, in words of the relay's. */
  readonly missing: readonly string[]
}

export function encodeQuestion({ cpu, gpus, switches }: EndorsementQuestion): Bytes {
  const map = new Map<CborKey, CborValue>([
    ['schema', QUESTION_SCHEMA],
    ['gpus', [...gpus]],
    ['switches', [...switches]],
  ])
  if (cpu !== undefined) map.set('cpu', [cpu.type, cpu.evidence])
  return encodeCbor(map)
}

/** @throws FormatError on anything but one question. What the evidence is worth is not looked at. */
export function parseQuestion(bytes: Uint8Array): EndorsementQuestion {
  const f = new CborFields(decodeCbor(bytes, MAX_QUESTION_BYTES), 'endorsement question')
  expectSchema(f, QUESTION_SCHEMA)
  const list = (name: string): readonly Bytes[] => {
    const items = f.array(name)
    if (items.length > MAX_DEVICES) throw malformed(`more than ${MAX_DEVICES} ${name}`)
    return items.map((item) => expectBytes(item, `endorsement question: ${name}`))
  }
  const question = { gpus: list('gpus'), switches: list('switches'), ...(f.has('cpu') ? { cpu: cpuOf(f) } : {}) }
  f.end()
  return question
}

function cpuOf(f: CborFields): NonNullable<EndorsementQuestion['cpu']> {
  const [type, evidence] = expectArray(f.raw('cpu'), 'endorsement question: cpu', 2)
  if (!isCpuType(type)) throw malformed('unknown kind of CPU evidence')
  return { type, evidence: expectBytes(evidence, 'endorsement question: cpu') }
}

export function encodeAnswer({ endorsements, missing }: EndorsementAnswer): Bytes {
  return encodeCbor(
    new Map<CborKey, CborValue>([
      ['schema', ANSWER_SCHEMA],
      ['endorsements', endorsements.map(({ type, bytes }) => [type, bytes])],
      ['missing', missing.slice(0, MAX_REASONS).map((text) => text.slice(0, MAX_REASON_CHARACTERS))],
    ]),
  )
}

/** @throws FormatError on anything but one answer within bounds. */
export function parseAnswer(bytes: Uint8Array): EndorsementAnswer {
  const f = new CborFields(decodeCbor(bytes, MAX_ANSWER_BYTES), 'endorsement answer')
  expectSchema(f, ANSWER_SCHEMA)
  const items = f.array('endorsements')
  if (items.length > MAX_ENDORSEMENTS) throw malformed(`more than ${MAX_ENDORSEMENTS} endorsements`)
  const endorsements = items.map((item) => {
    const [type, value] = expectArray(item, 'endorsement answer: item', 2)
    if (!isEndorsementType(type)) throw malformed('unknown kind of endorsement')
    return { type, bytes: expectBytes(value, 'endorsement answer: item') }
  })
  const reasons = f.array('missing')
  if (reasons.length > MAX_REASONS) throw malformed(`more than ${MAX_REASONS} reasons`)
  const missing = reasons.map((reason) => {
    if (typeof reason !== 'string' || reason.length > MAX_REASON_CHARACTERS) throw malformed('a reason that is none')
    return reason
  })
  f.end()
  return { endorsements, missing }
}

/** A frame around a payload. */
export function framed(payload: Bytes): Bytes {
  const head = new Uint8Array(FRAME_HEAD_BYTES)
  new DataView(head.buffer).setUint32(0, payload.length)
  return toBytes(concat(head, payload))
}

/** Payload length from the head of a frame. @throws FormatError when it is more than `maxBytes`. */
export function frameLength(head: Uint8Array, maxBytes: number): number {
  const length = new DataView(head.buffer, head.byteOffset, FRAME_HEAD_BYTES).getUint32(0)
  if (length > maxBytes) throw malformed(`a frame of ${length} bytes, at most ${maxBytes}`)
  return length
}

function expectSchema(f: CborFields, expected: string): void {
  const schema = f.text('schema')
  if (schema !== expected) throw malformed(`expected schema ${expected}, got ${schema.slice(0, 80)}`)
}

function malformed(reason: string): FormatError {
  return new FormatError('endorsement-exchange', `endorsement exchange: ${reason}`)
}

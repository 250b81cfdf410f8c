/**
 * The few commands of a TPM 2.0 that a paravisor's evidence takes (TCG "TPM 2.0 Library" Part 3): NV_ReadPublic, NV_Read,
 * PCR_Read and Quote, big-endian, one at a time, over the resource manager's device. Authorisations are empty passwords.
 * What comes back is the paravisor's, read within bounds and otherwise believed by nobody.
 */
import { ByteReader, type Bytes, concat, equalBytes, toBytes } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { WorkerError } from '../errors.js'
import { errnoOf, openDevice } from './kernel-files.js'

const TPM_DEVICE = '/dev/tpmrm0'

/** Sends one command and returns its response. */
export interface Tpm {
  transmit(command: Bytes): Promise<Bytes>
  close(): Promise<void>
}

const ST_NO_SESSIONS = 0x8001
const ST_SESSIONS = 0x8002
const CC_NV_READ = 0x0000_014e
const CC_QUOTE = 0x0000_0158
const CC_NV_READ_PUBLIC = 0x0000_0169
const CC_PCR_READ = 0x0000_017e
const RH_OWNER = 0x4000_0001
const RS_PASSWORD = 0x4000_0009
const ALG_NULL = 0x0010
const ALG_SHA256 = 0x000b
const ALG_RSASSA = 0x0014

/** TPM_RC_YIELDED, TPM_RC_TESTING and TPM_RC_RETRY: the command was not started, and is to be sent again. */
const NOT_STARTED: readonly number[] = [0x908, 0x90a, 0x922]
const ATTEMPTS = 20

const MAX_RESPONSE_BYTES = 4096
/** What any TPM returns in one NV_Read. */
const NV_PIECE_BYTES = 512
const MAX_NV_BYTES = 32 * 1024
const PCRS = 24
const PCR_BITMAP_BYTES = 3

/** @throws WorkerError `worker.no-tee` without a TPM that this process may open. */
export async function openTpm(path: string = TPM_DEVICE): Promise<Tpm> {
  let file: Awaited<ReturnType<typeof openDevice>>
  try {
    file = await openDevice(path)
  } catch (cause) {
    const code = errnoOf(cause)
    // Most machines have a TPM that is no paravisor's, and most users may not open it.
    throw new WorkerError('worker.no-tee', `no ${path} to ask (${code})`, { cause })
  }
  return {
    async transmit(command) {
      await file.write(command, 0, command.length, null)
      const { bytesRead, buffer } = await file.read(new Uint8Array(MAX_RESPONSE_BYTES), 0, MAX_RESPONSE_BYTES, null)
      return toBytes(buffer.slice(0, bytesRead))
    },
    close: () => file.close(),
  }
}

/** All of an NV index, with owner authorisation; undefined when there is none. @throws WorkerError, FormatError */
export async function readNvIndex(tpm: Tpm, index: number): Promise<Bytes | undefined> {
  const known = await run(tpm, ST_NO_SESSIONS, CC_NV_READ_PUBLIC, u32(index))
  if (known.code !== 0) return undefined
  const area = new ByteReader(known.body.take(known.body.u16be()), 'NV public area')
  area.take(4 + 2 + 4) // index, name algorithm, attributes
  area.take(area.u16be()) // policy
  const size = area.u16be()
  if (size === 0 || size > MAX_NV_BYTES) throw new FormatError('tpm.nv', `NV index: ${size} bytes`)
  const pieces: Bytes[] = []
  for (let at = 0; at < size; at += NV_PIECE_BYTES) {
    const length = Math.min(NV_PIECE_BYTES, size - at)
    const body = await runWithPassword(tpm, CC_NV_READ, concat(u32(RH_OWNER), u32(index)), concat(u16(length), u16(at)))
    const piece = body.take(body.u16be())
    if (piece.length !== length) throw new FormatError('tpm.nv', `NV index: ${piece.length} bytes instead of ${length}`)
    pieces.push(piece)
  }
  return toBytes(concat(...pieces))
}

export interface SignedQuote {
  /** TPMS_ATTEST. */
  readonly message: Bytes
  /** RSASSA-PKCS1-v1_5 with SHA-256, raw. */
  readonly signature: Bytes
}

/** A quote over every SHA-256 PCR by a persistent key. @param qualifyingData at most 64 bytes */
export async function quote(tpm: Tpm, key: number, qualifyingData: Bytes): Promise<SignedQuote> {
  const parameters = concat(u16(qualifyingData.length), qualifyingData, u16(ALG_NULL), selectionOf(range(0, PCRS)))
  const body = await runWithPassword(tpm, CC_QUOTE, u32(key), parameters)
  const message = body.take(body.u16be())
  const scheme = body.u16be()
  const hash = body.u16be()
  if (scheme !== ALG_RSASSA || hash !== ALG_SHA256) {
    throw new FormatError('tpm.signature', 'TPM quote: expected RSASSA with SHA-256')
  }
  const signature = body.take(body.u16be())
  if (!equalBytes(qualifyingDataOf(message), qualifyingData)) {
    throw new WorkerError('worker.platform', 'the TPM signed other data than it was given')
  }
  return { message, signature }
}

/** extraData of a TPMS_ATTEST. */
function qualifyingDataOf(message: Bytes): Bytes {
  const reader = new ByteReader(message, 'TPM quote')
  reader.take(4 + 2) // magic, type
  reader.take(reader.u16be()) // signer
  return reader.take(reader.u16be())
}

/** The SHA-256 bank, by index. A TPM gives a few at a time. @throws WorkerError, FormatError */
export async function readPcrs(tpm: Tpm): Promise<readonly Bytes[]> {
  const values: Bytes[] = []
  while (values.length < PCRS) {
    const body = await expectSuccess(tpm, ST_NO_SESSIONS, CC_PCR_READ, selectionOf(range(values.length, PCRS)))
    body.take(4) // update counter
    for (let banks = body.u32be(); banks > 0; banks--) {
      body.take(2)
      body.take(body.u8())
    }
    const count = body.u32be()
    if (count === 0 || count > PCRS - values.length) throw new FormatError('tpm.pcrs', `TPM: ${count} PCRs`)
    for (let i = 0; i < count; i++) values.push(body.take(body.u16be()))
  }
  return values
}

/** TPML_PCR_SELECTION of one SHA-256 bank. */
function selectionOf(indices: readonly number[]): Bytes {
  const bitmap = new Uint8Array(PCR_BITMAP_BYTES)
  for (const index of indices) bitmap[index >> 3] = (bitmap[index >> 3] ?? 0) | (1 << (index & 7))
  return toBytes(concat(u32(1), u16(ALG_SHA256), Uint8Array.of(PCR_BITMAP_BYTES), bitmap))
}

/** Parameters of the response of a command that takes one empty password, without the session area behind them. */
async function runWithPassword(tpm: Tpm, code: number, handles: Bytes, parameters: Bytes): Promise<ByteReader> {
  const session = concat(u32(RS_PASSWORD), u16(0), Uint8Array.of(0), u16(0))
  const body = await expectSuccess(tpm, ST_SESSIONS, code, concat(handles, u32(session.length), session, parameters))
  return new ByteReader(body.take(body.u32be()), 'TPM response')
}

async function expectSuccess(tpm: Tpm, tag: number, command: number, rest: Bytes): Promise<ByteReader> {
  const { code, body } = await run(tpm, tag, command, rest)
  if (code !== 0) {
    throw new WorkerError(
      'worker.platform',
      `the TPM refused command 0x${command.toString(16)}: 0x${code.toString(16)}`,
    )
  }
  return body
}

async function run(tpm: Tpm, tag: number, command: number, rest: Bytes): Promise<{ code: number; body: ByteReader }> {
  for (let attempt = 1; ; attempt++) {
    const response = await tpm.transmit(concat(u16(tag), u32(10 + rest.length), u32(command), rest))
    const body = new ByteReader(response, 'TPM response')
    body.take(2)
    if (body.u32be() !== response.length) throw new FormatError('tpm.size', 'TPM response: its size is not its length')
    const code = body.u32be()
    if (!NOT_STARTED.includes(code) || attempt === ATTEMPTS) return { code, body }
  }
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i)
}

function u16(value: number): Bytes {
  return Uint8Array.of(value >> 8, value & 0xff)
}

function u32(value: number): Bytes {
  const out = new Uint8Array(4)
  new DataView(out.buffer).setUint32(0, value)
  return out
}

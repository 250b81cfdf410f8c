/**
 * Event logs (Intel "Guest-Host-Communication Interface" 348552, CCEL; TCG PC Client Platform Firmware Profile §10, the
 * crypto-agile log) and their replay into RTMR0 to RTMR3. Also read: the JSON list some guests keep instead, with their own
 * runtime events in RTMR3.
 *
 * A log is the host's or guest's own account. It counts only where its replay equals registers of a verified quote, and
 * an event's data count only where its digest is their hash. Refused: a missing or malformed Spec ID event, an event
 * without a SHA-384 digest, an unknown register, anything but padding after the last event, more than 4 MiB or 16384 events.
 */
import { ByteReader, type Bytes, concat, equalBytes, fromHex, fromUtf8, toHex, utf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha384 } from '../protocol/hash.js'

/** 0 to 3 for the RTMRs; MRTD is measured at build time and not extended. */
export type Register = 'MRTD' | 0 | 1 | 2 | 3

export interface LoggedEvent {
  readonly register: Register
  readonly type: number
  /** SHA-384, 48 bytes. */
  readonly digest: Bytes
  readonly data: Bytes
  /** JSON logs only: what the guest calls the event. */
  readonly name?: string
  /**
   * `covered`: the digest is the hash of the data, so the data count. `contradicted`: it must be and is not. `unverified`:
   * the digest is of something else (a file, a kernel), and the data are only a remark.
   */
  readonly coverage: 'covered' | 'contradicted' | 'unverified'
}

export interface EventLog {
  readonly events: readonly LoggedEvent[]
  /** RTMR0 to RTMR3 after every event. */
  readonly rtmrs: readonly [Bytes, Bytes, Bytes, Bytes]
}

const MAX_LOG_BYTES = 4 * 1024 * 1024
const MAX_EVENTS = 16384
const MAX_DIGESTS = 16
const ALG_SHA384 = 0x000c
const EV_NO_ACTION = 0x0000_0003
/** Types whose digest is by definition the hash of the event data: EV_SEPARATOR, EV_EFI_ACTION, EV_EFI_VARIABLE_DRIVER_CONFIG. */
const HASHES_DATA: readonly number[] = [0x0000_0004, 0x8000_0007, 0x8000_0001]
/** Runtime events of JSON logs: the digest covers type, name and payload. */
const RUNTIME_EVENT = 0x0800_0001
const SPEC_ID = utf8('Spec ID Event03\0')

/** A CCEL log area or a JSON list, by content. @throws FormatError as the top of this file says. */
export function parseEventLog(bytes: Bytes): EventLog {
  if (bytes.length > MAX_LOG_BYTES) {
    throw new FormatError('tdx.event-log.size', `event log: ${bytes.length} bytes, at most ${MAX_LOG_BYTES}`)
  }
  const events = bytes.find((byte) => byte > 0x20) === 0x5b ? readJsonLog(bytes) : readCcel(bytes)
  return { events, rtmrs: replay(events) }
}

/** Where the log area is, from the 56-byte ACPI CCEL table. @throws FormatError on anything else. */
export function parseCcelTable(bytes: Bytes): { readonly length: bigint; readonly address: bigint } {
  const reader = new ByteReader(bytes, 'CCEL table')
  const signature = fromUtf8(reader.take(4))
  const length = reader.u32le()
  reader.take(28) // rest of the ACPI header
  const type = reader.u8() //           36
  reader.take(3) // subtype, reserved
  const areaLength = reader.u64le() //  40
  const areaAddress = reader.u64le() // 48
  if (signature !== 'CCEL' || length !== bytes.length || type !== 2) {
    throw new FormatError('tdx.event-log.ccel-table', 'CCEL table: expected one for TDX, 56 bytes')
  }
  reader.end()
  return { length: areaLength, address: areaAddress }
}

/** RTMR = SHA-384(RTMR, digest) from 48 zero bytes; EV_NO_ACTION extends nothing. */
function replay(events: readonly LoggedEvent[]): EventLog['rtmrs'] {
  const rtmrs: [Bytes, Bytes, Bytes, Bytes] = [zeros(), zeros(), zeros(), zeros()]
  for (const { register, type, digest } of events) {
    if (register === 'MRTD' || type === EV_NO_ACTION) continue
    rtmrs[register] = extend(rtmrs[register], digest)
  }
  return rtmrs
}

export function extend(register: Bytes, digest: Bytes): Bytes {
  return sha384(concat(register, digest))
}

/** The value an RTMR has after exactly these digests, in order. */
export function replayDigests(digests: readonly string[]): Bytes {
  return digests.reduce((register, digest) => extend(register, fromHex(digest)), zeros())
}

/** Digests extended into one RTMR, in order. */
export function digestsOf(log: EventLog, rtmr: 0 | 1 | 2 | 3): readonly LoggedEvent[] {
  return log.events.filter(({ register, type }) => register === rtmr && type !== EV_NO_ACTION)
}

function readCcel(bytes: Bytes): readonly LoggedEvent[] {
  const reader = new ByteReader(bytes, 'event log')
  const sizes = readSpecId(reader)
  const events: LoggedEvent[] = []
  while (!atEnd(bytes, reader.offset)) {
    if (events.length === MAX_EVENTS) throw malformed(`more than ${MAX_EVENTS} events`)
    events.push(readEvent(reader, sizes))
  }
  return events
}

/** TCG_EfiSpecIDEvent in a TCG 1.2 record: which digests every following event carries. */
function readSpecId(reader: ByteReader): ReadonlyMap<number, number> {
  reader.u32le() // register index, meaningless here
  const type = reader.u32le()
  reader.take(20) // SHA-1 of nothing
  const data = reader.take(reader.u32le())
  if (type !== EV_NO_ACTION || !equalBytes(data.subarray(0, SPEC_ID.length), SPEC_ID)) {
    throw malformed('expected a Spec ID event of version 03 first')
  }
  const spec = new ByteReader(data.subarray(SPEC_ID.length), 'Spec ID event')
  spec.take(8) // platform class, version, errata, uintn size
  const count = spec.u32le()
  if (count === 0 || count > MAX_DIGESTS) throw malformed(`Spec ID event: ${count} algorithms`)
  const sizes = new Map<number, number>()
  for (let i = 0; i < count; i++) {
    const algorithm = spec.u16le()
    if (sizes.has(algorithm)) throw malformed('Spec ID event: an algorithm appears twice')
    sizes.set(algorithm, spec.u16le())
  }
  spec.take(spec.u8()) // vendor info
  spec.end()
  if (sizes.get(ALG_SHA384) !== 48) throw malformed('Spec ID event: expected SHA-384 digests of 48 bytes')
  return sizes
}

/** The end of the buffer, or nothing but one padding byte, 00 or FF, up to it. */
function atEnd(bytes: Bytes, offset: number): boolean {
  const padding = bytes[offset]
  if (padding === undefined) return true
  if (padding !== 0xff && padding !== 0x00) return false
  return bytes.subarray(offset).every((byte) => byte === padding)
}

/** TCG_PCR_EVENT2 with the register index of Intel's table: 0 MRTD, 1 to 4 RTMR0 to RTMR3. */
function readEvent(reader: ByteReader, sizes: ReadonlyMap<number, number>): LoggedEvent {
  const at = reader.offset
  const index = reader.u32le()
  const type = reader.u32le()
  const count = reader.u32le()
  if (index > 4) throw malformed(`unknown register ${index} at offset ${at}`)
  if (count > MAX_DIGESTS) throw malformed(`${count} digests at offset ${at}`)
  let digest: Bytes | undefined
  for (let i = 0; i < count; i++) {
    const algorithm = reader.u16le()
    const size = sizes.get(algorithm)
    if (size === undefined) throw malformed(`unknown digest algorithm ${algorithm} at offset ${at}`)
    const value = reader.take(size)
    if (algorithm !== ALG_SHA384) continue
    if (digest !== undefined) throw malformed(`two SHA-384 digests at offset ${at}`)
    digest = value
  }
  const data = reader.take(reader.u32le())
  if (digest === undefined) throw malformed(`no SHA-384 digest at offset ${at}`)
  const register = index === 0 ? 'MRTD' : ((index - 1) as 0 | 1 | 2 | 3)
  return { register, type, digest, data, coverage: coverageOf(type, digest, data) }
}

/** A list of {imr, event_type, digest, event, event_payload}, digests and payloads in hex. */
function readJsonLog(bytes: Bytes): readonly LoggedEvent[] {
  let list: unknown
  try {
    list = JSON.parse(fromUtf8(bytes))
  } catch (cause) {
    throw new FormatError('tdx.event-log.json', 'event log: not well-formed JSON', { cause })
  }
  if (!Array.isArray(list) || list.length > MAX_EVENTS)
    throw malformed(`expected a list of at most ${MAX_EVENTS} events`)
  return list.map(readJsonEvent)
}

function readJsonEvent(item: unknown, at: number): LoggedEvent {
  const { imr, event_type: type, digest, event: name, event_payload: payload } = (item ?? {}) as Record<string, unknown>
  const numbers = (imr === 0 || imr === 1 || imr === 2 || imr === 3) && Number.isInteger(type) && (type as number) >= 0
  if (
    !numbers ||
    typeof digest !== 'string' ||
    digest.length !== 96 ||
    typeof name !== 'string' ||
    typeof payload !== 'string'
  ) {
    throw malformed(`event ${at}: expected imr, event_type, digest, event and event_payload`)
  }
  const event = {
    register: imr as Register,
    type: type as number,
    digest: fromHex(digest),
    data: fromHex(payload),
    name,
  }
  return {
    ...event,
    coverage: event.type === RUNTIME_EVENT ? runtimeCoverage(event) : coverageOf(event.type, event.digest, event.data),
  }
}

/** SHA-384(type as u32 little-endian, ":", name, ":", payload): recomputed for every runtime event. */
function runtimeCoverage(event: {
  readonly type: number
  readonly digest: Bytes
  readonly data: Bytes
  readonly name: string
}): LoggedEvent['coverage'] {
  const type = new Uint8Array(4)
  new DataView(type.buffer).setUint32(0, event.type, true)
  const colon = utf8(':')
  const expected = sha384(concat(type, colon, utf8(event.name), colon, event.data))
  return equalBytes(expected, event.digest) ? 'covered' : 'contradicted'
}

function coverageOf(type: number, digest: Bytes, data: Bytes): LoggedEvent['coverage'] {
  if (equalBytes(sha384(data), digest)) return 'covered'
  return HASHES_DATA.includes(type) ? 'contradicted' : 'unverified'
}

const EVENT_NAMES: Readonly<Record<number, string>> = {
  3: 'EV_NO_ACTION',
  4: 'EV_SEPARATOR',
  6: 'EV_EVENT_TAG',
  10: 'EV_PLATFORM_CONFIG_FLAGS',
  13: 'EV_IPL',
  2147483649: 'EV_EFI_VARIABLE_DRIVER_CONFIG',
  2147483650: 'EV_EFI_VARIABLE_BOOT',
  2147483651: 'EV_EFI_BOOT_SERVICES_APPLICATION',
  2147483654: 'EV_EFI_GPT_EVENT',
  2147483655: 'EV_EFI_ACTION',
  2147483656: 'EV_EFI_PLATFORM_FIRMWARE_BLOB',
  2147483657: 'EV_EFI_HANDOFF_TABLES',
  2147483658: 'EV_EFI_PLATFORM_FIRMWARE_BLOB2',
  2147483659: 'EV_EFI_HANDOFF_TABLES2',
  2147483660: 'EV_EFI_VARIABLE_BOOT2',
  2147483872: 'EV_EFI_VARIABLE_AUTHORITY',
}

/** `EV_SEPARATOR`, or the number of a type without a name here. */
export function eventName({ type, name }: LoggedEvent): string {
  const known = EVENT_NAMES[type] ?? `0x${type.toString(16).padStart(8, '0')}`
  return name === undefined || name === '' ? known : `${known} "${name.slice(0, 60)}"`
}

/** JSON-ready: registers, digests and what each event's data are worth; data only as length. */
export function describeEventLog(log: EventLog): Record<string, unknown> {
  return {
    events: log.events.map((event) => ({
      register: event.register === 'MRTD' ? 'MRTD' : `RTMR${event.register}`,
      type: eventName(event),
      digest: toHex(event.digest),
      dataBytes: event.data.length,
      coverage: event.coverage,
    })),
    rtmrs: log.rtmrs.map(toHex),
  }
}

function zeros(): Bytes {
  return new Uint8Array(48)
}

function malformed(reason: string): FormatError {
  return new FormatError('tdx.event-log.malformed', `event log: ${reason}`)
}

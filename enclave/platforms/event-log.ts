/**
 * The firmware's event log of a TDX guest (ACPI table CCEL, UEFI "Confidential Computing Event Log"), as the kernel shows it to
 * root, and the worker's own events behind it. Nothing here is trusted: a log counts where its replay equals the registers
 * of a quote, and verifiers do that.
 *
 * The area is a buffer with padding after the last event. Only what holds events is carried.
 */
import { ByteReader, type Bytes, concat, toBytes, utf8 } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { sha384 } from '../../verifier/protocol/hash.js'
import { type KernelFiles, kernelFiles } from './kernel-files.js'

const CCEL_DATA = '/sys/firmware/acpi/tables/data/CCEL'
/** What verifiers read. */
const MAX_LOG_BYTES = 4 * 1024 * 1024
const MAX_EVENTS = 16_384
const EV_NO_ACTION = 3
const EV_EVENT_TAG = 6
const ALG_SHA384 = 0x000c
/** Register index of RTMR3 in the log: 0 is MRTD, 1 to 4 are RTMR0 to RTMR3. */
const RTMR3_INDEX = 4

/** Events without padding; undefined where the machine has no such log, or one that cannot be read. */
export async function readEventLog(files: Pick<KernelFiles, 'read'> = kernelFiles): Promise<Bytes | undefined> {
  try {
    return withoutPadding(await files.read(CCEL_DATA, MAX_LOG_BYTES))
  } catch {
    return undefined
  }
}

/** Cuts the area after the last event. @throws FormatError on anything but a log of the crypto-agile format. */
export function withoutPadding(area: Bytes): Bytes {
  const reader = new ByteReader(area, 'event log')
  reader.u32le() // register
  if (reader.u32le() !== EV_NO_ACTION) throw new FormatError('event-log', 'event log: expected a Spec ID event first')
  reader.take(20)
  const spec = new ByteReader(reader.take(reader.u32le()), 'Spec ID event')
  spec.take(24) // signature, platform class, version, errata, uintn size
  const sizes = new Map<number, number>()
  for (let left = Math.min(spec.u32le(), 16); left > 0; left--) sizes.set(spec.u16le(), spec.u16le())
  for (let events = 0; reader.remaining > 0 && !isPadding(area.subarray(reader.offset)); events++) {
    if (events === MAX_EVENTS) throw new FormatError('event-log', `event log: more than ${MAX_EVENTS} events`)
    skipEvent(reader, sizes)
  }
  return area.slice(0, reader.offset)
}

/** TCG_PCR_EVENT2. */
function skipEvent(reader: ByteReader, sizes: ReadonlyMap<number, number>): void {
  reader.take(8)
  for (let left = reader.u32le(); left > 0; left--) {
    const size = sizes.get(reader.u16le())
    if (size === undefined) throw new FormatError('event-log', 'event log: an unknown digest algorithm')
    reader.take(size)
  }
  reader.take(reader.u32le())
}

/** Nothing but zeros, or nothing but ones, up to the end. */
function isPadding(rest: Uint8Array): boolean {
  const [first] = rest
  return (first === 0 || first === 0xff) && rest.every((byte) => byte === first)
}

/** One of the worker's own events: what RTMR3 is extended with, and how the log says so. */
export interface OwnEvent {
  /** SHA-384 of the event's data, 48 bytes. */
  readonly digest: Bytes
  /** TCG_PCR_EVENT2, to be put behind the firmware's. */
  readonly record: Bytes
}

/** Data are `name ‖ 0x00 ‖ value`, so that a verifier which replays the log knows what was extended, and by what name. */
export function ownEvent(name: string, value: Bytes): OwnEvent {
  const data = concat(utf8(name), new Uint8Array(1), value)
  const digest = sha384(data)
  const head = new Uint8Array(14)
  const view = new DataView(head.buffer)
  view.setUint32(0, RTMR3_INDEX, true)
  view.setUint32(4, EV_EVENT_TAG, true)
  view.setUint32(8, 1, true)
  view.setUint16(12, ALG_SHA384, true)
  const length = new Uint8Array(4)
  new DataView(length.buffer).setUint32(0, data.length, true)
  return { digest, record: toBytes(concat(head, digest, length, data)) }
}

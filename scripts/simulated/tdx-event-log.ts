/**
 * Builds confidential-computing event logs (CCEL): a TCG crypto-agile log (TCG PC Client Platform Firmware Profile §10.2)
 * whose register indices count MRTD as 0 and RTMR0 to RTMR3 as 1 to 4 (Intel "Guest-Host-Communication Interface"), with
 * the register values it replays to, and the ACPI table that announces it.
 */
import { type Bytes, concat } from '../../verifier/protocol/bytes.js'
import { sha384 } from './tdx-facts.js'
import { littleEndian } from './tdx-report.js'

/** Event types that a TD's log has (TCG PC Client Platform Firmware Profile, table "Events"). */
export const EVENT_TYPE = {
  noAction: 0x03,
  separator: 0x04,
  eventTag: 0x06,
  ipl: 0x0d,
  efiVariableDriverConfig: 0x8000_0001,
  efiBootServicesApplication: 0x8000_0003,
  efiAction: 0x8000_0007,
  efiPlatformFirmwareBlob2: 0x8000_000a,
  efiHandoffTables2: 0x8000_000b,
} as const

export interface LoggedEvent {
  /** 0 MRTD, 1 to 4 RTMR0 to RTMR3; another index is written as it is and extends nothing. */
  readonly register: number
  readonly type: number
  readonly data: Uint8Array
  /** SHA-384 digest, 48 bytes; default the digest of the data. */
  readonly digest?: Uint8Array
  /** What the register is extended with, when that shall differ from the logged digest. */
  readonly extendedWith?: Uint8Array
  /** All digests, in place of the one SHA-384 digest. */
  readonly digests?: readonly { readonly algorithm: number; readonly digest: Uint8Array }[]
  /** A data size to state instead of the true one. */
  readonly statedDataBytes?: number
  /** A digest count to state instead of the true one. */
  readonly statedDigests?: number
}

export interface EventLogOptions {
  /** What fills the log area after the last event: real logs have 0xff or 0. Default 0xff. */
  readonly fill?: number
  /** Size of the log area; default without fill. */
  readonly areaBytes?: number
  /** In place of the Spec ID event; null leaves it out. */
  readonly specIdEvent?: Uint8Array | null
}

export interface BuiltEventLog {
  readonly bytes: Bytes
  /** RTMR0 to RTMR3 after all events, 48 bytes each, starting from zeros. */
  readonly rtmrs: readonly [Bytes, Bytes, Bytes, Bytes]
  /** Where each event starts. */
  readonly offsets: readonly number[]
}

const ALG_SHA384 = 0x000c

/** @throws RangeError when the events do not fit `areaBytes`. */
export function buildEventLog(events: readonly LoggedEvent[], options: EventLogOptions = {}): BuiltEventLog {
  const parts: Uint8Array[] = []
  const offsets: number[] = []
  if (options.specIdEvent !== null) parts.push(options.specIdEvent ?? specIdEvent())
  let end = parts[0]?.length ?? 0
  for (const event of events) {
    const encoded = encodeEvent(event)
    parts.push(encoded)
    offsets.push(end)
    end += encoded.length
  }
  const areaBytes = options.areaBytes ?? end
  if (areaBytes < end) throw new RangeError(`areaBytes: the events take ${end} bytes`)
  parts.push(new Uint8Array(areaBytes - end).fill(options.fill ?? 0xff))
  const register = (index: number): Bytes => replay(events.filter((event) => event.register === index))
  return { bytes: concat(...parts), rtmrs: [register(1), register(2), register(3), register(4)], offsets }
}

/** The first event: TCG 1.2 form with a Spec ID structure that names SHA-384 as the only algorithm. */
export function specIdEvent(): Bytes {
  const structure = concat(
    Buffer.from('Spec ID Event03\0', 'latin1'),
    littleEndian(0, 4), // platform class: client
    Uint8Array.of(0, 2, 0, 2), // version 2.0, errata 0, 64-bit UINTN
    littleEndian(1, 4),
    littleEndian(ALG_SHA384, 2),
    littleEndian(48, 2),
    Uint8Array.of(0), // no vendor information
  )
  return concat(
    littleEndian(1, 4),
    littleEndian(EVENT_TYPE.noAction, 4),
    new Uint8Array(20),
    littleEndian(structure.length, 4),
    structure,
  )
}

/**
 * What a TD measures on its way up, shortened: firmware configuration into RTMR0, boot loader and kernel into RTMR1, the
 * command line into RTMR2, one application event into RTMR3, and the separators in between.
 */
export function simulatedBootEvents(): LoggedEvent[] {
  const text = (value: string): Uint8Array => Buffer.from(value, 'latin1')
  const separator = (register: number): LoggedEvent => ({
    register,
    type: EVENT_TYPE.separator,
    data: new Uint8Array(4),
  })
  const action = (register: number, what: string): LoggedEvent => ({
    register,
    type: EVENT_TYPE.efiAction,
    data: text(what),
  })
  return [
    {
      register: 1,
      type: EVENT_TYPE.efiVariableDriverConfig,
      data: efiVariable('61dfe48bca93d211aa0d00e098032b8c', 'SecureBoot', Uint8Array.of(1)),
    },
    separator(1),
    action(2, 'Calling EFI Application from Boot Option'),
    separator(2),
    {
      register: 2,
      type: EVENT_TYPE.efiBootServicesApplication,
      data: text('SIMULATED image load event'),
      // An image is measured by its Authenticode digest, which the event's data do not give.
      digest: sha384('subrosa simulated kernel'),
    },
    action(2, 'Exit Boot Services Invocation'),
    action(2, 'Exit Boot Services Returned with Success'),
    {
      register: 3,
      type: EVENT_TYPE.ipl,
      data: text('kernel_cmdline: console=hvc0\0'),
      digest: sha384('kernel_cmdline: console=hvc0'),
    },
    { register: 4, type: EVENT_TYPE.eventTag, data: text('subrosa simulated application') },
  ]
}

/** UEFI_VARIABLE_DATA: GUID in memory order, lengths, UTF-16LE name, content. */
export function efiVariable(guidHex: string, name: string, content: Uint8Array): Bytes {
  return concat(
    Buffer.from(guidHex, 'hex'),
    littleEndian(name.length, 8),
    littleEndian(content.length, 8),
    Buffer.from(name, 'utf16le'),
    content,
  )
}

/** The ACPI CCEL table, 56 bytes, for a log area of this length at this physical address. */
export function buildCcelTable(areaBytes: number, address: bigint = 0xbedb_f000n): Bytes {
  const table = concat(
    Buffer.from('CCEL', 'latin1'),
    littleEndian(56, 4),
    Uint8Array.of(1, 0), // revision, checksum
    Buffer.from('INTEL SIMULATE', 'latin1'),
    littleEndian(2, 4),
    Buffer.from('    ', 'latin1'),
    littleEndian(0x0100_0013, 4),
    Uint8Array.of(2, 0, 0, 0), // CC type: TDX
    littleEndian(areaBytes, 8),
    littleEndian(address, 8),
  )
  // ACPI: all bytes sum to zero.
  table[9] = (256 - (table.reduce((sum, byte) => sum + byte, 0) & 0xff)) & 0xff
  return table
}

function encodeEvent(event: LoggedEvent): Bytes {
  const digests = event.digests ?? [{ algorithm: ALG_SHA384, digest: digestOf(event) }]
  return concat(
    littleEndian(event.register, 4),
    littleEndian(event.type, 4),
    littleEndian(event.statedDigests ?? digests.length, 4),
    ...digests.flatMap(({ algorithm, digest }) => [littleEndian(algorithm, 2), digest]),
    littleEndian(event.statedDataBytes ?? event.data.length, 4),
    event.data,
  )
}

/** EV_NO_ACTION records something and measures nothing. */
function replay(events: readonly LoggedEvent[]): Bytes {
  return events
    .filter((event) => event.type !== EVENT_TYPE.noAction)
    .reduce<Bytes>(
      (register, event) => sha384(concat(register, event.extendedWith ?? digestOf(event))),
      new Uint8Array(48),
    )
}

function digestOf(event: LoggedEvent): Uint8Array {
  return event.digest ?? event.digests?.find(({ algorithm }) => algorithm === ALG_SHA384)?.digest ?? sha384(event.data)
}

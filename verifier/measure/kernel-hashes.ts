/**
 * The table of kernel, initrd and command line hashes that the host puts into guest memory (QEMU "SEV kernel hashes";
 * edk2 OvmfPkg/AmdSev BlobVerifierLibSevHashes): three SHA-256 values under GUIDs, 168 bytes and 8 of padding.
 */
import { type Bytes, concat, fromHex, utf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha256 } from '../protocol/hash.js'

/** What is booted. An absent initrd is hashed as the empty string. */
export interface BootFiles {
  /** As on disk: for confidential guests QEMU leaves the setup header alone. */
  readonly kernel: Uint8Array
  readonly initrd?: Uint8Array
  /** Without a trailing NUL; UTF-8. */
  readonly commandLine: string
}

/** GUIDs as they stand in memory: the first three groups little-endian. */
const TABLE_GUID = fromHex('06d63894224fc94cb479a793d411fd21')
const COMMAND_LINE_GUID = fromHex('d82dd09720bd944caa78e7714d36ab2a')
const INITRD_GUID = fromHex('31f7ba442f3ad74b9af141e29169781d')
const KERNEL_GUID = fromHex('3794e74dd2ab7f42b835d5b172d2045b')
const TABLE_BYTES = 168
const ENTRY_BYTES = 50
const PADDING_BYTES = 8

/** 176 bytes. @throws FormatError on a command line with a NUL in it: the guest would read less than was hashed. */
export function kernelHashTable({ kernel, initrd, commandLine }: BootFiles): Bytes {
  if (commandLine.includes('\0')) throw new FormatError('measure.command-line', 'the command line contains a NUL')
  return concat(
    TABLE_GUID,
    u16(TABLE_BYTES),
    entry(COMMAND_LINE_GUID, utf8(`${commandLine}\0`)),
    entry(INITRD_GUID, initrd ?? new Uint8Array()),
    entry(KERNEL_GUID, kernel),
    new Uint8Array(PADDING_BYTES),
  )
}

function entry(guid: Bytes, contents: Uint8Array): Bytes {
  return concat(guid, u16(ENTRY_BYTES), sha256(contents))
}

function u16(value: number): Bytes {
  return new Uint8Array([value & 0xff, value >> 8])
}

/**
 * RTMR1 and RTMR2 of a TD that boots a unified kernel image with QEMU's `-kernel` (UAPI Group specification 5, "Unified Kernel
 * Image"; systemd-stub(7), "TPM PCR Notes"). Firmware measures the whole file, then the kernel inside it. The stub measures each
 * section, its name and its contents, as PCR 11, and the kernel's own EFI stub command line and initrd as PCR 9, all of which
 * is RTMR2. Checked against a machine booted with a TPM, not against a TDX CPU. From a disk, the partition table is measured too.
 *
 * Sections: .linux, .osrel, .cmdline, .initrd, .uname, .sbat. Any other that the stub would measure is refused, as its order
 * was never seen.
 */
import { type Bytes, utf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha384 } from '../protocol/hash.js'
import { authenticodeSha384 } from './authenticode.js'
import { parsePe } from './pe.js'
import { commandLineEvent, extendAll, FIXED_EVENTS } from './rtmr.js'

/** In the order in which the stub measures them. */
const MEASURED = ['.linux', '.osrel', '.cmdline', '.initrd', '.uname', '.sbat'] as const
const MAX_COMMAND_LINE_BYTES = 2048
type MeasuredSection = (typeof MEASURED)[number]
/** Sections of the stub itself, which only the hash of the whole file covers. */
const UNMEASURED = new Set([
  '.text',
  '.rodata',
  '.data',
  '.reloc',
  '.sdmagic',
  '.rdata',
  '.bss',
  '.dynamic',
  '.dynsym',
  '.rela',
])

export interface UnifiedKernelImage {
  /** Of the whole file and of the kernel inside, Authenticode SHA-384. */
  readonly digests: readonly [Bytes, Bytes]
  readonly sections: Readonly<Partial<Record<MeasuredSection, Uint8Array>>>
}

/** The image's parts; undefined when the file is a kernel and no unified image. @throws FormatError on what is neither. */
export function parseUki(file: Uint8Array): UnifiedKernelImage | undefined {
  const found = parsePe(file).sections
  if (!found.some(({ name }) => name === '.linux')) return undefined
  const sections: Partial<Record<MeasuredSection, Uint8Array>> = {}
  for (const { name, memoryBytes, fileBytes, offset } of found) {
    if (UNMEASURED.has(name)) continue
    const known = MEASURED.find((other) => other === name)
    if (known === undefined) throw malformed(`what the stub does with a section ${JSON.stringify(name)} is not known`)
    if (sections[known] !== undefined) throw malformed(`two sections ${known}`)
    if (memoryBytes > fileBytes) throw malformed(`${known} is longer in memory than in the file`)
    sections[known] = file.subarray(offset, offset + memoryBytes)
  }
  const { '.linux': kernel } = sections
  if (kernel === undefined) throw malformed('it has no kernel')
  return { digests: [authenticodeSha384(file), authenticodeSha384(kernel)], sections }
}

/** 48 bytes. */
export function ukiRtmr1({ digests: [whole, kernel] }: UnifiedKernelImage): Bytes {
  const { called, separator, exiting, exited } = FIXED_EVENTS
  return extendAll([whole, called, separator, kernel, exiting, exited])
}

/** 48 bytes. @throws FormatError on a command line that is no text or has a NUL. */
export function ukiRtmr2({ sections }: UnifiedKernelImage): Bytes {
  const events: Bytes[] = []
  for (const name of MEASURED) {
    const bytes = sections[name]
    if (bytes !== undefined) events.push(sha384(utf8(`${name}\0`)), sha384(bytes))
  }
  const { '.cmdline': commandLine = new Uint8Array(), '.initrd': initrd } = sections
  events.push(commandLineEvent(textOf(commandLine)))
  if (initrd !== undefined) events.push(sha384(initrd))
  return extendAll(events)
}

function textOf(bytes: Uint8Array): string {
  if (bytes.length > MAX_COMMAND_LINE_BYTES) throw malformed('its command line is longer than a kernel takes')
  // What the stub does with other bytes, or with space at the ends, was never seen.
  const text = String.fromCharCode(...bytes)
  if (!/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(text)) {
    throw malformed('its command line is not printable ASCII without space at its ends')
  }
  return text
}

function malformed(what: string): FormatError {
  return new FormatError('measure.uki', `unified kernel image: ${what}`)
}

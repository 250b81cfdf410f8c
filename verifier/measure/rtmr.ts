/**
 * RTMR1 and RTMR2 of a TD that boots a kernel directly (QEMU `-kernel`; a unified image: `uki.ts`): what edk2 and the kernel's EFI stub extend (TCG PC
 * Client Platform Firmware Profile, EV_EFI_BOOT_SERVICES_APPLICATION and EV_EFI_ACTION; Linux EFI stub, command line and
 * initrd). Checked against machines booted with a TPM, whose PCR 4 and 9 have the same events; not against a TDX CPU.
 *
 * Not computed: RTMR0, which depends on the VMM's ACPI tables, and boots from disk, whose events depend on the partition table.
 */
import { type Bytes, utf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha384 } from '../protocol/hash.js'
import { extend } from '../tdx/event-log.js'
import { authenticodeSha384 } from './authenticode.js'
import type { BootFiles } from './kernel-hashes.js'

/**
 * Where the firmware puts `initrd=initrd`, which it adds when there is an initrd: edk2 of 2025-05-26 and later in front of
 * the command line, older builds behind it.
 */
export type InitrdArgument = 'prefix' | 'suffix'

/** Events that are the same in every boot, 48 bytes each. */
export const FIXED_EVENTS = {
  called: sha384(utf8('Calling EFI Application from Boot Option')),
  separator: sha384(new Uint8Array(4)),
  exiting: sha384(utf8('Exit Boot Services Invocation')),
  exited: sha384(utf8('Exit Boot Services Returned with Success')),
} as const

/** 48 bytes. */
export function rtmr1(kernel: Uint8Array): Bytes {
  const { called, separator, exiting, exited } = FIXED_EVENTS
  return extendAll([authenticodeSha384(kernel), called, separator, exiting, exited])
}

/** 48 bytes. @throws FormatError on a command line with a NUL or outside the Basic Multilingual Plane. */
export function rtmr2(
  { commandLine, initrd }: Pick<BootFiles, 'commandLine' | 'initrd'>,
  placed: InitrdArgument,
): Bytes {
  const text = measuredCommandLine(commandLine, initrd !== undefined, placed)
  const events = [commandLineEvent(text)]
  if (initrd !== undefined) events.push(sha384(initrd))
  return extendAll(events)
}

/** The text that is measured, which is not the text that was given. */
export function measuredCommandLine(given: string, hasInitrd: boolean, placed: InitrdArgument): string {
  if (given.includes('\0')) throw new FormatError('measure.command-line', 'the command line contains a NUL')
  if (!hasInitrd) return given
  return placed === 'prefix' ? `initrd=initrd ${given}` : `${given} initrd=initrd`
}

/** What the kernel's EFI stub measures of the command line it runs with. */
export function commandLineEvent(text: string): Bytes {
  return sha384(utf16(`${text}\0`))
}

export function extendAll(digests: readonly Bytes[]): Bytes {
  return digests.reduce((register, digest) => extend(register, digest), new Uint8Array(48))
}

function utf16(text: string): Bytes {
  const out = new Uint8Array(2 * text.length)
  const view = new DataView(out.buffer)
  for (let i = 0; i < text.length; i++) view.setUint16(2 * i, text.charCodeAt(i), true)
  return out
}

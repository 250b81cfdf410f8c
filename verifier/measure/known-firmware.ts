/**
 * Firmware whose behaviour is known, by SHA-256 of the file.
 *
 * On SEV-SNP the launch digest covers hashes of kernel, initrd and command line, and nothing but the firmware compares
 * them with what is booted. A build that lists the page for them and ignores it gives the same digest for any kernel: such
 * a digest proves nothing. Only a build that was seen to refuse altered files may be measured with a kernel.
 */
import { UsageError } from '../errors.js'
import type { FirmwareFile } from './firmware.js'

export interface KnownFirmware {
  readonly sha256Hex: string
  /** Package, version and file it came from. */
  readonly name: string
  /** `enforced`: seen to refuse a kernel, initrd or command line other than the one in its hash table. */
  readonly kernelHashes: 'enforced' | 'ignored'
}

export const KNOWN_FIRMWARE: readonly KnownFirmware[] = [
  {
    sha256Hex: '3e4fd0b3fe3b2dbe481c3d9e99418a034174f26cbe1f55aa212b0f18c12d2d6f',
    name: 'Debian ovmf-amdsev 2026.08+ds-2 OVMF.amdsev.fd',
    kernelHashes: 'enforced',
  },
  {
    sha256Hex: '6a3e8f438ad7269f5dfd884647587b88391fb23965bb3aa7902b519438dba129',
    name: 'Debian ovmf-generic 2026.08+ds-2 OVMF.fd',
    kernelHashes: 'ignored',
  },
]

/**
 * Refuses a firmware that is not known to enforce the hashes of what it boots.
 * @throws UsageError naming the firmware and what to do.
 */
export function requireEnforcement({ sha256Hex }: FirmwareFile, unlisted: 'allowed' | 'refused'): void {
  const known = KNOWN_FIRMWARE.find((entry) => entry.sha256Hex === sha256Hex)
  if (known?.kernelHashes === 'enforced') return
  if (known !== undefined) {
    throw new UsageError(
      'measure.firmware-ignores-hashes',
      `${known.name} has a page for kernel hashes and ignores it: its digest would be the same for any kernel; use a firmware that enforces them, such as edk2’s AmdSev build`,
    )
  }
  if (unlisted === 'allowed') return
  throw new UsageError(
    'measure.firmware-unlisted',
    `firmware ${sha256Hex} is not known to enforce kernel hashes, and one that does not would give the same digest for any kernel; boot it with an altered command line first, and if it refuses, say --unlisted-firmware`,
  )
}

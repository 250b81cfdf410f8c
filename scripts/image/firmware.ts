/** What runs before the kernel, out of its Debian packages. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fetchDebs } from './archive.js'
import { unpackDeb } from './base.js'
import type { ImageLock } from './lock.js'

export interface BootCode {
  /** AMD's build of OVMF, which refuses what its hash table does not name. */
  readonly snpFirmware: Buffer
  /** The generic build of OVMF, which a TD can be made of, and which measures into a TPM where there is one. */
  readonly tdxFirmware: Buffer
  /** systemd's EFI stub, for a unified kernel image. */
  readonly stub: Buffer
}

export async function fetchBootCode({ debs }: ImageLock): Promise<BootCode> {
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-firmware-'))
  try {
    for (const file of await fetchDebs([...debs.firmware, ...debs.stub])) await unpackDeb(file, folder)
    const read = (path: string): Promise<Buffer> => readFile(join(folder, path))
    const [snpFirmware, tdxFirmware, stub] = await Promise.all([
      read('usr/share/ovmf/OVMF.amdsev.fd'),
      read('usr/share/ovmf/OVMF.fd'),
      read('usr/lib/systemd/boot/efi/linuxx64.efi.stub'),
    ])
    return { snpFirmware, tdxFirmware, stub }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

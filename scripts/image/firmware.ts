/** The guest firmware, out of its Debian package: AMD's build of OVMF, which refuses what its hash table does not name. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fetchDebs } from './archive.js'
import { unpackDeb } from './base.js'
import type { ImageLock } from './lock.js'

const FIRMWARE_PATH = 'usr/share/ovmf/OVMF.amdsev.fd'

export async function fetchFirmware({ debs }: ImageLock): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-firmware-'))
  try {
    for (const file of await fetchDebs(debs.firmware)) await unpackDeb(file, folder)
    return await readFile(join(folder, FIRMWARE_PATH))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

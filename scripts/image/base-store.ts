/**
 * A base as buildah takes it: an image, in a store that holds nothing else. It is a second copy of the base, and the one that
 * compiles, so it is kept as the base is: listed when it is made, compared each time it is taken, and made again if it differs.
 * Builds only read it; what they write goes into a store of their own.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Base, exportBase } from './base.js'
import { ImageError, run } from './command.js'
import { firstLineThatDiffers, inventoryOf } from './inventory.js'
import { keptFolder, keyOf, listOf } from './kept.js'
import { withOwnFolder } from './own-folder.js'
import { cacheFolder } from './places.js'

/** Changes when the layout of a store does. */
const LAYOUT = 'store/1'

export interface BaseImage {
  /** What FROM takes. */
  readonly name: string
  /** Root of the store that has it. */
  readonly store: string
}

/** @param epoch seconds since 1970: every time stamp in it. @throws ImageError when what buildah made of the base is not the base. */
export async function baseImage(base: Base, epoch: number): Promise<BaseImage> {
  const name = `localhost/subrosa-image-base:${base.id}`
  const kept = join(cacheFolder, 'store', keyOf([LAYOUT, base.id, String(epoch)]))
  const store = await keptFolder(kept, async (folder) => {
    process.stderr.write(`image: importing base ${base.id} for buildah\n`)
    await importInto(folder, base, name, epoch)
    await expectBase(folder, base)
  })
  return { name, store }
}

/** Where buildah keeps images, and in `run` what is gone with the next start of the machine. */
export function storageOptions(store: string, run: string): readonly string[] {
  return ['--root', store, '--runroot', run, '--storage-driver', 'vfs']
}

async function importInto(store: string, base: Base, name: string, epoch: number): Promise<void> {
  await withOwnFolder(join(cacheFolder, 'buildah'), async (scratch) => {
    const storage = storageOptions(store, join(scratch, 'run'))
    const tar = join(scratch, 'base.tar')
    await exportBase(base, tar, epoch)
    const container = (await run('buildah', [...storage, 'from', 'scratch'])).trim()
    await run('buildah', [...storage, 'add', container, tar, '/'])
    await run('buildah', [...storage, 'commit', '--quiet', `--timestamp=${epoch}`, container, name])
    await run('buildah', [...storage, 'rm', container])
  })
}

/** The image has one layer, which vfs keeps as the folder it is. */
async function expectBase(store: string, base: Base): Promise<void> {
  const [layer = '', ...others] = await readdir(join(store, 'vfs', 'dir'))
  const difference =
    layer === '' || others.length > 0
      ? `expected one layer, got ${others.length + (layer === '' ? 0 : 1)}`
      : firstLineThatDiffers(
          await readFile(listOf(base.folder), 'utf8'),
          await inventoryOf(join(store, 'vfs', 'dir', layer), 'listed'),
        )
  if (difference !== undefined) throw new ImageError(`base ${base.id}, as buildah imported it: ${difference}`)
}

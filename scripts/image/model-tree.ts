/** The tree of the model disk: the manifest and the files it lists, with modes and times that mean nothing. */
import { chmod, copyFile, mkdir, utimes } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { loadModelPackage } from '../../enclave/inference/package.js'

export async function copyModel(from: string, to: string, epoch: number): Promise<void> {
  const { manifest } = await loadModelPackage(from)
  const folders = new Set([to])
  for (const path of ['manifest.json', ...manifest.files.map((file) => file.path)]) {
    const target = join(to, path)
    await mkdir(dirname(target), { recursive: true })
    folders.add(dirname(target))
    await copyFile(join(from, path), target)
    await chmod(target, 0o444)
    await utimes(target, epoch, epoch)
  }
  for (const folder of folders) {
    await chmod(folder, 0o755)
    await utimes(folder, epoch, epoch)
  }
}

/** What is in an image, line by line: mode, size, SHA-256 and path of everything, so that two images can be read side by side. */
import { createHash } from 'node:crypto'
import { lstat, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** @throws Error on anything but folders and regular files: links and devices have no place in an image. */
export async function inventoryOf(folder: string): Promise<string> {
  return (await linesOf(folder, '')).map((line) => `${line}\n`).join('')
}

async function linesOf(folder: string, prefix: string): Promise<string[]> {
  const lines: string[] = []
  for (const name of (await readdir(join(folder, prefix))).sort()) {
    const path = `${prefix}/${name}`
    const info = await lstat(join(folder, path))
    const mode = (info.mode & 0o7777).toString(8).padStart(4, '0')
    if (info.isDirectory()) {
      lines.push(`${mode} ${'-'.repeat(10)} ${'-'.repeat(64)} ${path}/`, ...(await linesOf(folder, path)))
    } else if (info.isFile()) {
      const sha256 = createHash('sha256')
        .update(await readFile(join(folder, path)))
        .digest('hex')
      lines.push(`${mode} ${String(info.size).padStart(10)} ${sha256} ${path}`)
    } else {
      throw new Error(`${path}: expected a folder or a regular file`)
    }
  }
  return lines
}

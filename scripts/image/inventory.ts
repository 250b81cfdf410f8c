/** What is in an image, line by line: mode, size, SHA-256 and path of everything, so that two images can be read side by side. */
import { createHash } from 'node:crypto'
import { lstat, readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * @param links `listed`: with the SHA-256 of where they lead. @throws Error on anything else but folders and regular files: links and
 * devices have no place in an image.
 */
export async function inventoryOf(folder: string, links: 'refused' | 'listed' = 'refused'): Promise<string> {
  return (await linesOf(folder, '', links === 'listed')).map((line) => `${line}\n`).join('')
}

/** What differs first between two inventories, in words; lines are in order of path in both. Undefined when nothing does. */
export function firstLineThatDiffers(left: string, right: string): string | undefined {
  if (left === right) return undefined
  const [ours, theirs] = [left.split('\n'), right.split('\n')]
  const at = ours.findIndex((line, i) => line !== theirs[i])
  const [one, two] = [ours[at] ?? '', theirs[at] ?? '']
  const path = (line: string): string => line.slice(line.indexOf('/'))
  return path(one) === path(two)
    ? `${path(one)}: ${one.slice(0, one.indexOf('/')).trim()} and ${two.slice(0, two.indexOf('/')).trim()}`
    : `${path(one) || 'nothing'}, where the other has ${path(two) || 'nothing'}`
}

async function linesOf(folder: string, prefix: string, links: boolean): Promise<string[]> {
  const lines: string[] = []
  for (const name of (await readdir(join(folder, prefix))).sort()) {
    const path = `${prefix}/${name}`
    const info = await lstat(join(folder, path))
    const mode = (info.mode & 0o7777).toString(8).padStart(4, '0')
    if (info.isDirectory()) {
      lines.push(`${mode} ${'-'.repeat(10)} ${'-'.repeat(64)} ${path}/`, ...(await linesOf(folder, path, links)))
    } else if (info.isFile()) {
      lines.push(`${mode} ${String(info.size).padStart(10)} ${sha256(await readFile(join(folder, path)))} ${path}`)
    } else if (info.isSymbolicLink() && links) {
      lines.push(`link ${'-'.repeat(10)} ${sha256(await readlink(join(folder, path)))} ${path}`)
    } else {
      throw new Error(`${path}: expected a folder or a regular file`)
    }
  }
  return lines
}

function sha256(data: Uint8Array | string): string {
  return createHash('sha256').update(data).digest('hex')
}

/**
 * What an image may hold: the files of `files.txt` with the modes given there, and nothing else. A file that appears by itself,
 * in a new version of a package for instance, stops the build until someone has looked at it.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ImageError } from './command.js'
import { type Flavour, repository } from './places.js'

export const FILES_LIST: string = join(repository, 'scripts', 'image', 'files.txt')

/** What the GPU flavour has beside those: NVIDIA's modules, libraries and firmware, and what init starts for them. */
const GPU_FILES_LIST: string = join(repository, 'scripts', 'image', 'files-gpu.txt')

/** Only the test flavours have these beside the others. */
const TEST_ONLY = [
  '0755 /root/scripts/',
  '0755 /root/scripts/simulated/',
  '0444 /root/scripts/simulated/gpu-platform.mjs',
  '0444 /root/scripts/simulated/snp-platform.mjs',
  '0555 /root/app/probe',
]

/** Only the developer flavour, on Debian's kernel, has these. */
const MODULES = / \/initrd\/modules\//

/** Names by which something could be run, installed or traced. */
const FORBIDDEN =
  /\/(sh|ash|bash|dash|zsh|busybox|toybox|perl|python[\d.]*|apt[-a-z]*|dpkg[-a-z]*|npm|npx|sshd?|gdb|strace|su|sudo|mount|curl|wget)$/
const SPECIAL_MODE = /^[1-7]/
const WRITABLE = /[2367]/

/** @throws ImageError naming the first file that should not be there, that is missing, or whose mode is wrong. */
export async function expectListedFiles(inventory: string, flavour: Flavour): Promise<void> {
  const lines = async (file: string): Promise<readonly string[]> => (await readFile(file, 'utf8')).trim().split('\n')
  checkInventory(inventory, allowedFiles(await lines(FILES_LIST), await lines(GPU_FILES_LIST), flavour))
}

/** What of the list a flavour has, and what it has beside it. */
export function allowedFiles(
  listed: readonly string[],
  listedForGpus: readonly string[],
  flavour: Flavour,
): readonly string[] {
  if (flavour === 'developer') return listed
  const own = listed.filter((entry) => !MODULES.test(entry))
  const gpu = flavour === 'gpu' || flavour === 'gpu-test' ? listedForGpus : []
  const simulated = flavour === 'test' || flavour === 'gpu-test' ? TEST_ONLY : []
  return [...own, ...gpu, ...simulated]
}

export function checkInventory(inventory: string, allowed: readonly string[]): void {
  const found = inventory
    .trim()
    .split('\n')
    .map((line) => line.replace(/^(\d{4}) .* (\/.*)$/, '$1 $2'))
  for (const entry of found) {
    const problem = problemOf(entry)
    if (problem !== undefined) throw new ImageError(`image: ${entry}: ${problem}`)
    if (!allowed.includes(entry)) {
      throw new ImageError(`image: ${entry} is not in ${FILES_LIST}: look at it, and add the line if it belongs there`)
    }
  }
  const missing = allowed.find((entry) => !found.includes(entry))
  if (missing !== undefined)
    throw new ImageError(`image: expected ${missing}, as ${FILES_LIST} has it; it is not there`)
}

function problemOf(entry: string): string | undefined {
  const [mode = '', path = ''] = entry.split(' ')
  if (SPECIAL_MODE.test(mode)) return 'expected no setuid, setgid or sticky bit'
  if (!path.endsWith('/') && WRITABLE.test(mode)) return 'expected a file nobody may write'
  return FORBIDDEN.test(path) ? 'no shell, package manager or tool has a place in the image' : undefined
}

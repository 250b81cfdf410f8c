/**
 * Programs of the machine's own that a plain Debian lacks: buildah, which needs root as used here, and for the comparison of two
 * builds faketime.
 */
import { ImageError, run } from './command.js'

/** @throws ImageError saying what to do where buildah is not there and cannot be installed. */
export async function ensureTools(): Promise<void> {
  const root = process.getuid?.() === 0
  if (!root) {
    throw new ImageError('building the image takes root, for buildah’s chroot and an empty network: run it with sudo')
  }
  await ensureInstalled('buildah')
}

/** Path of a program whose package has its name, installed from Debian if it has to be. @throws ImageError when that fails. */
export async function ensureInstalled(name: 'buildah' | 'faketime'): Promise<string> {
  const find = async (): Promise<string> => (await run('sh', ['-c', 'command -v "$1" || true', 'sh', name])).trim()
  const found = await find()
  if (found !== '') return found
  process.stderr.write(`image: installing ${name} from Debian\n`)
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  await run('apt-get', ['update'], { env })
  await run('apt-get', ['install', '-y', '--no-install-recommends', name], { env })
  const installed = await find()
  if (installed === '') throw new ImageError(`${name}: expected it on the path after Debian's package was installed`)
  return installed
}

/** The one program of the machine's own that a build takes and a plain Debian lacks: buildah, which needs root as used here. */
import { ImageError, run } from './command.js'

const PACKAGE = 'buildah'

/** Installs it where that is possible. @throws ImageError saying what to do where it is not. */
export async function ensureTools(): Promise<void> {
  const root = process.getuid?.() === 0
  if (!root) {
    throw new ImageError('building the image takes root, for buildah’s chroot and an empty network: run it with sudo')
  }
  if ((await run('sh', ['-c', `command -v ${PACKAGE} || true`])).trim() !== '') return
  process.stderr.write(`image: installing ${PACKAGE} from Debian\n`)
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  await run('apt-get', ['update'], { env })
  await run('apt-get', ['install', '-y', '--no-install-recommends', PACKAGE], { env })
}

/**
 * `npm run image:check`: builds twice, the second time as somebody else would, and compares artifact by artifact. The second
 * build unpacks its own base, in another checkout, cache, umask, time zone, locale, host name and number of cores.
 */
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { ImageManifest } from './build.js'
import { run } from './command.js'
import { firstDifference } from './compare.js'
import { createLane } from './lane.js'
import { cacheFolder, type Flavour, repository } from './places.js'

interface Conditions {
  readonly checkout: string
  readonly cache: string
  readonly out: string
  readonly umask: string
  readonly env: Readonly<Record<string, string>>
  /** Words in front of the build: other cores, another host name, another clock. */
  readonly wrapper: readonly string[]
}

const DAYS_AHEAD = '+400d'

export async function checkLane(flavours: readonly Flavour[]): Promise<number> {
  const lane = createLane('image-check')
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-check-'))
  try {
    const first: Omit<Conditions, 'out'> = {
      checkout: repository,
      cache: cacheFolder,
      umask: '022',
      env: {},
      wrapper: [],
    }
    const second = await elsewhere(folder)
    for (const flavour of flavours) {
      const [one, two] = [join(folder, `${flavour}-one`), join(folder, `${flavour}-two`)]
      const built = await lane.check(`${flavour} image, built here`, () => build(flavour, { ...first, out: one }))
      const again =
        built &&
        (await lane.check(`${flavour} image, built elsewhere (${described(second)})`, () =>
          build(flavour, { ...second, out: two }),
        ))
      if (!again) continue
      await lane.check(`${flavour} image: both builds are identical`, async () => {
        const difference = await firstDifference(one, two)
        if (difference !== undefined) throw new Error(`expected identical builds; ${difference}`)
        return `\n${await listed(one)}`
      })
    }
    return lane.finish()
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function elsewhere(folder: string): Promise<Omit<Conditions, 'out'>> {
  const checkout = join(folder, 'a path that is longer', 'checkout')
  await copyCheckout(checkout)
  const cache = join(folder, 'cache', 'subrosa')
  await mkdir(cache, { recursive: true })
  // Downloads are what their hashes say; everything made from them is made again.
  for (const name of ['debs', 'npm']) await symlink(join(cacheFolder, name), join(cache, name))
  const faketime = (await run('sh', ['-c', 'command -v faketime || true'])).trim()
  return {
    checkout,
    cache,
    umask: '077',
    env: {
      TZ: 'Pacific/Kiritimati',
      LC_ALL: 'tr_TR.UTF-8',
      LANG: 'tr_TR.UTF-8',
      SOURCE_DATE_EPOCH: '1',
      XDG_CACHE_HOME: dirname(cache),
      TMPDIR: folder,
    },
    wrapper: [
      ...['taskset', '-c', '0', 'unshare', '--uts', 'sh', '-c', 'hostname elsewhere; exec "$@"', 'sh'],
      ...(faketime === '' ? [] : [faketime, '-f', DAYS_AHEAD]),
    ],
  }
}

function described({ wrapper }: Pick<Conditions, 'wrapper'>): string {
  const clock = wrapper.includes(DAYS_AHEAD)
    ? `, clock ${DAYS_AHEAD}`
    : ', clock as it went on: faketime is not installed'
  return `own base, umask 077, TZ, locale, path, host name, one core${clock}`
}

/** What version control knows or would take, so that nothing a build left behind comes along; and the compiled scripts. */
async function copyCheckout(to: string): Promise<void> {
  const list = await run('git', ['-C', repository, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'])
  for (const path of list.split('\0').filter((name) => name !== '' && existsSync(join(repository, name)))) {
    await mkdir(dirname(join(to, path)), { recursive: true })
    await cp(join(repository, path), join(to, path))
  }
  await cp(join(repository, 'dist'), join(to, 'dist'), { recursive: true })
  await symlink(join(repository, 'node_modules'), join(to, 'node_modules'))
}

async function build(flavour: Flavour, { checkout, out, umask, env, wrapper }: Conditions): Promise<string> {
  const script = join(checkout, 'dist', 'scripts', 'image.js')
  const words = [process.execPath, script, 'build', '--flavour', flavour, '--out', out]
  await run('sh', ['-c', `umask ${umask}; exec "$@"`, 'sh', ...wrapper, ...words], { cwd: checkout, env })
  return ''
}

async function listed(folder: string): Promise<string> {
  const { artifacts } = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as ImageManifest
  return artifacts
    .map(({ name, bytes, sha256 }) => `      ${name.padEnd(16)}${String(bytes).padStart(11)}  ${sha256}`)
    .join('\n')
}

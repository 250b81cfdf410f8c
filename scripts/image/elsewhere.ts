/**
 * Two sets of conditions to build under: here, as one does, and as somebody else would: another checkout, umask, time zone,
 * locale, host name, number of cores and clock. All of that is for the scripts and the tools they start. Of it the steps inside the
 * recipe (RUN) see the number of cores, and with `clockInside` the clock: buildah's chroot has its own environment and umask.
 */
import { existsSync } from 'node:fs'
import { copyFile, cp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { ImageError, run } from './command.js'
import { cacheFolder, repository } from './places.js'
import { ensureInstalled } from './tools.js'

export interface Conditions {
  readonly checkout: string
  readonly cache: string
  readonly umask: string
  readonly env: Readonly<Record<string, string>>
  /** Words in front of the build: other cores, another host name, another clock. */
  readonly wrapper: readonly string[]
}

const DAYS_AHEAD = '+400d'

export function here(): Conditions {
  return { checkout: repository, cache: cacheFolder, umask: '022', env: {}, wrapper: [] }
}

/** @param keep folders of the cache that both share: downloads are what their hashes say, the rest is made again. */
export async function elsewhere(folder: string, keep: readonly string[]): Promise<Conditions> {
  // Not only where it happens to be there: a comparison under the same clock would say less than its name does.
  const faketime = await ensureInstalled('faketime')
  const checkout = join(folder, 'a path that is longer', 'checkout')
  await copyCheckout(checkout)
  const cache = join(folder, 'cache', 'subrosa')
  await mkdir(cache, { recursive: true })
  for (const name of keep) await mkdir(join(cacheFolder, name), { recursive: true })
  for (const name of keep) await symlink(join(cacheFolder, name), join(cache, name))
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
      ...[faketime, '-f', DAYS_AHEAD],
    ],
  }
}

/** What differs in them, for the name of a check. */
export const CONDITIONS_ELSEWHERE: string = `own base, path, one core; outside of the recipe’s steps also umask 077, TZ, locale, host name, clock ${DAYS_AHEAD}`

/**
 * The same conditions with their clock inside the recipe's steps too: its library is mounted there, from outside of the recipe, as
 * what containers.conf(5) has every build mount. @param folder for what is mounted.
 */
export async function clockInside(conditions: Conditions, folder: string): Promise<Conditions> {
  const faketime = await ensureInstalled('faketime')
  // Where it is, the loader knows: LD_PRELOAD names it with a part that depends on the machine.
  const library = /\/\S+\/libfaketime\S+$/m.exec(await run(faketime, ['-f', DAYS_AHEAD, 'cat', '/proc/self/maps']))?.[0]
  if (library === undefined) throw new ImageError('faketime: expected programs under it to have its library loaded')
  const mounted = join(folder, 'clock')
  await mkdir(mounted)
  await copyFile(library, join(mounted, 'library.so'))
  await writeFile(join(mounted, 'preload'), '/clock/library.so\n')
  await writeFile(join(mounted, 'rc'), `${DAYS_AHEAD}\n`)
  const volumes = [
    [mounted, '/clock'],
    [join(mounted, 'preload'), '/etc/ld.so.preload'],
    [join(mounted, 'rc'), '/etc/faketimerc'],
  ]
  const conf = join(folder, 'containers.conf')
  await writeFile(conf, `[containers]\nvolumes = ${JSON.stringify(volumes.map(([from, to]) => `${from}:${to}:ro`))}\n`)
  return { ...conditions, env: { ...conditions.env, CONTAINERS_CONF: conf } }
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

/** Runs `image COMMAND…` of the checkout under the conditions. */
export async function runUnder(
  { checkout, umask, env, wrapper }: Conditions,
  command: readonly string[],
  timeoutMs: number,
): Promise<void> {
  const words = [process.execPath, join(checkout, 'dist', 'scripts', 'image.js'), ...command]
  await run('sh', ['-c', `umask ${umask}; exec "$@"`, 'sh', ...wrapper, ...words], {
    cwd: checkout,
    env,
    timeoutMs,
    echo: true,
  })
}

/**
 * Debian packages, through the machine's own apt: its archive address, its proxy, its client. A package is what its SHA-256
 * says; where it came from does not matter, so the address may be overridden, for instance by a dated archive's.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { ImageError, run } from './command.js'
import type { LockedDeb } from './lock.js'
import { cacheFolder } from './places.js'
import { createProgress } from './progress.js'

const SOURCES = '/etc/apt'
const DOWNLOADER = '/usr/lib/apt/apt-helper'
/** Downloads in one call of apt's own client. */
const BATCH = 16

/** Base address of the Debian archive. @throws ImageError when the machine's apt names none. */
export async function archiveAddress(): Promise<string> {
  const given = process.env['SUBROSA_DEBIAN_ARCHIVE']
  if (given !== undefined) return given.replace(/\/+$/, '')
  const parts = await readdir(join(SOURCES, 'sources.list.d')).catch(() => [])
  const files = [...parts.map((name) => join(SOURCES, 'sources.list.d', name)), join(SOURCES, 'sources.list')]
  for (const file of files) {
    const text = await readFile(file, 'utf8').catch(() => '')
    // Either form of apt's sources; the archive proper is the one whose address ends in /debian.
    const found = /^(?:URIs:|deb(?:\s+\[[^\]]*\])?)\s+(\S+\/debian)\/?(?:\s|$)/m.exec(text)?.[1]
    if (found !== undefined) return found
  }
  throw new ImageError(
    `no Debian archive in ${SOURCES}: expected one whose address ends in /debian; name one in SUBROSA_DEBIAN_ARCHIVE`,
  )
}

/** The packages as local files, in the same order; downloaded unless at hand. */
export async function fetchDebs(debs: readonly LockedDeb[]): Promise<readonly string[]> {
  const folder = join(cacheFolder, 'debs')
  await mkdir(folder, { recursive: true })
  const fileOf = ({ sha256 }: LockedDeb) => join(folder, `${sha256}.deb`)
  const missing = debs.filter((deb) => !existsSync(fileOf(deb)))
  if (missing.length > 0) {
    const archive = await archiveAddress()
    const mebibytes = Math.ceil(missing.reduce((sum, { size }) => sum + size, 0) / 2 ** 20)
    const progress = createProgress(`downloading ${missing.length} Debian packages, ${mebibytes} MiB`, missing.length)
    try {
      for (let at = 0; at < missing.length; at += BATCH) {
        const batch = missing.slice(at, at + BATCH)
        await download(batch, archive, fileOf)
        for (const _ of batch) progress.step()
      }
    } finally {
      progress.end()
    }
  }
  // A cache is a disk: what is in it is checked each time it is used.
  for (const deb of debs) await expectDigest(fileOf(deb), deb)
  return debs.map(fileOf)
}

async function download(
  debs: readonly LockedDeb[],
  archive: string,
  fileOf: (deb: LockedDeb) => string,
): Promise<void> {
  // A folder for this call alone: another build may fetch the same at the same time.
  const scratch = await mkdtemp(join(cacheFolder, 'debs', 'part-'))
  const partOf = ({ sha256 }: LockedDeb): string => join(scratch, sha256)
  try {
    const words = (deb: LockedDeb) => [`${archive}/${deb.path}`, partOf(deb), `SHA256:${deb.sha256}`]
    await run(DOWNLOADER, ['download-file', ...debs.flatMap(words)]).catch(async () => {
      // One by one, to say which: a batch fails as a whole.
      for (const deb of debs) {
        await run(DOWNLOADER, ['download-file', ...words(deb)]).catch((cause: unknown) => {
          throw new ImageError(
            `${deb.name} ${deb.version} is not served any more, or not as the lock has it (SHA-256 ${deb.sha256}): ` +
              'point SUBROSA_DEBIAN_ARCHIVE at a dated archive, or write a new lock with npm run image -- lock',
            { cause },
          )
        })
      }
    })
    for (const deb of debs) {
      await expectDigest(partOf(deb), deb)
      await rename(partOf(deb), fileOf(deb))
    }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

async function expectDigest(file: string, { name, version, sha256 }: LockedDeb): Promise<void> {
  const actual = createHash('sha256')
    .update(await readFile(file))
    .digest('hex')
  if (actual === sha256) return
  await rm(file, { force: true })
  throw new ImageError(
    `${name} ${version}: expected SHA-256 ${sha256}, got ${actual}; the file was removed, run it again`,
  )
}

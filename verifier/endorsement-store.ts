/**
 * The on-disk store of fetched endorsements: one file each, named by the SHA-256 of its address, under the user's cache
 * folder. Written whole or not at all. A store that cannot be read or written is as good as empty. Node only.
 */
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { EndorsementStore } from './endorsement-fetch.js'
import { type Bytes, toBytes, toHex, utf8 } from './protocol/bytes.js'
import { sha256 } from './protocol/hash.js'

/** `$SUBROSA_CACHE`, or `subrosa` in `$XDG_CACHE_HOME` or `~/.cache`. */
export function defaultStoreFolder(environment: Readonly<Record<string, string | undefined>>): string {
  const { SUBROSA_CACHE: own, XDG_CACHE_HOME: shared } = environment
  if (own !== undefined && own !== '') return own
  return join(shared !== undefined && shared !== '' ? shared : join(homedir(), '.cache'), 'subrosa')
}

export function createEndorsementStore(folder: string, now: () => Date): EndorsementStore {
  const fileOf = (key: string): string => join(folder, toHex(sha256(utf8(key))))
  return {
    async load(key, maxAgeMs) {
      try {
        const file = fileOf(key)
        const { mtimeMs } = await stat(file)
        if (now().getTime() - mtimeMs > maxAgeMs) return undefined
        return toBytes(new Uint8Array(await readFile(file)))
      } catch {
        return undefined
      }
    },
    async save(key, bytes: Bytes) {
      try {
        await mkdir(folder, { recursive: true, mode: 0o700 })
        const file = fileOf(key)
        const unfinished = `${file}.${process.pid}.${Math.random().toString(36).slice(2)}`
        await writeFile(unfinished, bytes, { mode: 0o600 })
        await rename(unfinished, file)
      } catch {
        // The endorsement is at hand all the same.
      }
    },
  }
}

/** What `releases/` holds: signed by its own keys, whole, and word for word what the verifier ships. */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { readLog } from '../../scripts/release/log.js'
import { Transcript } from '../../verifier/checks.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { utf8 } from '../../verifier/protocol/bytes.js'
import { releaseChecks } from '../../verifier/release/checks.js'
import { parseReleaseIndex } from '../../verifier/release/manifest.js'
import { isNoteSignedBy, parseNoteKey } from '../../verifier/release/note.js'
import { SHIPPED_INDEX, SHIPPED_LOG_KEY, SHIPPED_RELEASE_KEY } from '../../verifier/release/shipped.js'
import { checkRelease } from '../../verifier/release/verify.js'

const folder = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'releases')
const read = (name: string) => readFileSync(join(folder, name), 'utf8')

describe('releases/', () => {
  it('is what the verifier ships', () => {
    expect(read('index.note')).toBe(SHIPPED_INDEX)
    expect(read('release-key.txt').trim()).toBe(SHIPPED_RELEASE_KEY)
    expect(read('log-key.txt').trim()).toBe(SHIPPED_LOG_KEY)
  })

  it('has an index signed by the release key', async () => {
    const { note, document } = parseReleaseIndex(utf8(SHIPPED_INDEX))
    expect(await isNoteSignedBy(note, parseNoteKey(SHIPPED_RELEASE_KEY))).toBe(true)
    expect(document.denied).toEqual([])
  })

  it('has a log that is whole, and every manifest beside it in the log', async () => {
    expect(await readLog(join(folder, 'log'), parseNoteKey(SHIPPED_LOG_KEY))).toEqual([])
  })
})

describe('the shipped index', () => {
  async function statusOfIndex(key: string): Promise<string | undefined> {
    const t = new Transcript(releaseChecks('none'))
    const policy = { keys: [parseNoteKey(key)], minVersion: undefined, log: 'unlogged' } as const
    await checkRelease(t, { policy, measurements: {}, pool: sortEndorsements([]) })
    return t.checks().find(({ id }) => id === 'release.index')?.status
  }

  it('is at hand for releases of its publisher, and for nobody else’s', async () => {
    expect(await statusOfIndex(SHIPPED_RELEASE_KEY)).toBe('pass')
    expect(await statusOfIndex(SHIPPED_LOG_KEY)).toBe('skip')
  })
})

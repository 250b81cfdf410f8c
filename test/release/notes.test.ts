/** Signed notes, checkpoints, proofs and manifests: the formats, and that hostile text is refused and nothing else happens. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cosign, createSigningKey, encodePrivateKey, parsePrivateKey, signNote } from '../../scripts/release/keys.js'
import { appendEntry, createLog, proveEntry, readLog, tilePath } from '../../scripts/release/log.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { fromHex, fromUtf8, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { leafHash, verifyInclusion } from '../../verifier/protocol/merkle.js'
import { parseCheckpoint, parseTlogProof } from '../../verifier/release/log.js'
import {
  isOlder,
  parseReleaseIndex,
  parseReleaseManifest,
  type ReleaseManifest,
  releaseText,
} from '../../verifier/release/manifest.js'
import { cosignedAt, isNoteSignedBy, parseNote, parseNoteKey } from '../../verifier/release/note.js'
import { BASE, LOG_KEY, makeRelease, OTHER_KEY, RELEASE_KEY, WITNESSES } from './release-world.js'

const LAUNCH = { launch: [{ platform: 'snp', digest: 'ab'.repeat(48) }], models: [] } as const

describe('keys', () => {
  it('reads the key of the format’s own example', () => {
    // The verifier key in the documentation of Go's sumdb/note package, whose format C2SP took over.
    const key = parseNoteKey('PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW')
    expect([key.name, key.type, toHex(key.hash)]).toEqual(['PeterNeumann', 'note', 'c74f20a3'])
  })

  it('verifies the signature of that example', async () => {
    const key = parseNoteKey('PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW')
    const text =
      "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n" +
      '\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n'
    expect(await isNoteSignedBy(parseNote(utf8(text)), key)).toBe(true)
    expect(await isNoteSignedBy(parseNote(utf8(text.replace('answer', 'anwser'))), key)).toBe(false)
  })

  it('refuses a hash that is not the key’s, other algorithms, and junk', () => {
    const [name, hash, key] = RELEASE_KEY.text.split('+')
    for (const text of [`${name}+00000000+${key}`, `${name}+${hash}+AAAA`, `${name}`, `a b+${hash}+${key}`, '']) {
      expect(() => parseNoteKey(text)).toThrow(FormatError)
    }
  })

  it('private keys survive being written', () => {
    for (const key of [RELEASE_KEY, WITNESSES[0]!]) {
      expect(parsePrivateKey(encodePrivateKey(key)).text).toBe(key.text)
    }
    expect(() => parsePrivateKey(RELEASE_KEY.text)).toThrow(/expected PRIVATE/)
  })
})

describe('notes', () => {
  const note = parseNote(utf8(signNote('one\n\ntwo\n', RELEASE_KEY)))

  it('are signed by their key and by no other of its name', async () => {
    expect(await isNoteSignedBy(note, RELEASE_KEY.public)).toBe(true)
    expect(await isNoteSignedBy(note, OTHER_KEY.public)).toBe(false)
    expect(await isNoteSignedBy(note, { ...OTHER_KEY.public, hash: RELEASE_KEY.public.hash })).toBe(false)
  })

  it('may have several signatures, each by its key', async () => {
    const text = parseNote(utf8(signNote('text\n', RELEASE_KEY, LOG_KEY)))
    expect(text.signatures).toHaveLength(2)
    for (const key of [RELEASE_KEY, LOG_KEY]) expect(await isNoteSignedBy(text, key.public)).toBe(true)
  })

  it.each([
    ['no signature', 'text\n'],
    ['no line feed at the end', signNote('text\n', RELEASE_KEY).slice(0, -1)],
    ['a control character', signNote('te\u0007xt\n', RELEASE_KEY)],
    ['a tab', signNote('te\txt\n', RELEASE_KEY)],
    ['a line that is no signature', `${signNote('text\n', RELEASE_KEY)}hello\n`],
    ['two signatures of one key', `${signNote('text\n', RELEASE_KEY)}${signNote('text\n', RELEASE_KEY).slice(6)}`],
  ])('%s is refused', (_name, text) => {
    expect(() => parseNote(utf8(text))).toThrow(FormatError)
  })

  it('cosignatures cover the time and the checkpoint', async () => {
    const [witness, other] = WITNESSES
    const text = cosign(signNote('log.example\n1\nAAAA\n', LOG_KEY), witness!, 1_780_000_000)
    expect(await cosignedAt(parseNote(utf8(text)), witness!.public)).toBe(1_780_000_000)
    expect(await cosignedAt(parseNote(utf8(text)), other!.public)).toBeUndefined()
    expect(await isNoteSignedBy(parseNote(utf8(text)), LOG_KEY.public)).toBe(true)
    // A key of another type never passes for a witness, nor a witness for a signer of notes.
    expect(await isNoteSignedBy(parseNote(utf8(text)), { ...witness!.public, type: 'note' })).toBe(false)
    const moved = text.replace('\n1\n', '\n2\n')
    expect(await cosignedAt(parseNote(utf8(moved)), witness!.public)).toBeUndefined()
  })

  it('any text is read or refused by a FormatError', () => {
    const readers = [parseNote, parseCheckpoint, parseTlogProof, parseReleaseManifest, parseReleaseIndex]
    const files = makeRelease(LAUNCH).map(({ bytes }) => fromUtf8(bytes))
    const edited = fc
      .tuple(fc.constantFrom(...files), fc.nat(), fc.nat(3), fc.string({ maxLength: 4 }))
      .map(([text, at, cut, put]) => text.slice(0, at % text.length) + put + text.slice((at % text.length) + cut))
    fc.assert(
      fc.property(fc.oneof(edited, fc.string()), (text) => {
        for (const read of readers) {
          try {
            read(utf8(text))
          } catch (error) {
            expect(error).toBeInstanceOf(FormatError)
          }
        }
      }),
      { numRuns: 1500 },
    )
  })
})

describe('documents', () => {
  it('are told apart by content', () => {
    expect(sortEndorsements(makeRelease(LAUNCH)).documents.map(({ kind }) => kind)).toEqual([
      'release',
      'release-index',
      'tlog-proof',
    ])
  })

  const signed = (text: string) => utf8(signNote(text, RELEASE_KEY))
  const whole = releaseText({ ...BASE, ...LAUNCH })
  it.each<[string, string]>([
    ['a member twice', whole.replace('"version"', '"version": "9.9.9",\n  "version"')],
    ['an unknown member', whole.replace('"version"', '"vers": "1.0.0",\n  "version"')],
    ['another layout', JSON.stringify(JSON.parse(whole))],
    ['another schema', whole.replace('subrosa-release/1', 'subrosa-release/2')],
    ['a digest of zeros', whole.replace('ab'.repeat(48), '00'.repeat(48))],
    ['a date that does not exist', whole.replace('2026-05-20', '2026-13-01')],
    ['a day that does not exist', whole.replace('2026-05-20', '2026-02-30')],
    ['a schema that comes later', whole.replace(/( {2}"schema": [^\n]*\n)( {2}"version": [^\n]*\n)/, '$2$1')],
    ['no launch', whole.replace(/"launch": \[[^\]]*\]/, '"launch": []')],
    ['a version that is none', whole.replace('0.3.1', '0.3')],
  ])('%s is refused', (_name, text) => {
    expect(text).not.toBe(whole)
    expect(() => parseReleaseManifest(signed(text))).toThrow(FormatError)
  })

  it('none is signed that readers would not know for one', () => {
    const { schema, ...rest } = JSON.parse(whole) as ReleaseManifest
    expect(() => releaseText({ ...rest, schema })).toThrow(/schema as the first member/)
  })

  it('versions are compared as numbers', () => {
    expect(isOlder('0.9.0', '0.10.0')).toBe(true)
    expect(isOlder('0.10.0', '0.9.0')).toBe(false)
    expect(isOlder('1.0.0', '1.0.0')).toBe(false)
    expect(isOlder('1.2.3', '1.2.4')).toBe(true)
  })
})

describe('the log writer', () => {
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'subrosa-log-'))
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  it('appends, proves every entry, and writes tiles that hold', async () => {
    const log = join(folder, 'a')
    await createLog(log, LOG_KEY)
    expect(await readLog(log, LOG_KEY.public)).toEqual([])
    const entries = Array.from({ length: 300 }, (_, i) => utf8(`entry ${i}`))
    for (const [i, entry] of entries.entries()) expect(await appendEntry(log, entry, LOG_KEY)).toBe(i)
    expect(await appendEntry(log, entries[7]!, LOG_KEY)).toBe(7)
    for (const i of [0, 1, 255, 256, 299]) {
      const { inclusion, checkpoint } = parseTlogProof(await proveEntry(log, entries[i]!, LOG_KEY.public))
      expect(await isNoteSignedBy(checkpoint.note, LOG_KEY.public)).toBe(true)
      expect(verifyInclusion(entries[i]!, inclusion, checkpoint.root)).toBe(true)
      expect(verifyInclusion(utf8('another'), inclusion, checkpoint.root)).toBe(false)
    }
    const full = await readFile(join(log, 'tile/0/000'))
    expect(full.length).toBe(256 * 32)
    expect(full.subarray(32, 64).equals(leafHash(entries[1]!))).toBe(true)
    expect((await readFile(join(log, 'tile/0/001.p/44'))).length).toBe(44 * 32)
    expect((await readFile(join(log, 'tile/1/000.p/1'))).length).toBe(32)
    expect(await readdir(join(log, 'tile'))).toEqual(['0', '1', 'entries'])
  })

  it('names tiles as the format does', () => {
    expect(tilePath('0', 1234067, 256)).toBe('tile/0/x001/x234/067')
    expect(tilePath('entries', 0, 3)).toBe('tile/entries/000.p/3')
  })

  it('lets one writer in at a time, so that no two trees of one size are signed', async () => {
    const log = join(folder, 'c')
    await createLog(log, LOG_KEY)
    const done = await Promise.allSettled(['one', 'two', 'three'].map((text) => appendEntry(log, utf8(text), LOG_KEY)))
    const fulfilled = done.filter(({ status }) => status === 'fulfilled')
    expect(fulfilled).toHaveLength(1)
    expect(await readLog(log, LOG_KEY.public)).toHaveLength(1)
    await appendEntry(log, utf8('four'), LOG_KEY)
    expect(await readLog(log, LOG_KEY.public)).toHaveLength(2)
    await writeFile(join(log, '.writing'), '')
    await expect(appendEntry(log, utf8('five'), LOG_KEY)).rejects.toThrow(/somebody is writing/)
  })

  it('refuses to go on from a log that was altered, or is another’s', async () => {
    const log = join(folder, 'b')
    await createLog(log, LOG_KEY)
    await appendEntry(log, utf8('one'), LOG_KEY)
    await expect(createLog(log, LOG_KEY)).rejects.toThrow()
    await expect(appendEntry(log, utf8('two'), createSigningKey('test.example/log'))).rejects.toThrow(/not signed by/)
    const bundle = join(log, 'tile/entries/000.p/1')
    const bytes = await readFile(bundle)
    await writeFile(bundle, Buffer.concat([bytes.subarray(0, 2), Buffer.from('two')]))
    await expect(appendEntry(log, utf8('three'), LOG_KEY)).rejects.toThrow(/not those of the checkpoint/)
  })
})

it('an empty log has the hash of nothing for its root', () => {
  const text = signNote(
    `test.example/log\n0\n${Buffer.from(fromHex('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')).toString('base64')}\n`,
    LOG_KEY,
  )
  expect(parseCheckpoint(utf8(text))).toMatchObject({ origin: 'test.example/log', size: 0 })
})

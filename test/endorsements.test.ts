/** Endorsements from anybody: nothing small may unfold into something large. */
import { describe, expect, it } from 'vitest'
import { buildCertificateTable } from '../scripts/simulated/certificate-table.js'
import { sortEndorsements } from '../verifier/endorsements.js'
import { type Bytes, toBytes, utf8 } from '../verifier/protocol/bytes.js'

describe('sorting endorsements', () => {
  it('does not follow certificate tables inside certificate tables', () => {
    let table: Bytes = toBytes(new Uint8Array(10).fill(1))
    for (let level = 0; level < 12; level++) {
      const blob = table
      table = toBytes(
        buildCertificateTable((['vcek', 'vlek', 'ask', 'ark'] as const).map((guid) => ({ guid, blob }))).slice(
          0,
          200_000,
        ),
      )
    }
    const pool = sortEndorsements([{ name: 'hostile', bytes: table }])
    expect(pool.unrecognised.length).toBeLessThan(100)
  })

  it('opens a table whose entries are all of its bytes not even once', () => {
    const blob = new Uint8Array(1000).fill(1)
    const all = { guid: 'vcek', blob: new Uint8Array(), statedOffset: 24 * 65, statedLength: blob.length }
    const table = buildCertificateTable([...Array.from({ length: 63 }, () => all), { guid: 'vcek', blob }])
    const { unrecognised } = sortEndorsements([{ name: 'hostile', bytes: table }])
    expect(unrecognised).toMatchObject([{ name: 'hostile', reason: expect.stringMatching(/share bytes/) }])
  })

  const blocks = (count: number) =>
    utf8(Array.from({ length: count }, (_, i) => `-----BEGIN X-----\n${btoa(`${i}`)}\n-----END X-----\n`).join(''))

  it('opens as many parts as the files handed over are worth, and lists what it did not open', () => {
    const parts = (files: number, each: number) =>
      sortEndorsements(Array.from({ length: files }, (_, i) => ({ name: `${i}`, bytes: blocks(each) }))).unrecognised
    expect(parts(1, 256)).toHaveLength(256)
    // 256, and 16 for each of the files.
    const opened = parts(20, 200).filter(({ name }) => name.includes('('))
    expect(opened).toHaveLength(256 + 16 * 20)
    expect(parts(20, 200).filter(({ reason }) => /more parts/.test(reason))).toHaveLength(20 - 2)
  })
})

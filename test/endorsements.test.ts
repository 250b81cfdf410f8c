/** Endorsements from anybody: nothing small may unfold into something large. */
import { describe, expect, it } from 'vitest'
import { buildCertificateTable } from '../scripts/simulated/certificate-table.js'
import { sortEndorsements } from '../verifier/endorsements.js'
import { type Bytes, toBytes } from '../verifier/protocol/bytes.js'

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
})

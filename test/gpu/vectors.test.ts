/** Every captured NVIDIA case reaches the expected verdict for the expected reason. Skipped, by name, without the evidence. */
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { readDeviceFields } from '../../verifier/gpu/device-fields.js'
import { MIN_SVN_VALUE, OPAQUE, parseOpaqueData } from '../../verifier/gpu/opaque.js'
import { tally } from '../support/tally.js'
import { vectorsFolder, withoutVectors } from '../support/vectors.js'
import { readCases, runCase } from './cases.js'

const cases = readCases()

describe.skipIf(withoutVectors)('captured NVIDIA evidence (skipped without SUBROSA_VECTORS)', () => {
  const vectors = vectorsFolder ?? ''
  const folder = `${vectors}/nvidia`
  const counted = tally('nvidia.library', cases.length)

  it.each(cases)(
    '%s',
    counted(async (_name, c) => {
      const { verdict, firstFailing, checks, findings } = await runCase(vectors, c)
      const wrong = checks.filter((check) => check.status === 'fail')
      expect({ verdict, firstFailing, wrong }).toMatchObject({ verdict: c.verdict, firstFailing: c.firstFailing })
      const [first] = findings?.devices ?? []
      if (c.mismatched !== undefined) expect(first?.measurements?.mismatched).toEqual(c.mismatched)
      if (c.matched !== undefined) expect(first?.measurements?.matched).toHaveLength(c.matched)
    }),
  )

  it('has every case of cases.json', () => {
    const { cases: published } = JSON.parse(readFileSync(`${folder}/cases.json`, 'utf8')) as { cases: { id: string }[] }
    const named = new Set(cases.map(([name]) => name))
    expect(published.map(({ id }) => `nvidia/${id}`).filter((name) => !named.has(name))).toEqual([])
  })

  it('uses every file of evidence and every manifest', () => {
    const used = cases.flatMap(([, c]) => [
      ...(c.gpus ?? []),
      ...(c.switches ?? []),
      ...c.endorsements,
      c.rim ?? '',
      c.nras ?? '',
    ])
    const files = (readdirSync(folder, { recursive: true }) as string[]).filter(
      (path) => /\.(xml|bin|json|pem)$/.test(path) && !/^(roots|opaque)\//.test(path) && path !== 'cases.json',
    )
    expect(
      files.filter(
        (path) => !used.some((name) => `nvidia/${path}` === name || `nvidia/${path}`.startsWith(`${name}/`)),
      ),
    ).toEqual([])
  })

  it('reads the versioned opaque data of driver 620.12', () => {
    const bytes = new Uint8Array(readFileSync(`${folder}/opaque/nvdaod-v2-driver-620-12.bin`))
    const opaque = parseOpaqueData(bytes)
    expect(opaque).toMatchObject({ layout: 'versioned', version: 2 })
    expect(opaque.fields.get(37)).toEqual({ value: new Uint8Array(2), valueType: MIN_SVN_VALUE })
    expect(opaque.fields.get(OPAQUE.fwid)?.value).toHaveLength(48)
    expect(readDeviceFields(opaque, 'gpu')).toMatchObject({
      architecture: 'HOPPER',
      driver: '620.12',
      nvdec0Status: 0xaa,
      chip: undefined,
    })
  })
})

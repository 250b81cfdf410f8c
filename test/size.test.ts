/**
 * What a browser loads, and when: a client of workers without GPUs at most 150 kB gzipped, and the GPU verifier, which adds
 * at most 60 kB, only where evidence has GPUs. `size-limit` holds the same as one file; here it is the files that a bundler
 * makes of the dynamic imports, with whatever they share counted where it is first needed.
 */
import { gzipSync } from 'node:zlib'
import { type BuildOptions, build, type Metafile } from 'esbuild'
import { beforeAll, describe, expect, it } from 'vitest'

const GPU = /\/(gpu\/[a-z-]+|appraise-gpu)\.js$/

const BROWSER = {
  bundle: true,
  minify: true,
  format: 'esm',
  platform: 'browser',
  write: false,
  logLevel: 'silent',
} as const satisfies BuildOptions

/** Gzipped size of the verifier as one browser bundle, with the files that match left out. */
async function bundledBytes(without?: RegExp): Promise<number> {
  const { outputFiles } = await build({
    ...BROWSER,
    entryPoints: ['verifier/index.ts'],
    plugins: [
      {
        name: 'leave out',
        setup: ({ onResolve }) => {
          if (without !== undefined) onResolve({ filter: without }, ({ path }) => ({ path, external: true }))
        },
      },
    ],
  })
  return gzipSync(outputFiles[0]?.contents ?? new Uint8Array()).length
}

it('the GPU verifier adds at most 60 kB gzipped', async () => {
  const added = (await bundledBytes()) - (await bundledBytes(GPU))
  console.log(`the GPU verifier adds ${(added / 1000).toFixed(1)} kB gzipped`)
  expect(added).toBeGreaterThan(5_000)
  expect(added).toBeLessThanOrEqual(60_000)
})

describe('the client in files', () => {
  let outputs: Metafile['outputs']
  const gzipped = new Map<string, number>()
  beforeAll(async () => {
    const { metafile, outputFiles } = await build({
      ...BROWSER,
      entryPoints: ['client/index.ts'],
      splitting: true,
      metafile: true,
      outdir: '.',
    })
    outputs = metafile.outputs
    const names = Object.keys(outputs)
    for (const { path, contents } of outputFiles) {
      const name = names.find((output) => path.endsWith(`/${output}`))
      if (name !== undefined) gzipped.set(name, gzipSync(contents).length)
    }
    expect(gzipped.size).toBe(names.length)
  })

  /** The file made of this source file, and every file that one imports before it runs. */
  function loadedFor(source: string): Set<string> {
    const entry = Object.keys(outputs).find((name) => outputs[name]?.entryPoint === source)
    if (entry === undefined) throw new Error(`${source} is no file of its own`)
    const loaded = new Set<string>()
    const queue = [entry]
    for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
      if (loaded.has(name)) continue
      loaded.add(name)
      const imports = outputs[name]?.imports ?? []
      queue.push(...imports.filter(({ kind }) => kind === 'import-statement').map(({ path }) => path))
    }
    return loaded
  }

  const loadedWith = (...sources: readonly string[]) => new Set(sources.flatMap((source) => [...loadedFor(source)]))
  const sourcesIn = (files: Set<string>) => [...files].flatMap((name) => Object.keys(outputs[name]?.inputs ?? {}))
  const sizeOf = (files: Set<string>) => [...files].reduce((sum, name) => sum + (gzipped.get(name) ?? 0), 0)

  const CPU = ['client/index.ts', 'verifier/cpu-snp.ts', 'verifier/cpu-tdx.ts']

  it('is at most 150 kB gzipped with SNP and TDX verification', () => {
    const files = loadedWith(...CPU)
    const withReleases = loadedWith(...CPU, 'verifier/release/verify.ts')
    console.log(`the client with SNP and TDX: ${(sizeOf(files) / 1000).toFixed(1)} kB gzipped`)
    console.log(`… and with releases: ${(sizeOf(withReleases) / 1000).toFixed(1)} kB gzipped`)
    expect(sizeOf(files)).toBeGreaterThan(50_000)
    expect(sizeOf(files)).toBeLessThanOrEqual(150_000)
    expect(sourcesIn(files)).toEqual(expect.arrayContaining(['verifier/snp/verify.ts', 'verifier/tdx/verify.ts']))
  })

  it('has of the GPU verifier only what tells its evidence and its policy apart', () => {
    const gpu = sourcesIn(loadedWith(...CPU)).filter((path) => path.startsWith('verifier/gpu/'))
    expect(gpu.sort()).toEqual([
      'verifier/gpu/evidence.ts',
      'verifier/gpu/nras-keys.ts',
      'verifier/gpu/policy.ts',
      'verifier/gpu/spdm.ts',
    ])
    expect(sourcesIn(loadedFor('verifier/gpu/verify.ts'))).toContain('verifier/gpu/chain.ts')
  })

  it('has a vendor’s verifier only where evidence of that vendor was met', () => {
    const before = sourcesIn(loadedFor('client/index.ts'))
    expect(before).toContain('client/session.ts')
    for (const verifier of ['verifier/snp/verify.ts', 'verifier/tdx/verify.ts', 'verifier/release/verify.ts']) {
      expect(before).not.toContain(verifier)
    }
    expect(sourcesIn(loadedFor('verifier/cpu-snp.ts'))).not.toContain('verifier/tdx/verify.ts')
    expect(sourcesIn(loadedFor('verifier/cpu-tdx.ts'))).not.toContain('verifier/snp/verify.ts')
  })
})

it('one name of the client brings in what it stands on and no more', async () => {
  const { outputFiles } = await build({
    ...BROWSER,
    stdin: { contents: "import { PolicyError } from './client/index.ts'\nconsole.log(PolicyError)", resolveDir: '.' },
  })
  const size = gzipSync(outputFiles[0]?.contents ?? new Uint8Array()).length
  console.log(`the client's errors alone: ${size} bytes gzipped`)
  expect(size).toBeLessThan(2_000)
})

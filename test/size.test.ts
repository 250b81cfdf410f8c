/** What the GPU verifier adds for a browser that bundles the verifier: at most 60 kB gzipped. */
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'
import { expect, it } from 'vitest'

const GPU = /\/(gpu\/[a-z-]+|appraise-gpu)\.js$/

/** Gzipped size of the verifier as one browser bundle, with the files that match left out. */
async function bundledBytes(without?: RegExp): Promise<number> {
  const { outputFiles } = await build({
    entryPoints: ['verifier/index.ts'],
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    write: false,
    logLevel: 'silent',
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

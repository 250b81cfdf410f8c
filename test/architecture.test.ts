/**
 * Who may import whom. The rules are the table of CONTRIBUTING.md: walk every static import of every source file and
 * refuse the ones that cross a layer, and every second importer of a package that has one importer only.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

interface Source {
  readonly path: string
  readonly relative: readonly string[]
  readonly packages: readonly string[]
}

function sourcesUnder(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return entry.name === 'node_modules' ? [] : sourcesUnder(path)
    return /\.(ts|mts)$/.test(entry.name) ? [path] : []
  })
}

function read(path: string): Source {
  const all = ts.preProcessFile(readFileSync(join(root, path), 'utf8'), true, true).importedFiles.map((f) => f.fileName)
  return {
    path,
    relative: all
      .filter((specifier) => specifier.startsWith('.'))
      .map((specifier) => relative(root, resolve(root, dirname(path), specifier)).replace(/\.js$/, '.ts')),
    packages: all.filter((specifier) => !specifier.startsWith('.')),
  }
}

const sources = ['verifier', 'client', 'enclave', 'scripts'].flatMap(sourcesUnder).map(read)

/** The first matching row decides what a file may import of ours. */
const LAYERS: readonly { readonly from: string; readonly may: readonly string[] }[] = [
  { from: 'verifier/protocol/', may: ['verifier/protocol/'] },
  { from: 'verifier/', may: ['verifier/'] },
  { from: 'client/', may: ['client/', 'verifier/'] },
  // The one file that appraises: the worker's own GPUs, before they get ready.
  {
    from: 'enclave/gpu-gate.ts',
    may: ['enclave/', 'verifier/protocol/', 'verifier/checks.ts', 'verifier/endorsements.ts', 'verifier/gpu/'],
  },
  { from: 'enclave/', may: ['enclave/', 'verifier/protocol/'] },
  { from: 'scripts/', may: ['scripts/', 'verifier/', 'client/', 'enclave/'] },
]

/** Packages that only one place may import, so that replacing one changes one file. */
const SINGLE_IMPORTERS: readonly { readonly package: RegExp; readonly only: RegExp }[] = [
  { package: /^cbor-x/, only: /^verifier\/protocol\/cbor\.ts$/ },
  { package: /^(hpke|@panva\/hpke-noble|@hpke\/.*)$/, only: /^verifier\/protocol\/(hpke|x-wing)\.ts$/ },
  { package: /^@noble\/(post-quantum|curves)/, only: /^verifier\/protocol\/x-wing-noble\.ts$/ },
  { package: /^@sigstore\//, only: /^verifier\/release\/sigstore\.ts$/ },
  { package: /^@noble\/hashes/, only: /^verifier\/protocol\/(hash|x-wing-noble)\.ts$/ },
  // The tests' second reader of certificates: nothing that ships imports it.
  { package: /^(@peculiar\/.*|reflect-metadata)$/, only: /^(?!)/ },
  { package: /^onnxruntime-/, only: /^enclave\/inference\/ort\// },
  { package: /^koffi$/, only: /^enclave\/(inference\/ort\/c-api|platforms\/native)\.ts$/ },
  { package: /^refa$/, only: /^enclave\/inference\/grammar\/pattern\.ts$/ },
  { package: /^undici(\/|$)/, only: /^client\/(node-lines|undici-parts\.d)\.ts$/ },
  { package: /^ipaddr\.js$/, only: /^client\/directory\/addresses\.ts$/ },
  { package: /^node-forge$/, only: /^scripts\/simulated\// },
]

/** What a browser loads: the entry points and everything they reach. */
function reach(entries: readonly string[]): Set<string> {
  const byPath = new Map(sources.map((source) => [source.path, source]))
  const seen = new Set<string>()
  const queue = [...entries]
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (seen.has(path)) continue
    seen.add(path)
    queue.push(...(byPath.get(path)?.relative ?? []))
  }
  return seen
}

/** What the GPU verifier stands on beside itself and the protocol: an image for machines with GPUs holds these, and no more. */
const GPU_VERIFIER_BASE: readonly string[] = [
  'verifier/checks.ts',
  'verifier/der.ts',
  'verifier/endorsements.ts',
  'verifier/errors.ts',
  'verifier/memory.ts',
  'verifier/pem.ts',
  'verifier/result.ts',
  'verifier/roots.ts',
  'verifier/signature.ts',
  'verifier/snp/certificate-table.ts',
  'verifier/tdx/collateral-set.ts',
  'verifier/trust-anchors.ts',
  'verifier/x509-extensions.ts',
  'verifier/x509-name.ts',
  'verifier/x509.ts',
]

describe('architecture', () => {
  it('finds the sources and their imports', () => {
    expect(sources.length).toBeGreaterThan(40)
    expect(sources.flatMap((source) => source.relative).length).toBeGreaterThan(100)
    const known = new Set(sources.map((source) => source.path))
    const missing = sources.flatMap((s) => s.relative.filter((path) => path.endsWith('.ts') && !known.has(path)))
    expect(missing).toEqual([])
  })

  it.each(LAYERS)('$from imports only from $may', ({ from, may }) => {
    const owned = sources.filter((source) => LAYERS.find((layer) => source.path.startsWith(layer.from))?.from === from)
    const crossing = owned.flatMap((source) =>
      source.relative
        .filter((path) => !may.some((prefix) => path.startsWith(prefix)))
        .map((path) => `${source.path} → ${path}`),
    )
    expect(crossing).toEqual([])
  })

  it.each(SINGLE_IMPORTERS)('$package has one importer', ({ package: name, only }) => {
    const strays = sources.filter((source) => source.packages.some((p) => name.test(p)) && !only.test(source.path))
    expect(strays.map((source) => source.path)).toEqual([])
  })

  it('lets the gate of the GPUs carry the GPU verifier and what that stands on, nothing else', () => {
    const carried = [...reach(['enclave/gpu-gate.ts'])].filter((path) => path.startsWith('verifier/'))
    const base = carried.filter((path) => !/^verifier\/(protocol|gpu)\//.test(path))
    expect(base.sort()).toEqual(GPU_VERIFIER_BASE)
  })

  it('reaches the gate of the GPUs by a computed address only', () => {
    const importers = sources.filter(({ path }) =>
      readFileSync(join(root, path), 'utf8').match(/^import \{.*gpu-gate/m),
    )
    expect(importers.map(({ path }) => path).filter((path) => path.startsWith('enclave/'))).toEqual([])
  })

  it('keeps Node, servers and inference out of what a browser loads', () => {
    const reached = reach([
      'client/index.ts',
      'client/directory/index.ts',
      'verifier/index.ts',
      'verifier/protocol/index.ts',
    ])
    expect(reached.size).toBeGreaterThan(30)
    const offenders = sources
      .filter((source) => reached.has(source.path))
      .flatMap((source) =>
        source.packages
          .filter((p) => /^node:|^(onnxruntime|hono|@hono|node-forge|commander|yaml|picocolors|undici)/.test(p))
          .map((p) => `${source.path} → ${p}`),
      )
    expect(offenders).toEqual([])
  })
})

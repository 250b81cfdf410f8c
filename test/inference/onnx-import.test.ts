/** ONNX folders in the usual layouts: what comes out computes what their graphs do. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createDecoder } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage } from '../../enclave/inference/package.js'
import { importModel } from '../../scripts/model/import.js'
import {
  type Draft,
  type DraftOptions,
  FAMILIES,
  type Family,
  type Kept,
  LAYOUTS,
  type Layout,
  nodeOf,
  rotateBefore,
  SHAPE,
  writeModel,
} from './onnx-model.js'
import { runSource } from './onnx-run.js'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'onnx-import-'))
})

afterEach(() => rm(folder, { recursive: true }))

const OPTIONS = { format: 'fp32', id: 'imported', license: 'MIT' } as const

const write = (layout: Layout, options: DraftOptions, change?: (draft: Draft) => void, inline?: boolean) =>
  writeModel(join(folder, options.decoded ? 'decoded' : 'source'), layout, options, change, inline)

const TOKENS = [5, 6, 7, 300, 9, 10, 2, 1023]

/** Logits of a package after each token: the first ones together, then one by one, as an engine does it. */
async function runPackage(directory: string): Promise<readonly Float32Array[]> {
  const { decoder, determinism } = await createDecoder(await loadModelPackage(directory), { threads: 1 })
  expect(determinism).toBe('batch-invariant')
  const rows = [(await decoder.prefill(0, TOKENS.slice(0, 3))).slice()]
  for (const tokenId of TOKENS.slice(3))
    rows.push(((await decoder.decode([{ slot: 0, tokenId }]))[0] ?? new Float32Array()).slice())
  await decoder.close()
  return rows
}

function furthest(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  const rows = b.slice(-a.length)
  return Math.max(
    ...a.map((row, at) =>
      row.reduce((most, value, i) => Math.max(most, Math.abs(value - (rows[at]?.[i] ?? Number.NaN))), 0),
    ),
  )
}

describe.each(LAYOUTS)('a folder in the layout of %s', (layout) => {
  it.each(Object.keys(FAMILIES) as Family[])('becomes a package with the logits of its graph: %s', async (family) => {
    const { directory, graph } = await write(layout, { shape: FAMILIES[family], family })
    const { manifest } = await importModel(directory, join(folder, 'out'), OPTIONS)
    const { tiedEmbeddings } = FAMILIES[family]
    const tables = (tiedEmbeddings ? 1 : 2) * 1024 * 64
    expect(manifest.architecture).toMatchObject({ family, layers: 2, contextLength: 128, eosTokenIds: [2] })
    expect(manifest.architecture.parameters).toBe(tables + 2 * (64 * 16 * 12 + 3 * 64 * 96) + 5 * 64)
    const template = await readFile(join(folder, 'out', 'chat_template.jinja'), 'utf8')
    expect(template).toBe(await readFile(join(directory, 'chat_template.jinja'), 'utf8'))
    expect(furthest(await runPackage(join(folder, 'out')), await runSource(graph, TOKENS))).toBeLessThan(1e-4)
  })

  it.each<Kept>(['half', 'int4', 'int4-zeros', 'int8', 'bytes', 'codes'])(
    'is decoded exactly from %s',
    async (kept) => {
      // 80 inputs do not fill their last block of 32.
      const shape = { ...SHAPE, feedForwardSize: 80 }
      const { directory } = await write(layout, { shape, kept })
      const decoded = await write(layout, { shape, kept, decoded: true })
      await importModel(directory, join(folder, 'out'), OPTIONS)
      const expected = await runSource(decoded.graph, TOKENS)
      // Norms and tables in half precision are not what the decoded graph has.
      expect(furthest(await runPackage(join(folder, 'out')), expected)).toBeLessThan(kept === 'half' ? 2e-2 : 1e-4)
    },
  )

  it('is requantised like any other source, from weights in the graph itself too, and from a named file', async () => {
    const { graph } = await write(layout, { shape: SHAPE }, undefined, true)
    const expected = await runSource(graph, TOKENS)
    for (const format of ['int8', 'pr8'] as const) {
      const { reports } = await importModel(graph, join(folder, format), { ...OPTIONS, format })
      expect(reports.some((report) => report.format === format && report.error > 0)).toBe(true)
      expect(furthest(await runPackage(join(folder, format)), expected)).toBeLessThan(0.3)
    }
  })

  it('holds any order of nodes', async () => {
    const { directory, graph } = await write(layout, { shape: SHAPE }, (draft) => draft.nodes.reverse())
    await importModel(directory, join(folder, 'out'), OPTIONS)
    const sorted = await write(layout, { shape: SHAPE, decoded: true })
    expect(graph).not.toBe(sorted.graph)
    expect(furthest(await runPackage(join(folder, 'out')), await runSource(sorted.graph, TOKENS))).toBeLessThan(1e-4)
  })
})

describe('graphs for other processors', () => {
  it.each<Kept>(['int4', 'int8'])('look embeddings up in the output, in %s', async (kept) => {
    const shape = FAMILIES.qwen2
    const { directory } = await write('genai', { shape, kept, family: 'qwen2' })
    const decoded = await write('genai', { shape, kept, family: 'qwen2', decoded: true })
    const { manifest } = await importModel(directory, join(folder, 'out'), OPTIONS)
    // One table, not two.
    expect(manifest.architecture.parameters).toBeLessThan(2 * 1024 * 64)
    expect(furthest(await runPackage(join(folder, 'out')), await runSource(decoded.graph, TOKENS))).toBeLessThan(1e-4)
  })

  it('rotate positions before attention', async () => {
    const { directory, graph } = await write('genai', { shape: FAMILIES.qwen3, family: 'qwen3' }, rotateBefore)
    await importModel(directory, join(folder, 'out'), OPTIONS)
    expect(furthest(await runPackage(join(folder, 'out')), await runSource(graph, TOKENS))).toBeLessThan(1e-4)
  })

  it('rotate no part of a head alone', async () => {
    const { directory } = await write('genai', { shape: FAMILIES.qwen3, family: 'qwen3' }, (draft) => {
      rotateBefore(draft)
      nodeOf(draft, 'RotaryEmbedding').attributes['rotary_embedding_dim'] = 8
    })
    await expect(importModel(directory, join(folder, 'out'), OPTIONS)).rejects.toThrowError(/these rotary positions/)
  })

  it('have rotary positions that only tables know, to the last one', async () => {
    const ropeFrequencies = Float64Array.from({ length: 8 }, (_, i) => 0.93 * 25 ** -i)
    const { directory, graph } = await write('genai', { shape: { ...SHAPE, ropeFrequencies } })
    await importModel(directory, join(folder, 'out'), OPTIONS)
    expect(furthest(await runPackage(join(folder, 'out')), await runSource(graph, TOKENS))).toBeLessThan(1e-4)
  })
})

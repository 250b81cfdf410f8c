/** Importers: what comes out is what went in, and hostile files are refused with nothing left behind. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, mkdtemp, open, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { inspectGraph } from '../../enclave/inference/graph.js'
import { createDecoder, createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { checkModelFolder, computeWeightsRoot, loadModelPackage } from '../../enclave/inference/package.js'
import { randomWeights, SMALL } from '../../scripts/bench/random-model.js'
import {
  dequantiseBlocks,
  dequantiseRows,
  quantiseBlocks,
  quantiseRows,
  relativeError,
} from '../../scripts/model/formats.js'
import { readGgufHeader } from '../../scripts/model/gguf.js'
import { decodeTensor, GGML_TYPES, type GgmlType, halfToFloat } from '../../scripts/model/gguf-blocks.js'
import { importModel } from '../../scripts/model/import.js'
import { toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { SubrosaError } from '../../verifier/protocol/errors.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { PACKAGE_DIRECTORY } from './model.js'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'model-import-'))
})

afterEach(() => rm(folder, { recursive: true }))

const SHAPE = {
  ...SMALL,
  layers: 2,
  hiddenSize: 64,
  heads: 4,
  kvHeads: 2,
  headSize: 16,
  feedForwardSize: 96,
  contextLength: 128,
}

type Entry = readonly [key: string, type: number, value: Buffer]
const u32 = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer)
const f32 = (value: number): Buffer => Buffer.from(Float32Array.of(value).buffer)
const u64 = (value: number | bigint): Buffer => Buffer.from(BigUint64Array.of(BigInt(value)).buffer)
const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)])
const texts = (values: readonly string[]): Buffer => Buffer.concat([u32(8), u64(values.length), ...values.map(text)])

interface Draft {
  metadata: Entry[]
  tensors: { name: string; shape: number[]; type: number; data: Buffer; offset?: bigint }[]
}

/** A Llama of the demo model's vocabulary, as a GGUF file in fp32. Rows of q and k are in the order of such files. */
async function draft(size: Partial<typeof SHAPE> = {}): Promise<Draft> {
  const tokenizer = JSON.parse(await readFile(join(PACKAGE_DIRECTORY, 'tokenizer.json'), 'utf8'))
  const words = Object.entries(tokenizer.model.vocab as Record<string, number>).sort(([, a], [, b]) => a - b)
  const special = new Set((tokenizer.added_tokens as { id: number }[]).map(({ id }) => id))
  const merges = (tokenizer.model.merges as (string | string[])[]).map((m) => (typeof m === 'string' ? m : m.join(' ')))
  const shape = { ...SHAPE, ...size, vocabularySize: words.length }
  const weights = randomWeights(shape, 3)
  const tensors: Draft['tensors'] = []
  const add = (name: string, dims: number[], values: Float32Array): void =>
    void tensors.push({ name, shape: dims, type: 0, data: Buffer.from(values.buffer) })
  const embedding = await weights.embedding()
  add('token_embd.weight', [embedding.columns, embedding.rows], embedding.values)
  for (let layer = 0; layer < shape.layers; layer++) {
    for (const [name, key] of [
      ['q', 'attn_q'],
      ['k', 'attn_k'],
      ['v', 'attn_v'],
      ['o', 'attn_output'],
      ['gate', 'ffn_gate'],
      ['up', 'ffn_up'],
      ['down', 'ffn_down'],
    ] as const) {
      const { rows, columns, values } = await weights.matrix(layer, name)
      add(`blk.${layer}.${key}.weight`, [columns, rows], values)
    }
    add(`blk.${layer}.attn_norm.weight`, [shape.hiddenSize], await weights.vector(layer, 'norm1'))
    add(`blk.${layer}.ffn_norm.weight`, [shape.hiddenSize], await weights.vector(layer, 'norm2'))
  }
  add('output_norm.weight', [shape.hiddenSize], await weights.finalNorm())
  const number = (key: string, value: number): Entry => [`llama.${key}`, 4, u32(value)]
  return {
    metadata: [
      ['general.architecture', 8, text('llama')],
      ['general.license', 8, text('apache-2.0')],
      number('block_count', shape.layers),
      number('context_length', shape.contextLength),
      number('embedding_length', shape.hiddenSize),
      number('feed_forward_length', shape.feedForwardSize),
      number('attention.head_count', shape.heads),
      number('attention.head_count_kv', shape.kvHeads),
      ['llama.attention.layer_norm_rms_epsilon', 6, f32(1e-5)],
      ['tokenizer.ggml.model', 8, text('gpt2')],
      ['tokenizer.ggml.pre', 8, text('smollm')],
      ['tokenizer.ggml.tokens', 9, texts(words.map(([word]) => word))],
      [
        'tokenizer.ggml.token_type',
        9,
        Buffer.concat([u32(5), u64(words.length), ...words.map((_, i) => u32(special.has(i) ? 3 : 1))]),
      ],
      ['tokenizer.ggml.merges', 9, texts(merges)],
      ['tokenizer.ggml.eos_token_id', 4, u32(2)],
      ['tokenizer.chat_template', 8, text(await readFile(join(PACKAGE_DIRECTORY, 'chat_template.jinja'), 'utf8'))],
    ],
    tensors,
  }
}

function encode({ metadata, tensors }: Draft, counts: { tensors?: bigint; metadata?: bigint } = {}): Buffer {
  let offset = 0n
  const entries = tensors.map((tensor) => {
    const entry = Buffer.concat([
      text(tensor.name),
      u32(tensor.shape.length),
      ...tensor.shape.map(u64),
      u32(tensor.type),
      u64(tensor.offset ?? offset),
    ])
    offset += BigInt(Math.ceil(tensor.data.length / 32) * 32)
    return entry
  })
  const head = Buffer.concat([
    Buffer.from('GGUF'),
    u32(3),
    u64(counts.tensors ?? tensors.length),
    u64(counts.metadata ?? metadata.length),
    ...metadata.flatMap(([key, type, value]) => [text(key), u32(type), value]),
    ...entries,
  ])
  const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc((32 - (bytes.length % 32)) % 32)])
  return Buffer.concat([padded(head), ...tensors.map(({ data }) => padded(data))])
}

const OPTIONS = { format: 'fp32', id: 'imported' } as const

describe('a GGUF file', () => {
  it('becomes a package that computes what its weights say, in every format', async () => {
    const path = join(folder, 'model.gguf')
    await writeFile(path, encode(await draft()))
    const logits = new Map<string, Float32Array>()
    for (const format of ['fp32', 'fp16', 'int8', 'int4', 'pr8'] as const) {
      const out = join(folder, format)
      const { manifest, reports } = await importModel(path, out, { ...OPTIONS, format })
      expect(manifest).toMatchObject({ license: 'Apache-2.0', format, architecture: { layers: 2, contextLength: 128 } })
      expect(reports.length).toBeGreaterThanOrEqual(2 * 5)
      const { decoder, determinism } = await createDecoder(await loadModelPackage(out), { threads: 1 })
      expect(determinism).toBe('batch-invariant')
      logits.set(format, (await decoder.prefill(0, [5, 6, 7, 8, 9, 10, 11])).slice())
      await decoder.close()
    }
    const error = (format: string): number => relativeError(logits.get('fp32')!, logits.get(format)!)
    expect([error('fp16') < 0.005, error('int8') < 0.05, error('pr8') < 0.05, error('int4') < 0.4]).toEqual(
      Array(4).fill(true),
    )
    expect((await readdir(folder)).sort()).toEqual(['fp16', 'fp32', 'int4', 'int8', 'model.gguf', 'pr8'])
  })

  it('with heads in which a cut would show is of class single, in its manifest too (P-8.7)', async () => {
    const path = join(folder, 'model.gguf')
    const classes: string[] = []
    for (const headSize of [128, 256]) {
      await writeFile(path, encode(await draft({ hiddenSize: 2 * headSize, heads: 2, kvHeads: 1, headSize })))
      const out = join(folder, `heads-${headSize}`)
      const { manifest } = await importModel(path, out, OPTIONS)
      const { decoder, determinism } = await createDecoder(await loadModelPackage(out), { threads: 1 })
      classes.push(`${headSize}: ${manifest.determinism}, ${determinism}, ${decoder.maxRows > 1}`)
      await decoder.close()
    }
    expect(classes).toEqual(['128: batch-invariant, batch-invariant, true', '256: single, single, false'])
  })

  it('keeps keys and values in int8 where asked to, under scales measured over a text', async () => {
    const path = join(folder, 'model.gguf')
    await writeFile(path, encode(await draft()))
    const logits: Float32Array[] = []
    for (const kv of ['fp32', 'int8'] as const) {
      const out = join(folder, kv)
      const { surprise } = await importModel(path, out, { ...OPTIONS, kv })
      const modelPackage = await loadModelPackage(out)
      expect(inspectGraph(modelPackage).cacheType).toBe(kv === 'int8' ? 'int8' : 'float32')
      // Random weights: as surprised by a text as by any other, whatever keys and values are kept as.
      if (kv === 'fp32') expect(surprise).toBeUndefined()
      else expect((surprise?.int8 ?? 0) / (surprise?.fp32 ?? 1)).toBeCloseTo(1, 2)
      const { decoder, determinism } = await createDecoder(modelPackage, { threads: 1 })
      expect(determinism).toBe('batch-invariant')
      logits.push((await decoder.prefill(0, [5, 6, 7, 8, 9, 10, 11])).slice())
      await decoder.close()
    }
    const [fp32, int8] = logits
    if (fp32 === undefined || int8 === undefined) throw new Error('no logits')
    expect(int8).not.toEqual(fp32)
    expect(relativeError(fp32, int8)).toBeLessThan(0.05)
    expect((await readdir(folder)).sort()).toEqual(['fp32', 'int8', 'model.gguf'])
  })

  it('keeps nothing in int8 for a server, which has its own ways', async () => {
    const options = { ...OPTIONS, format: 'original', kv: 'int8' } as const
    const refused = importModel(join(folder, 'model.gguf'), join(folder, 'out'), options)
    await expect(refused).rejects.toMatchObject({ code: 'option.kv' })
    expect(await readdir(folder)).toEqual([])
  })

  it.each<readonly [string, (file: Draft) => Buffer]>([
    ['nothing', () => Buffer.alloc(0)],
    ['no magic', () => Buffer.from('GGML and then some')],
    ['a tensor count beyond reason', (file) => encode(file, { tensors: 2n ** 63n })],
    ['a metadata count beyond the file', (file) => encode(file, { metadata: 60_000n })],
    [
      'a list longer than the file',
      (file) => {
        file.metadata[11] = ['tokenizer.ggml.tokens', 9, Buffer.concat([u32(8), u64(2n ** 40n)])]
        return encode(file)
      },
    ],
    [
      'lists in lists in lists',
      (file) => {
        const nested = Buffer.concat(Array.from({ length: 50 }, () => Buffer.concat([u32(9), u64(1)])))
        file.metadata.push(['x', 9, nested])
        return encode(file)
      },
    ],
    [
      'a text longer than the file',
      (file) => {
        file.metadata.push(['x', 8, u64(2n ** 52n)])
        return encode(file)
      },
    ],
    ['a key twice', (file) => encode({ ...file, metadata: [...file.metadata, file.metadata[0]!] })],
    [
      'an unknown architecture',
      (file) => {
        file.metadata[0] = ['general.architecture', 8, text('mamba')]
        return encode(file)
      },
    ],
    [
      'another tokenizer',
      (file) => {
        file.metadata[9] = ['tokenizer.ggml.model', 8, text('llama')]
        return encode(file)
      },
    ],
    [
      'more layers than tensors',
      (file) => {
        file.metadata[2] = ['llama.block_count', 4, u32(3)]
        return encode(file)
      },
    ],
    [
      'a huge context',
      (file) => {
        file.metadata[3] = ['llama.context_length', 4, u32(2 ** 31)]
        return encode(file)
      },
    ],
    [
      'no heads',
      (file) => {
        file.metadata[6] = ['llama.attention.head_count', 4, u32(0)]
        return encode(file)
      },
    ],
    [
      'a tensor outside the file',
      (file) => {
        file.tensors[3]!.offset = 2n ** 40n
        return encode(file)
      },
    ],
    [
      'a tensor of another shape',
      (file) => {
        file.tensors[1]!.shape = file.tensors[1]!.shape.map((n) => n / 2)
        return encode(file)
      },
    ],
    [
      'dimensions that overflow',
      (file) => {
        file.tensors[1]!.shape = [2 ** 50, 2 ** 50]
        return encode(file)
      },
    ],
    [
      'a type nobody knows',
      (file) => {
        file.tensors[1]!.type = 4711
        return encode(file)
      },
    ],
    [
      'a name that leaves the folder',
      (file) => {
        file.tensors[1]!.name = '../../etc/passwd'
        return encode(file)
      },
    ],
    [
      'a weight that is not a number',
      (file) => {
        file.tensors.at(-1)!.data.writeFloatLE(Number.NaN, 8)
        return encode(file)
      },
    ],
    [
      'rotary positions that outgrow the weights',
      (file) => {
        file.metadata[3] = ['llama.context_length', 4, u32(2 ** 24)]
        return encode(file)
      },
    ],
    [
      'two tensors in one place',
      (file) => {
        file.tensors[4]!.offset = 0n
        return encode(file)
      },
    ],
    [
      'texts beyond all vocabularies',
      (file) => {
        const count = 2 ** 22 + 1
        file.metadata.push(['x', 9, Buffer.concat([u32(8), u64(count), Buffer.alloc(8 * count)])])
        return encode(file)
      },
    ],
    [
      'a token twice',
      (file) => {
        file.metadata[11] = ['tokenizer.ggml.tokens', 9, texts(Array.from({ length: 1024 }, () => 'a'))]
        return encode(file)
      },
    ],
    [
      'more merges than tokens could be made in',
      (file) => {
        file.metadata[13] = ['tokenizer.ggml.merges', 9, texts(Array.from({ length: 16 * 1024 + 1 }, () => 'a b'))]
        return encode(file)
      },
    ],
    [
      'a list for an architecture',
      (file) => {
        file.metadata[0] = ['general.architecture', 9, texts(['llama'])]
        return encode(file)
      },
    ],
    ['an end cut off', (file) => encode(file).subarray(0, -100)],
  ])('with %s is refused, and leaves nothing behind', async (_, make) => {
    const path = join(folder, 'model.gguf')
    await writeFile(path, make(await draft()))
    const error = await importModel(path, join(folder, 'out'), OPTIONS).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(SubrosaError)
    expect(await readdir(folder)).toEqual(['model.gguf'])
  })
})

describe('a model of heads that attention here does not take', () => {
  it('is refused by what is expected, and kept for a server', async () => {
    const file = await draft()
    file.metadata.forEach(([key], i) => {
      if (key === 'llama.attention.head_count') file.metadata[i] = [key, 4, u32(8)]
      if (key === 'llama.attention.head_count_kv') file.metadata[i] = [key, 4, u32(4)]
    })
    const path = join(folder, 'model.gguf')
    await writeFile(path, encode(file))
    await expect(importModel(path, join(folder, 'out'), OPTIONS)).rejects.toThrowError(
      'head size: expected a multiple of 16, got 8: keep it for a server (original)',
    )
    expect(await readdir(folder)).toEqual(['model.gguf'])
    await importModel(path, join(folder, 'out'), { ...OPTIONS, format: 'original' })
  })
})

describe('a GGUF header', () => {
  it('leaves lists of numbers where they lie', async () => {
    const file = await draft()
    const values = Buffer.from(Int16Array.of(-3, 4).buffer)
    file.metadata.push(['few', 9, Buffer.concat([u32(3), u64(2), values])])
    file.metadata.push(['many', 9, Buffer.concat([u32(0), u64(2 ** 23), Buffer.alloc(2 ** 23, 7)])])
    await writeFile(join(folder, 'model.gguf'), encode(file))
    const handle = await open(join(folder, 'model.gguf'))
    const { metadata } = await readGgufHeader(handle)
    await handle.close()
    const [few, many] = ['few', 'many'].map((key) => {
      const list = metadata.get(key)
      if (typeof list !== 'object' || Array.isArray(list)) throw new Error(`${key} is no list of numbers`)
      return list
    })
    expect([few?.length, few?.at(0), few?.at(1), few?.at(2)]).toEqual([2, -3, 4, undefined])
    expect([many?.length, many?.at(2 ** 23 - 1)]).toEqual([2 ** 23, 7])
  })

  it('says nothing to the terminal but what it is about', async () => {
    const file = await draft()
    file.metadata[0] = ['general.architecture', 8, text('\u001b[31mred\u0007')]
    await writeFile(join(folder, 'model.gguf'), encode(file))
    const child = spawn(process.execPath, [
      'dist/client/cli.js',
      ...['model', 'import', join(folder, 'model.gguf'), '--out', join(folder, 'out'), '--id', 'x'],
    ])
    let complaint = ''
    child.stderr.setEncoding('utf8').on('data', (piece: string) => {
      complaint += piece
    })
    expect(await once(child, 'close')).toEqual([1, null])
    expect(complaint).toContain('got \\u001b[31mred\\u0007')
    expect(complaint).not.toContain('\u001b')
  })
})

describe('a command about a model whose chats cannot be written', () => {
  const BROKEN = '{% if'
  const ended = async (...command: string[]) => {
    const child = spawn(process.execPath, ['dist/client/cli.js', ...command])
    let complaint = ''
    child.stderr.setEncoding('utf8').on('data', (piece: string) => {
      complaint += piece
    })
    const [status] = (await once(child, 'close')) as [number | null]
    return [status, complaint] as const
  }
  /** The demo model, and its template another one. */
  const brokenPackage = async (): Promise<string> => {
    const path = join(folder, 'package')
    await cp(PACKAGE_DIRECTORY, path, { recursive: true })
    await writeFile(join(path, 'chat_template.jinja'), BROKEN)
    const manifest = JSON.parse(await readFile(join(path, 'manifest.json'), 'utf8'))
    const entry = manifest.files.find((file: { path: string }) => file.path === 'chat_template.jinja')
    Object.assign(entry, { size: BROKEN.length, sha256: toHex(sha256(utf8(BROKEN))) })
    await writeFile(join(path, 'manifest.json'), JSON.stringify(manifest))
    return path
  }

  it.each(['fp32', 'original'])(
    'ends when it has said so: import to %s',
    async (format) => {
      const file = await draft()
      const template = file.metadata.findIndex(([key]) => key === 'tokenizer.chat_template')
      file.metadata[template] = ['tokenizer.chat_template', 8, text(BROKEN)]
      await writeFile(join(folder, 'model.gguf'), encode(file))
      const out = join(folder, 'out')
      const [status, complaint] = await ended(
        ...['model', 'import', join(folder, 'model.gguf'), '--out', out, '--id', 'x', '--format', format],
      )
      expect([status, complaint]).toEqual([1, 'subrosa model import: the chat template does not parse\n'])
      expect(await readdir(folder)).toEqual(['model.gguf'])
    },
    60_000,
  )

  it.each([
    ['model', 'verify'],
    ['bench', '--model'],
    ['serve', '--simulated', '--port', '0', '--model'],
  ])(
    'ends when it has said so: %s %s',
    async (...command) => {
      const [status, complaint] = await ended(...command, await brokenPackage())
      expect(complaint).toContain('the chat template does not parse')
      expect(status).toBeGreaterThan(0)
    },
    60_000,
  )
})

describe('the folder of a package', () => {
  it('may be named with a slash at its end', async () => {
    await writeFile(join(folder, 'model.gguf'), encode(await draft()))
    await importModel(join(folder, 'model.gguf'), `${join(folder, 'out')}/`, OPTIONS)
    expect((await readdir(folder)).sort()).toEqual(['model.gguf', 'out'])
  })

  it.each(['none/out', 'model.gguf/out', 'model.gguf', '.'])(
    'is refused where there is no place for it: %s',
    async (out) => {
      await writeFile(join(folder, 'model.gguf'), encode(await draft()))
      const refused = importModel(join(folder, 'model.gguf'), join(folder, out), OPTIONS)
      await expect(refused).rejects.toMatchObject({ code: 'option.out' })
      expect(await readdir(folder)).toEqual(['model.gguf'])
    },
  )

  it('is refused on a full disk, saying what to do, and nothing is left there', async ({ skip }) => {
    const small = join(folder, 'small')
    await mkdir(small)
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'none', small]).status === 0
    skip(!mounted, 'mounting needs root')
    try {
      await writeFile(join(folder, 'model.gguf'), encode(await draft()))
      const refused = importModel(join(folder, 'model.gguf'), join(small, 'out'), OPTIONS)
      await expect(refused).rejects.toMatchObject({
        code: 'option.out',
        message: expect.stringMatching(/no room .*\(ENOSPC\); free some/),
      })
      expect(await readdir(small)).toEqual([])
    } finally {
      spawnSync('umount', [small])
    }
  })

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('is gone when %s ends the import', async (signal, status) => {
    const path = join(folder, 'out.partial-1')
    const program = `
      import { mkdirSync, writeFileSync } from 'node:fs'
      import { withUnfinished } from ${JSON.stringify(new URL('../../dist/scripts/model/unfinished.js', import.meta.url).href)}
      await withUnfinished(${JSON.stringify(path)}, async () => {
        mkdirSync(${JSON.stringify(path)})
        writeFileSync(${JSON.stringify(join(path, 'weights-001.bin'))}, 'x')
        process.stdout.write('ready')
        await new Promise((resolve) => setTimeout(resolve, 600_000))
      })`
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    expect(await readdir(folder)).toEqual(['out.partial-1'])
    child.kill(signal)
    expect(await once(child, 'close')).toEqual([status, null])
    expect(await readdir(folder)).toEqual([])
  })
})

describe('what is no file', () => {
  it.each(['original', 'fp32'] as const)(
    'is refused unopened, for %s: a pipe would wait for its writer',
    async (format) => {
      const [pipe, link] = [join(folder, 'model.gguf'), join(folder, 'link.gguf')]
      expect(spawnSync('mkfifo', [pipe]).status).toBe(0)
      await symlink(pipe, link)
      for (const from of [pipe, link, '/dev/null']) {
        await expect(importModel(from, join(folder, 'out'), { ...OPTIONS, format })).rejects.toThrowError(
          /is not a file/,
        )
      }
      expect((await readdir(folder)).sort()).toEqual(['link.gguf', 'model.gguf'])
    },
  )
})

describe('a GGUF file for a server', () => {
  it('goes into the package as it is, counts as weights, and runs on no engine of ours', async () => {
    const path = join(folder, 'source.gguf')
    await writeFile(path, encode(await draft()))
    const out = join(folder, 'out')
    const { manifest } = await importModel(path, out, { ...OPTIONS, format: 'original' })
    expect(manifest.format).toBe('original')
    expect(await readFile(join(out, 'model.gguf'))).toEqual(await readFile(path))
    expect(manifest.files.filter(({ role }) => role === 'weights').map((file) => file.path)).toEqual(['model.gguf'])
    expect(toHex(computeWeightsRoot((await checkModelFolder(out)).manifest))).toBe(toHex(computeWeightsRoot(manifest)))
    await expect(createOrtEngine(await loadModelPackage(out))).rejects.toThrowError(/for a server: give --server/)
    await writeFile(join(out, 'model.gguf'), 'x', { flag: 'a' })
    await expect(checkModelFolder(out)).rejects.toMatchObject({ code: 'package.size' })
  })
})

describe('a Hugging Face folder', () => {
  async function writeFolder(
    change: (config: Record<string, unknown>) => void = () => undefined,
    extra: readonly [string, number[], Float32Array][] = [],
  ): Promise<string> {
    const from = join(folder, 'hf')
    await mkdir(from, { recursive: true })
    const shape = { ...SHAPE, vocabularySize: 1024 }
    const weights = randomWeights(shape, 3)
    const tensors: [string, number[], Float32Array][] = [...extra]
    const { rows, columns, values } = await weights.embedding()
    tensors.push(['model.embed_tokens.weight', [rows, columns], values])
    for (let layer = 0; layer < shape.layers; layer++) {
      const p = `model.layers.${layer}`
      for (const [name, key] of [
        ['q', 'self_attn.q_proj'],
        ['k', 'self_attn.k_proj'],
        ['v', 'self_attn.v_proj'],
        ['o', 'self_attn.o_proj'],
        ['gate', 'mlp.gate_proj'],
        ['up', 'mlp.up_proj'],
        ['down', 'mlp.down_proj'],
      ] as const) {
        const matrix = await weights.matrix(layer, name)
        tensors.push([`${p}.${key}.weight`, [matrix.rows, matrix.columns], matrix.values])
      }
      for (const name of ['q', 'k'] as const) {
        tensors.push([
          `${p}.self_attn.${name}_norm.weight`,
          [shape.headSize],
          await weights.vector(layer, `${name}.norm`),
        ])
      }
      tensors.push([`${p}.input_layernorm.weight`, [shape.hiddenSize], await weights.vector(layer, 'norm1')])
      tensors.push([`${p}.post_attention_layernorm.weight`, [shape.hiddenSize], await weights.vector(layer, 'norm2')])
    }
    tensors.push(['model.norm.weight', [shape.hiddenSize], await weights.finalNorm()])
    let at = 0
    const header = Object.fromEntries(
      tensors.map(([name, dims, data]) => {
        const entry = { dtype: 'F32', shape: dims, data_offsets: [at, at + data.byteLength] }
        at += data.byteLength
        return [name, entry]
      }),
    )
    const json = Buffer.from(JSON.stringify(header))
    await writeFile(
      join(from, 'model.safetensors'),
      Buffer.concat([u64(json.length), json, ...tensors.map(([, , data]) => Buffer.from(data.buffer))]),
    )
    const config: Record<string, unknown> = {
      model_type: 'qwen3',
      hidden_size: shape.hiddenSize,
      num_hidden_layers: shape.layers,
      num_attention_heads: shape.heads,
      num_key_value_heads: shape.kvHeads,
      head_dim: shape.headSize,
      intermediate_size: shape.feedForwardSize,
      vocab_size: shape.vocabularySize,
      max_position_embeddings: shape.contextLength,
      rms_norm_eps: 1e-5,
      rope_theta: 10_000,
      tie_word_embeddings: true,
      eos_token_id: 2,
    }
    change(config)
    await writeFile(join(from, 'config.json'), JSON.stringify(config))
    for (const name of ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja']) {
      await writeFile(join(from, name), await readFile(join(PACKAGE_DIRECTORY, name)))
    }
    return from
  }

  it('becomes a package, norms of heads included', async () => {
    const out = join(folder, 'out')
    const { manifest } = await importModel(await writeFolder(), out, { ...OPTIONS, license: 'MIT' })
    expect(manifest).toMatchObject({ license: 'MIT', architecture: { family: 'qwen3', layers: 2 } })
    const { decoder, determinism } = await createDecoder(await loadModelPackage(out), { threads: 1 })
    expect(determinism).toBe('batch-invariant')
    const logits = await decoder.prefill(0, [1, 2, 3])
    expect(logits.every(Number.isFinite)).toBe(true)
    await decoder.close()
  })

  it.each(['config.json', 'model.safetensors', 'tokenizer.json'])(
    'with a folder or a pipe as %s is refused',
    async (name) => {
      const from = await writeFolder()
      const refused = () => importModel(from, join(folder, 'out'), { ...OPTIONS, license: 'MIT' })
      await rm(join(from, name))
      await mkdir(join(from, name))
      await expect(refused()).rejects.toThrowError(/is not a file/)
      await rm(join(from, name), { recursive: true })
      expect(spawnSync('mkfifo', [join(from, name)]).status).toBe(0)
      await expect(refused()).rejects.toThrowError(/is not a file/)
      expect(await readdir(folder)).toEqual(['hf'])
    },
  )

  it.each<readonly [string, string, RegExp]>([
    ['a tensor that is nothing', '{"a":null}', /expected each tensor to be an object/],
    ['a tensor that is a list', '{"a":[]}', /expected each tensor to be an object/],
    ['a type that objects have', '{"a":{"dtype":"toString","shape":[1],"data_offsets":[0,4]}}', /of F32, F16, BF16/],
    ['no place', '{"a":{"dtype":"F32","shape":[1]}}', /no shape or place/],
    ['lists inside each other', `{"__metadata__":${'['.repeat(1000)}${']'.repeat(1000)}}`, /at most 256 values inside/],
    ['too many values', `{"__metadata__":[${'[],'.repeat(1_000_001)}0]}`, /at most 2000000 values/],
    [
      'two tensors in one place',
      '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
      /in the same place/,
    ],
  ])('with %s in the header of its weights is refused', async (_, header, message) => {
    const from = await writeFolder()
    const json = Buffer.from(header)
    await writeFile(join(from, 'model.safetensors'), Buffer.concat([u64(json.length), json, Buffer.alloc(16)]))
    const refused = importModel(from, join(folder, 'out'), { ...OPTIONS, license: 'MIT' })
    await expect(refused).rejects.toThrowError(message)
    await expect(refused).rejects.toThrowError(SubrosaError)
    expect(await readdir(folder)).toEqual(['hf'])
  })

  it('with brackets in texts is not taken for a deep one', async () => {
    const from = await writeFolder()
    const config = JSON.parse(await readFile(join(from, 'tokenizer_config.json'), 'utf8'))
    const odd = { ...config, note: `"${'[{'.repeat(1000)}\\` }
    await writeFile(join(from, 'tokenizer_config.json'), JSON.stringify(odd))
    await importModel(from, join(folder, 'out'), { ...OPTIONS, license: 'MIT' })
    await rm(join(folder, 'out'), { recursive: true })
    await writeFile(
      join(from, 'tokenizer_config.json'),
      JSON.stringify({ ...odd, deep: 1 }).replace('1}', `${'['.repeat(300)}${']'.repeat(300)}}`),
    )
    await expect(importModel(from, join(folder, 'out'), { ...OPTIONS, license: 'MIT' })).rejects.toThrowError(
      /inside each/,
    )
  })

  it('with a context whose rotary positions outgrow the weights is taken with a shorter one', async () => {
    const from = await writeFolder((config) => void Object.assign(config, { max_position_embeddings: 2 ** 24 }))
    const options = { ...OPTIONS, license: 'MIT' }
    await expect(importModel(from, join(folder, 'out'), options)).rejects.toThrowError(
      /at most 524288 tokens.*--context/,
    )
    const { manifest } = await importModel(from, join(folder, 'out'), { ...options, contextLength: 128 })
    expect(manifest.architecture.contextLength).toBe(128)
  })

  it('becomes a package of its own files for a server, without code and whatever else lies there', async () => {
    const from = await writeFolder()
    await writeFile(join(from, 'modeling_own.py'), 'x')
    await writeFile(join(from, 'pytorch_model.bin'), 'x')
    const out = join(folder, 'out')
    const { manifest } = await importModel(from, out, { ...OPTIONS, license: 'MIT', format: 'original' })
    expect((await readdir(out)).sort()).toEqual([
      'chat_template.jinja',
      'config.json',
      'manifest.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ])
    expect(manifest.files.filter(({ role }) => role === 'weights').map(({ path }) => path)).toEqual([
      'config.json',
      'model.safetensors',
    ])
    expect(await readFile(join(out, 'model.safetensors'))).toEqual(await readFile(join(from, 'model.safetensors')))
    expect((await checkModelFolder(out)).files.has('model.safetensors')).toBe(false)
  })

  it('says how positions are rotated in one field or in two, with the same result', async () => {
    const [scaling, rope_theta] = [{ factor: 8, low_freq_factor: 1, high_freq_factor: 4 }, 500_000]
    const llama3 = { ...scaling, rope_type: 'llama3', original_max_position_embeddings: 64 }
    const ways: readonly Record<string, unknown>[] = [
      { rope_theta, rope_scaling: null },
      { rope_theta: undefined, rope_parameters: { rope_theta, rope_type: 'default' } },
      { rope_theta, rope_scaling: llama3 },
      { rope_theta: undefined, rope_parameters: { ...llama3, rope_theta } },
    ]
    const roots: string[] = []
    for (const [index, way] of ways.entries()) {
      const from = await writeFolder((config) => void Object.assign(config, way))
      const { manifest } = await importModel(from, join(folder, `out-${index}`), { ...OPTIONS, license: 'MIT' })
      roots.push(toHex(computeWeightsRoot(manifest)))
    }
    expect([roots[1], roots[3]]).toEqual([roots[0], roots[2]])
    expect(roots[0]).not.toBe(roots[2])
  })

  it('with a bias that would be left out is refused', async () => {
    const bias = 'model.layers.0.self_attn.o_proj.bias'
    const from = await writeFolder(undefined, [[bias, [64], new Float32Array(64)]])
    await expect(importModel(from, join(folder, 'out'), { ...OPTIONS, license: 'MIT' })).rejects.toThrowError(bias)
  })

  it.each<readonly [string, (config: Record<string, unknown>) => void]>([
    ['an unknown type', (config) => void Object.assign(config, { model_type: 'gemma' })],
    ['another activation', (config) => void Object.assign(config, { hidden_act: 'gelu' })],
    ['another scaling of positions', (config) => void Object.assign(config, { rope_scaling: { rope_type: 'yarn' } })],
    [
      'another scaling, in the newer field',
      (config) => void Object.assign(config, { rope_parameters: { rope_type: 'yarn' } }),
    ],
    ['a scaling without numbers', (config) => void Object.assign(config, { rope_scaling: { rope_type: 'llama3' } })],
    ['heads rotated in part', (config) => void Object.assign(config, { partial_rotary_factor: 0.5 })],
    ['a layer with a window', (config) => void Object.assign(config, { layer_types: ['sliding_attention'] })],
    ['biases of the feed-forward', (config) => void Object.assign(config, { mlp_bias: true })],
    ['sizes that do not fit', (config) => void Object.assign(config, { hidden_size: 128 })],
    ['no end', (config) => void Object.assign(config, { eos_token_id: null })],
    [
      'huge heads and a huge context',
      (config) => void Object.assign(config, { head_dim: 4096, max_position_embeddings: 2 ** 24 }),
    ],
  ])('with %s is refused, and leaves nothing behind', async (_, change) => {
    const from = await writeFolder(change)
    await expect(importModel(from, join(folder, 'out'), { ...OPTIONS, license: 'MIT' })).rejects.toThrowError(
      SubrosaError,
    )
    expect(await readdir(folder)).toEqual(['hf'])
  })
})

describe('weight formats', () => {
  it('lose little, and zero nothing', () => {
    const matrix = {
      rows: 48,
      columns: 96,
      values: Float32Array.from({ length: 48 * 96 }, (_, i) => Math.sin(i * 1.7)),
    }
    for (const bits of [4, 8] as const) {
      const error = relativeError(matrix.values, dequantiseBlocks(quantiseBlocks(matrix, bits), bits))
      expect(error).toBeLessThan(bits === 8 ? 0.01 : 0.12)
    }
    expect(relativeError(matrix.values, dequantiseRows(quantiseRows(matrix), matrix))).toBeLessThan(0.01)
    const zeros = { rows: 1, columns: 32, values: new Float32Array(32) }
    expect(dequantiseBlocks(quantiseBlocks(zeros, 4), 4).every((value) => value === 0)).toBe(true)
  })

  it('keep what four bits and a minimum, or four bits alone, can say', () => {
    const matrix = (value: (code: number) => number) => ({
      rows: 4,
      columns: 64,
      // Each block has its lowest and its highest code.
      values: Float32Array.from({ length: 256 }, (_, i) => value(i % 32 < 2 ? (i % 2) * 15 : (i * 7) % 16)),
    })
    const withMinimum = matrix((code) => code * 0.25 - 1.3)
    const quantised = quantiseBlocks(withMinimum, 4)
    expect(quantised.offsets).toBeDefined()
    expect(relativeError(withMinimum.values, dequantiseBlocks(quantised, 4))).toBeLessThan(1e-6)
    const symmetric = matrix((code) => (code - 8) * 0.25)
    const plain = quantiseBlocks(symmetric, 4)
    expect(relativeError(symmetric.values, dequantiseBlocks(plain, 4))).toBeLessThan(1e-6)
    expect(plain.offsets).toBeUndefined()
  })

  it.each(Object.keys(GGML_TYPES) as GgmlType[])('%s blocks decode to finite numbers of their count', (type) => {
    const { blockBytes, blockElements } = GGML_TYPES[type]
    const values = decodeTensor(type, Buffer.alloc(blockBytes * 3, 0x3c))
    expect(values).toHaveLength(blockElements * 3)
    expect(values.every(Number.isFinite)).toBe(true)
  })

  it('read halves as IEEE 754 has them', () => {
    const cases = [0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x3555].map(halfToFloat)
    expect(cases).toEqual([1, -2, 2 ** -24, 65_504, Number.POSITIVE_INFINITY, 0.333251953125])
    expect(halfToFloat(0x7e00)).toBeNaN()
  })
})

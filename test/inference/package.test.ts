/** A package is accepted only as its manifest describes it, byte for byte. */
import { spawnSync } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { inspectGraph } from '../../enclave/inference/graph.js'
import { createOrtEngine } from '../../enclave/inference/ort/engine.js'
import {
  computeWeightsRoot,
  loadModelPackage,
  type ModelManifest,
  modelClaims,
  parseManifest,
} from '../../enclave/inference/package.js'
import { createTokenizer } from '../../enclave/inference/tokenizer.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { encodeCbor } from '../../verifier/protocol/cbor.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { PACKAGE_DIRECTORY } from './model.js'

let directory: string

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'model-package-'))
  await cp(PACKAGE_DIRECTORY, directory, { recursive: true })
})

afterEach(() => rm(directory, { recursive: true }))

const hasCode = (code: string): object => expect.objectContaining({ code })

/** A manifest one may change at will. */
// biome-ignore lint/suspicious/noExplicitAny: the point is to break its type
type Loose = any

async function rewriteManifest(change: (manifest: Loose) => void): Promise<void> {
  const path = join(directory, 'manifest.json')
  const manifest = JSON.parse(await readFile(path, 'utf8'))
  change(manifest)
  await writeFile(path, JSON.stringify(manifest))
}

async function rewriteFile(name: string, change: (bytes: Buffer) => Buffer): Promise<void> {
  const path = join(directory, name)
  await writeFile(path, change(await readFile(path)))
}

describe('the committed package', () => {
  it('loads, and is small enough to live in the repository', async () => {
    const { manifest, files } = await loadModelPackage(PACKAGE_DIRECTORY)
    expect([...files.keys()]).toEqual(manifest.files.map((file) => file.path))
    expect(manifest.files.reduce((sum, file) => sum + file.size, 0)).toBeLessThan(8 * 1024 * 1024)
  })

  it('has claims made of its files', async () => {
    const modelPackage = await loadModelPackage(PACKAGE_DIRECTORY)
    const file = (path: string): Uint8Array => modelPackage.files.get(path) ?? new Uint8Array()
    const leaf = encodeCbor(['model.onnx', file('model.onnx').length, sha256(file('model.onnx'))])
    const claims = modelClaims(modelPackage)
    expect(claims.id).toBe('subrosa-demo')
    // One measured file: the root is its leaf hash.
    expect(toHex(claims.weightsRoot)).toBe(toHex(sha256(Uint8Array.of(0, ...leaf))))
    expect(toHex(claims.tokenizerDigest)).toBe(toHex(sha256(file('tokenizer.json'))))
    expect(toHex(claims.templateDigest)).toBe(toHex(sha256(file('chat_template.jinja'))))
  })

  it('runs from the bytes that were checked, not from disk (P-8.1)', async () => {
    const modelPackage = await loadModelPackage(directory)
    await rm(join(directory, 'model.onnx'))
    await rm(join(directory, 'tokenizer.json'))
    const engine = await createOrtEngine(modelPackage, { threads: 1 })
    expect((await engine.tokenizeChat([{ role: 'user', content: 'hi' }])).length).toBeGreaterThan(0)
    await engine.close()
  })
})

describe('weights root', () => {
  it('covers path, size and digest of graph and weights, and nothing else', async () => {
    const { manifest } = await loadModelPackage(PACKAGE_DIRECTORY)
    const rootWith = (change: (file: Loose) => Loose, role = 'graph'): string => {
      const files = manifest.files.map((file) => (file.role === role ? { ...file, ...change(file) } : file))
      return toHex(computeWeightsRoot({ ...manifest, files } as ModelManifest))
    }
    const root = rootWith(() => ({}))
    expect(rootWith(() => ({ path: 'other.onnx' }))).not.toBe(root)
    expect(rootWith((file) => ({ size: file.size + 1 }))).not.toBe(root)
    expect(rootWith(() => ({ sha256: '0'.repeat(64) }))).not.toBe(root)
    expect(rootWith(() => ({ sha256: '0'.repeat(64) }), 'card')).toBe(root)
  })
})

describe('tampering', () => {
  it.each(['model.onnx', 'tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja', 'LICENSE', 'MODEL_CARD.md'])(
    'one changed bit in %s',
    async (name) => {
      await rewriteFile(name, (bytes) => {
        bytes.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1)
        return bytes
      })
      await expect(loadModelPackage(directory)).rejects.toThrowError(hasCode('package.digest'))
    },
  )

  it('one byte more or less (P-8.1)', async () => {
    await rewriteFile('chat_template.jinja', (bytes) => Buffer.concat([bytes, Buffer.from(' ')]))
    await expect(loadModelPackage(directory)).rejects.toThrowError(hasCode('package.size'))
    await rewriteFile('chat_template.jinja', (bytes) => bytes.subarray(0, -2))
    await expect(loadModelPackage(directory)).rejects.toThrowError(hasCode('package.size'))
  })

  it('a missing file, or a folder in its place', async () => {
    await rm(join(directory, 'model.onnx'))
    await expect(loadModelPackage(directory)).rejects.toThrowError(hasCode('package.missing'))
    await mkdir(join(directory, 'model.onnx'))
    await expect(loadModelPackage(directory)).rejects.toThrowError(hasCode('package.missing'))
  })

  it.skipIf(process.platform === 'win32')('a pipe in the place of a file, which nobody waits for', async () => {
    for (const name of ['model.onnx', 'manifest.json']) {
      await rm(join(directory, name))
      expect(spawnSync('mkfifo', [join(directory, name)]).status).toBe(0)
      await expect(loadModelPackage(directory)).rejects.toThrowError(hasCode('package.missing'))
    }
  })

  it('no manifest, no JSON, or a huge one', async () => {
    await writeFile(join(directory, 'manifest.json'), '{')
    await expect(loadModelPackage(directory)).rejects.toThrowError(hasCode('package.manifest'))
    await writeFile(join(directory, 'manifest.json'), ' '.repeat(1024 * 1024 + 1))
    await expect(loadModelPackage(directory)).rejects.toThrowError(hasCode('package.manifest'))
    await rm(join(directory, 'manifest.json'))
    await expect(loadModelPackage(directory)).rejects.toThrowError(hasCode('package.missing'))
  })

  it.each([
    '../outside',
    '/etc/hostname',
    'a/../../b',
    './model.onnx',
    'a//b',
    'a\\b',
    'C:x',
    '.hidden',
    '',
    'a\0b',
    'manifest.json',
    'x'.repeat(256),
  ])('path %j', async (path) => {
    await rewriteManifest((manifest) => {
      manifest.files[0].path = path
    })
    await expect(loadModelPackage(directory)).rejects.toThrowError(hasCode('package.path'))
  })

  it.each<[string, (manifest: Loose) => void]>([
    ['another schema', (m) => (m.schema = 'subrosa-model/2')],
    ['an unknown member', (m) => (m.extra = 1)],
    ['an unknown member of the architecture', (m) => (m.architecture.extra = 1)],
    ['an unknown member of a file', (m) => (m.files[0].url = 'x')],
    ['a missing member', (m) => delete m.determinism],
    ['an unknown role', (m) => (m.files[0].role = 'script')],
    ['an unknown format', (m) => (m.format = 'int3')],
    ['an unknown family', (m) => (m.architecture.family = 'x')],
    ['an unknown determinism', (m) => (m.determinism = 'maybe')],
    ['upper-case digits', (m) => (m.files[0].sha256 = 'A'.repeat(64))],
    ['a negative size', (m) => (m.files[0].size = -1)],
    ['no layers', (m) => (m.architecture.layers = 0)],
    ['layers beyond reason', (m) => (m.architecture.layers = 2 ** 20)],
    ['a hidden size beyond reason', (m) => (m.architecture.hiddenSize = 2 ** 30)],
    ['a vocabulary beyond reason', (m) => (m.architecture.vocabularySize = 2 ** 40)],
    ['a context beyond reason', (m) => (m.architecture.contextLength = 2 ** 52)],
    ['no end token', (m) => (m.architecture.eosTokenIds = [])],
    ['an end token outside the vocabulary', (m) => (m.architecture.eosTokenIds = [1024])],
    ['files out of order', (m) => m.files.reverse()],
    ['a repeated file', (m) => m.files.unshift(m.files[0])],
    ['no files', (m) => (m.files = [])],
    ['an id with a slash', (m) => (m.id = 'a/b')],
    ['a title with a control character', (m) => (m.title = 'a\u001bb')],
    ['files that are no list', (m) => (m.files = {})],
    ['a file that is no object', (m) => (m.files[0] = null)],
  ])('%s', async (_, change) => {
    await rewriteManifest(change)
    await expect(loadModelPackage(directory)).rejects.toThrowError(hasCode('package.manifest'))
  })

  it('a manifest that is not an object', () => {
    for (const value of [null, [], 'x', 1]) expect(() => parseManifest(value)).toThrowError(hasCode('package.manifest'))
  })
})

describe('a package that is intact but unusable (P-8.12)', () => {
  const replaceWith = async (path: string, content: string | Buffer): Promise<void> => {
    const bytes = Buffer.from(content)
    await writeFile(join(directory, path), bytes)
    await rewriteManifest((manifest) => {
      const file = manifest.files.find((candidate: Loose) => candidate.path === path)
      Object.assign(file, { size: bytes.length, sha256: toHex(sha256(bytes)) })
    })
  }

  it.each([
    ['model.onnx', 'not a graph'],
    ['tokenizer.json', '{}'],
    ['tokenizer.json', '['],
    ['tokenizer_config.json', '[]'],
    ['chat_template.jinja', '{% for %}'],
  ])('%s holding %j', async (path, content) => {
    await replaceWith(path, content)
    const modelPackage = await loadModelPackage(directory)
    await expect(createOrtEngine(modelPackage)).rejects.toThrowError(hasCode('package.unusable'))
  })

  const rewriteTokenizer = async (change: (definition: Loose) => void): Promise<void> => {
    const definition = JSON.parse(await readFile(join(PACKAGE_DIRECTORY, 'tokenizer.json'), 'utf8'))
    change(definition)
    await replaceWith('tokenizer.json', JSON.stringify(definition))
  }
  const shifted = (vocab: Record<string, number>, by: number): Record<string, number> =>
    Object.fromEntries(Object.entries(vocab).map(([token, id]) => [token, id + by]))

  it.each<[string, (definition: Loose) => void, RegExp]>([
    ['tokens the model does not have', (d) => (d.model.vocab = shifted(d.model.vocab, 100_000)), /from 0 to 1023, got/],
    ['a token of a negative number', (d) => (d.model.vocab['x x'] = -1), /"x x": expected a number.* got -1/],
    ['a token of a broken number', (d) => (d.model.vocab['x x'] = 1.5), /got 1.5/],
    ['a token without a number', (d) => (d.model.vocab['x x'] = null), /got null/],
    ['two tokens of one number', (d) => (d.model.vocab['x x'] = 700), /are both token 700/],
    ['a model of another kind', (d) => (d.model.type = 'WordPiece'), /expected BPE or Unigram, got "WordPiece"/],
    ['a model of no kind', (d) => delete d.model.type, /expected BPE or Unigram, got none/],
    ['a model that is a list', (d) => (d.model = []), /model: expected an object/],
    ['words in a list', (d) => (d.model.vocab = []), /vocab: expected an object/],
    ['pieces that are no list', (d) => (d.model.type = 'Unigram'), /vocab: expected a list/],
    ['pieces without scores', (d) => (d.model = { type: 'Unigram', vocab: [['a']] }), /texts with their scores/],
    ['an added token outside the model', (d) => d.added_tokens.push({ id: 1024, content: '<|x|>' }), /got 1024/],
    ['an added token of no text', (d) => (d.added_tokens[0].content = ''), /content that is not empty/],
    ['an added token of two numbers', (d) => (d.added_tokens[1].id = 1000), /two numbers/],
    ['an added token over another', (d) => (d.added_tokens[0].content = 'x x'), /are both token 0/],
    ['added tokens that are no list', (d) => delete d.added_tokens, /added_tokens: expected a list/],
    [
      'a decoder that searches',
      (d) => {
        const replace = { type: 'Replace', pattern: { Regex: '(a+)+$' }, content: '' }
        d.decoder = { type: 'Sequence', decoders: [replace, d.decoder] }
      },
      /got a regular expression/,
    ],
    ['an unknown token for what is unknown', (d) => (d.model.unk_token = 'x x'), /unknown text is no token/],
  ])('a tokenizer with %s', async (_, change, message) => {
    await rewriteTokenizer(change)
    const modelPackage = await loadModelPackage(directory)
    await expect(createTokenizer(modelPackage)).rejects.toThrowError(hasCode('package.unusable'))
    await expect(createTokenizer(modelPackage)).rejects.toThrowError(message)
  })

  it('a tokenizer without the token that ends answers', async () => {
    await rewriteTokenizer(({ model, added_tokens }) => {
      const end = added_tokens.pop()
      delete model.vocab[end.content]
    })
    await rewriteManifest((manifest) => {
      manifest.architecture.eosTokenIds = [2]
    })
    const modelPackage = await loadModelPackage(directory)
    await expect(createTokenizer(modelPackage)).rejects.toThrowError(/ends answers with token 2/)
  })

  it('a tokenizer of fewer tokens than the model is taken; the others write nothing', async () => {
    await rewriteTokenizer(({ model }) => {
      model.byte_fallback = true
      for (const [token, id] of Object.entries(model.vocab)) if (id === 1023) delete model.vocab[token]
    })
    const tokenizer = await createTokenizer(await loadModelPackage(directory))
    expect([tokenizer.decode([1023]), tokenizer.spell(1023)]).toEqual(['', ''])
    const hello = await tokenizer.encode(['Hello'])
    expect(tokenizer.decode([1023, ...hello, 1023])).toBe('Hello')
    await tokenizer.close()
  })

  it.each([
    ['that refuses every chat', "{{ raise_exception('no') }}"],
    ['that writes nothing', '{# nothing #}'],
  ])('a template %s', async (_, template) => {
    await replaceWith('chat_template.jinja', template)
    const modelPackage = await loadModelPackage(directory)
    await expect(createOrtEngine(modelPackage)).rejects.toThrowError(hasCode('package.unusable'))
  })

  it('a context longer than the graph has rotary positions for', async () => {
    await rewriteManifest((manifest) => {
      manifest.architecture.contextLength += 1
    })
    const modelPackage = await loadModelPackage(directory)
    expect(() => inspectGraph(modelPackage)).toThrowError(/rotary positions for \d+ tokens/)
    await expect(createOrtEngine(modelPackage)).rejects.toThrowError(hasCode('package.unusable'))
  })

  it('a graph that keeps weights in another file, listed or not', async () => {
    // Field 1000 of ModelProto: unknown, so the runtime would ignore it and load the graph.
    const entry = Buffer.from('\n\x08location\x12\x01w', 'latin1')
    const field = Buffer.concat([Buffer.of(0xc2, 0x3e, entry.length), entry])
    await replaceWith('model.onnx', Buffer.concat([await readFile(join(directory, 'model.onnx')), field]))
    const unlisted = await loadModelPackage(directory)
    await expect(createOrtEngine(unlisted)).rejects.toThrowError(hasCode('package.unusable'))

    await cp(PACKAGE_DIRECTORY, directory, { recursive: true })
    await writeFile(join(directory, 'model.onnx.data'), '')
    await rewriteManifest((manifest) => {
      const at = manifest.files.findIndex((file: Loose) => file.path === 'model.onnx')
      const file = { path: 'model.onnx.data', role: 'weights', size: 0, sha256: toHex(sha256(new Uint8Array())) }
      manifest.files.splice(at + 1, 0, file)
    })
    const listed = await loadModelPackage(directory)
    await expect(createOrtEngine(listed)).rejects.toThrowError(hasCode('package.unusable'))
  })

  it('no graph at all', async () => {
    await rewriteManifest((manifest) => {
      manifest.files = manifest.files.filter((file: Loose) => file.role !== 'graph')
    })
    const modelPackage = await loadModelPackage(directory)
    await expect(createOrtEngine(modelPackage)).rejects.toThrowError(hasCode('package.unusable'))
  })
})

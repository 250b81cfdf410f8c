/**
 * A model's own files, for servers that load them as they are. Whatever decides what is computed (weights, and the
 * configuration beside them) counts as weights, so that the weights digest names it.
 */
import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ModelFile } from '../../enclave/inference/package.js'
import { broken, openRegular } from './model-file.js'

/** Of a Hugging Face folder. Tokenizer and template are the importer's to write; code, and formats that hold code, stay out. */
const OF_A_FOLDER =
  /^(config|generation_config|special_tokens_map|added_tokens|vocab)\.json$|^merges\.txt$|\.safetensors(\.index\.json)?$/

/** Copies a GGUF file, or what a server needs of a folder. @throws ModelFileError. */
export async function copyOriginals(from: string, directory: string): Promise<ModelFile[]> {
  if (from.endsWith('.onnx'))
    throw broken(`${from}: expected a GGUF file or a folder, which servers load; got an ONNX file`)
  if (!(await stat(from)).isDirectory()) return [await copy(from, directory, 'model.gguf')]
  const names = (await readdir(from)).filter((name) => OF_A_FOLDER.test(name)).sort()
  if (!names.some((name) => name.endsWith('.safetensors'))) throw broken(`${from}: has no *.safetensors file`)
  const files: ModelFile[] = []
  for (const name of names) files.push(await copy(join(from, name), directory, name))
  return files
}

async function copy(from: string, directory: string, path: string): Promise<ModelFile> {
  const hash = createHash('sha256')
  let size = 0
  const watch = new Transform({
    transform(piece: Buffer, _, done) {
      hash.update(piece)
      size += piece.length
      done(null, piece)
    },
  })
  // The stream closes the file.
  const { file } = await openRegular(from, from)
  await pipeline(file.createReadStream(), watch, createWriteStream(join(directory, path), { flags: 'wx' }))
  return { path, role: 'weights', size, sha256: hash.digest('hex') }
}

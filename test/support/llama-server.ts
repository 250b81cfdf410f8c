/**
 * llama.cpp's own server with a real model, for whoever has one: SUBROSA_LLAMA_SERVER names the program, which takes
 * llama-server's arguments (`llama-server.py` beside this file makes one of a Python package). The model is the one that
 * `subrosa model fetch` brings.
 */
import { chmod, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { computeWeightsRoot } from '../../enclave/inference/package.js'
import type { ServeOptions } from '../../enclave/serve.js'
import { fetchSmolLm2 } from '../../scripts/model/fetch.js'
import { importModel } from '../../scripts/model/import.js'
import { toHex } from '../../verifier/protocol/bytes.js'

export const LLAMA_SERVER = process.env['SUBROSA_LLAMA_SERVER']

export async function llamaServer(): Promise<{ options: ServeOptions; model: { digests: string[] } }> {
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-llama-'))
  // It runs as a user of its own.
  await chmod(folder, 0o777)
  const directory = join(folder, 'model')
  const { manifest } = await importModel(await fetchSmolLm2(), directory, {
    format: 'original',
    id: 'smollm2',
    license: 'Apache-2.0',
    contextLength: 512,
  })
  const listen = join(folder, 'engine.sock')
  const server = {
    kind: 'llama.cpp',
    version: '1.0',
    program: LLAMA_SERVER,
    arguments: [
      ...['--model', join(directory, 'model.gguf'), '--host', listen, '--alias', 'smollm2', '--jinja'],
      ...['--embeddings', '--pooling', 'last'],
      ...['--ctx-size', '2048', '--parallel', '4', '--no-cache-prompt', '--no-slots', '--log-disable'],
      '--cache-ram=0',
    ],
    listen,
    model: 'smollm2',
    embeddings: true,
    uid: 65_534,
    gid: 65_534,
  }
  return {
    options: { modelDirectory: directory, server },
    model: { digests: [toHex(computeWeightsRoot(manifest))] },
  }
}

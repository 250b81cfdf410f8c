/** Ed25519 public keys that a command line names by file: a model's owner, an operator. */
import { createPublicKey } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { type Bytes, fromBase64Url } from '../verifier/protocol/bytes.js'
import { WorkerError } from './errors.js'

/** The raw key, 32 bytes, of a PEM file. @throws WorkerError `worker.option` naming the option, on anything else. */
export async function loadPublicKey(option: string, file: string): Promise<Bytes> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new WorkerError('worker.option', `${option}: cannot read ${file}`, { cause })
  })
  try {
    if (text.includes('PRIVATE')) throw new TypeError('a private key')
    const { crv, x = '' } = createPublicKey(text).export({ format: 'jwk' })
    if (crv === 'Ed25519') return fromBase64Url(x)
  } catch {
    // Falls through to the one sentence below.
  }
  throw new WorkerError('worker.option', `${option}: expected an Ed25519 public key in PEM, got something else`)
}

/**
 * Sealed model packages (PROTOCOL.md §8): a package whose graph and weights lie there encrypted, each file as `PATH.age` in the
 * age format (c2sp.org/age), while the manifest, tokenizer and template are in the clear. The manifest names sizes and
 * digests of the plaintext, so a sealed package has the digests of the open one, and what a key opens is checked against
 * them before it is used.
 */
import { Decrypter, Encrypter } from 'age-encryption'
import { type Bytes, toBytes } from '../../verifier/protocol/bytes.js'
import { EngineError } from './errors.js'
import {
  checkFile,
  expectThere,
  isMeasuredRole,
  loadManifest,
  type ModelFile,
  type ModelManifest,
  type ModelPackage,
  readListed,
  readUpTo,
} from './package.js'

export const SEALED_SUFFIX = '.age'
/** First line of every age file. */
export const SEALED_MAGIC = 'age-encryption.org/v1\n'
/** age's header for a few recipients; a post-quantum stanza is 1.6 kB. */
const MAX_HEADER_BYTES = 16 * 1024
/** age's STREAM: each 64 KiB of plaintext gets 16 bytes; there is one nonce of 16 bytes. */
const CHUNK_BYTES = 64 * 1024
const TAG_BYTES = 16

export interface SealedPackage {
  readonly manifest: ModelManifest
  readonly manifestDigest: Bytes
  /** The files in the clear, checked; enough for the tokenizer and the template. */
  readonly files: ReadonlyMap<string, Bytes>
  /**
   * Reads, decrypts and checks what is sealed. Nothing of it stays behind when this fails.
   * @throws EngineError `package.sealed` when the identity does not open it, or as `loadModelPackage`.
   */
  open(identity: string): Promise<ModelPackage>
}

/** @throws EngineError as `loadModelPackage`. */
export async function loadSealedPackage(directory: string): Promise<SealedPackage> {
  const { manifest, manifestDigest } = await loadManifest(directory)
  const clear = new Map<string, Bytes>()
  for (const file of manifest.files) {
    if (!isMeasuredRole(file.role)) clear.set(file.path, await readListed(directory, file))
    // So that a package that was never sealed is refused at the start, not when a key comes.
    else await expectThere(directory, file.path + SEALED_SUFFIX)
  }
  return {
    manifest,
    manifestDigest,
    files: clear,
    async open(identity) {
      const files = new Map<string, Bytes>()
      for (const file of manifest.files) {
        const bytes = clear.get(file.path) ?? (await openFile(directory, file, identity))
        files.set(file.path, bytes)
      }
      return { manifest, manifestDigest, files }
    },
  }
}

/** One file for one recipient, as its `.age`. */
export async function sealFile(plaintext: Uint8Array, recipient: string): Promise<Uint8Array> {
  const encrypter = new Encrypter()
  encrypter.addRecipient(recipient)
  return encrypter.encrypt(plaintext)
}

async function openFile(directory: string, file: ModelFile, identity: string): Promise<Bytes> {
  const sealed = await readUpTo(directory, file.path + SEALED_SUFFIX, mostSealedBytes(file.size))
  let plaintext: Bytes
  try {
    const decrypter = new Decrypter()
    decrypter.addIdentity(identity)
    plaintext = toBytes(await decrypter.decrypt(sealed))
  } catch (cause) {
    throw new EngineError('package.sealed', `${file.path}${SEALED_SUFFIX}: that key does not open it`, { cause })
  }
  checkFile(file, plaintext)
  return plaintext
}

/** The most bytes that a `.age` of `size` bytes of plaintext may have. */
export function mostSealedBytes(size: number): number {
  return MAX_HEADER_BYTES + size + TAG_BYTES * (2 + Math.ceil(size / CHUNK_BYTES))
}

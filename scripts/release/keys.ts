/**
 * Keys that sign notes (c2sp.org/signed-note), offline: a private key is one line in a file of its own and is read only to
 * sign. Witness keys exist here for tests; this project runs no witness.
 */
import { createPrivateKey, createPublicKey, type KeyObject, randomBytes, sign } from 'node:crypto'
import { fromBase64, toBase64 } from '../../verifier/protocol/bytes.js'
import {
  addSignature,
  cosignedMessage,
  encodeNoteKey,
  type KeyType,
  type NoteKey,
  parseNoteKey,
} from '../../verifier/release/note.js'

export interface SigningKey {
  /** What verifiers are given. */
  readonly text: string
  readonly public: NoteKey
  readonly privateKey: KeyObject
}

const PREFIX = 'PRIVATE+KEY+'
/** DER of a PKCS #8 Ed25519 key (RFC 8410 §7) up to the seed. */
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex')

/** A new key, from 32 random bytes or the ones given. */
export function createSigningKey(name: string, type: KeyType = 'note', seed: Uint8Array = randomBytes(32)): SigningKey {
  const privateKey = createPrivateKey({ key: Buffer.concat([PKCS8, seed]), format: 'der', type: 'pkcs8' })
  const { x = '' } = createPublicKey(privateKey).export({ format: 'jwk' })
  const text = encodeNoteKey(name, type, Buffer.from(x, 'base64url'))
  return { text, public: parseNoteKey(text), privateKey }
}

/** One line: `PRIVATE+KEY+<name>+<hash>+<base64 of type and seed>`. */
export function encodePrivateKey({ text, privateKey }: SigningKey): string {
  const { d = '' } = privateKey.export({ format: 'jwk' })
  const [name = '', hash = '', ...key] = text.split('+')
  const type = fromBase64(key.join('+')).slice(0, 1)
  return `${PREFIX}${name}+${hash}+${toBase64(Buffer.concat([type, Buffer.from(d, 'base64url')]))}\n`
}

/** @throws TypeError on anything but such a line. */
export function parsePrivateKey(text: string): SigningKey {
  const [name = '', hash = '', ...rest] = text.trim().slice(PREFIX.length).split('+')
  const value = text.startsWith(PREFIX) ? fromBase64(rest.join('+')) : new Uint8Array()
  if (value.length !== 33 || (value[0] !== 1 && value[0] !== 4))
    throw new TypeError('expected PRIVATE+KEY+name+hash+key')
  const key = createSigningKey(name, value[0] === 1 ? 'note' : 'cosignature', value.slice(1))
  if (key.text.split('+')[1] !== hash) throw new TypeError(`${name}: the hash is not this key’s`)
  return key
}

/** The text with a signature by each key. */
export function signNote(text: string, ...keys: readonly SigningKey[]): string {
  return keys.reduce((note, { public: key, privateKey }) => {
    const before = note.slice(text.length + 1)
    return addSignature(text, before, key, sign(null, Buffer.from(text), privateKey))
  }, '')
}

/** A checkpoint with one more signature, by a witness that saw it at `seconds` since 1970. */
export function cosign(note: string, key: SigningKey, seconds: number): string {
  const split = note.lastIndexOf('\n\n')
  const [text, before] = [note.slice(0, split + 1), note.slice(split + 2)]
  const time = Buffer.alloc(8)
  time.writeBigUInt64BE(BigInt(seconds))
  const signature = sign(null, cosignedMessage(BigInt(seconds), text), key.privateKey)
  return addSignature(text, before, key.public, Buffer.concat([time, signature]))
}

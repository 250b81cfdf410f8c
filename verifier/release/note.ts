/**
 * Signed notes (c2sp.org/signed-note) and cosignatures (c2sp.org/tlog-cosignature): a text, a blank line, and one line for
 * each signature. Ed25519 keys only (types 0x01 and 0x04). Lines of keys nobody asked about are ignored, as the format
 * wants; a malformed line, two signatures of one key, and control characters in the text are refused.
 */
import {
  type Bytes,
  concat,
  equalBytes,
  fromBase64,
  fromHex,
  fromUtf8,
  toBase64,
  toHex,
  utf8,
} from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha256 } from '../protocol/hash.js'
import { verifyEd25519 } from '../protocol/key-configuration.js'

/** What a key signs: notes, or checkpoints as a witness of a log. */
export type KeyType = 'note' | 'cosignature'

/** A verifier key: `<name>+<hash>+<base64 of type and key>`. */
export interface NoteKey {
  readonly name: string
  readonly type: KeyType
  /** Raw Ed25519, 32 bytes. */
  readonly publicKey: Bytes
  /** First 4 bytes of SHA-256(name, line feed, type, key). A hint for finding the signature, and no proof. */
  readonly hash: Bytes
}

export interface Note {
  /** What is signed, its last line feed included. */
  readonly text: string
  readonly signatures: readonly { readonly name: string; readonly hash: Bytes; readonly signature: Bytes }[]
}

const TYPE_BYTES: Readonly<Record<KeyType, number>> = { note: 0x01, cosignature: 0x04 }
const MAX_NOTE_BYTES = 64 * 1024
const MAX_SIGNATURES = 64
const HASH_BYTES = 4
const NAME = /^[^\s+]{1,100}$/u

/** @throws FormatError on anything but one Ed25519 verifier key whose hash is its own. */
export function parseNoteKey(text: string): NoteKey {
  const [name = '', hashText = '', ...rest] = text.trim().split('+')
  // Base64 may itself contain a plus sign.
  const key = fromBase64(rest.join('+'))
  const type = (Object.keys(TYPE_BYTES) as KeyType[]).find((one) => TYPE_BYTES[one] === key[0])
  if (!NAME.test(name) || !/^[0-9a-f]{8}$/.test(hashText)) throw malformed('key', 'expected name+hash+key')
  if (type === undefined || key.length !== 33) throw malformed('key', `${name}: expected an Ed25519 key`)
  const hash = keyHash(name, key)
  if (!equalBytes(hash, fromHex(hashText))) throw malformed('key', `${name}: the hash is not this key’s`)
  return { name, type, publicKey: key.slice(1), hash }
}

/** The text form of a key. */
export function encodeNoteKey(name: string, type: KeyType, publicKey: Uint8Array): string {
  const key = concat(new Uint8Array([TYPE_BYTES[type]]), publicKey)
  return `${name}+${toHex(keyHash(name, key))}+${toBase64(key)}`
}

function keyHash(name: string, typedKey: Uint8Array): Bytes {
  return sha256(concat(utf8(`${name}\n`), typedKey)).slice(0, HASH_BYTES)
}

/** @throws FormatError on anything but one signed note. */
export function parseNote(bytes: Uint8Array): Note {
  if (bytes.length > MAX_NOTE_BYTES) throw malformed('note', `${bytes.length} bytes, at most ${MAX_NOTE_BYTES}`)
  const all = fromUtf8(bytes)
  if (/[\u0000-\u0009\u000b-\u001f\u007f]/.test(all)) throw malformed('note', 'control characters in the text')
  const split = all.lastIndexOf('\n\n')
  if (split < 0 || !all.endsWith('\n')) throw malformed('note', 'expected a text, a blank line and signatures')
  const lines = all.slice(split + 2, -1).split('\n')
  if (lines.length > MAX_SIGNATURES) throw malformed('note', `${lines.length} signatures, at most ${MAX_SIGNATURES}`)
  const signatures = lines.map(parseSignature)
  const owners = new Set(signatures.map(({ name, hash }) => `${name} ${toHex(hash)}`))
  if (owners.size !== signatures.length) throw malformed('note', 'two signatures of one key')
  return { text: all.slice(0, split + 1), signatures }
}

function parseSignature(line: string): Note['signatures'][number] {
  const [, name = '', encoded = ''] = /^\u2014 (\S+) (\S+)$/u.exec(line) ?? []
  if (!NAME.test(name)) throw malformed('note', 'a line that is no signature')
  const value = fromBase64(encoded)
  if (value.length <= HASH_BYTES) throw malformed('note', 'a signature without a value')
  return { name, hash: value.slice(0, HASH_BYTES), signature: value.slice(HASH_BYTES) }
}

/** Whether this key signed the note. */
export async function isNoteSignedBy(note: Note, key: NoteKey): Promise<boolean> {
  const found = note.signatures.find(({ name, hash }) => name === key.name && equalBytes(hash, key.hash))
  if (found === undefined) return false
  if (key.type === 'note') return verifyEd25519(key.publicKey, found.signature, utf8(note.text))
  return (await cosignedAt(note, key)) !== undefined
}

/** When a witness says it saw this checkpoint, in seconds since 1970; undefined when it does not say so. */
export async function cosignedAt(note: Note, key: NoteKey): Promise<number | undefined> {
  const found = note.signatures.find(({ name, hash }) => name === key.name && equalBytes(hash, key.hash))
  if (found === undefined || key.type !== 'cosignature' || found.signature.length !== 8 + 64) return undefined
  const time = new DataView(found.signature.buffer, found.signature.byteOffset).getBigUint64(0, false)
  const holds = await verifyEd25519(key.publicKey, found.signature.slice(8), cosignedMessage(time, note.text))
  return holds ? Number(time) : undefined
}

/** What a witness signs: a header, the time, and the checkpoint. */
export function cosignedMessage(time: bigint, checkpoint: string): Bytes {
  return utf8(`cosignature/v1\ntime ${time}\n${checkpoint}`)
}

/** A note with one more signature; `signature` is the raw value without the key hash. */
export function addSignature(text: string, before: string, key: NoteKey, signature: Uint8Array): string {
  return `${text}\n${before}\u2014 ${key.name} ${toBase64(concat(key.hash, signature))}\n`
}

function malformed(what: 'key' | 'note', reason: string): FormatError {
  return new FormatError(`release.${what}`, `signed note ${what === 'key' ? 'key' : ''}: ${reason}`.replace(' :', ':'))
}

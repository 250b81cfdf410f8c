/**
 * Transparency log checkpoints (c2sp.org/tlog-checkpoint) and offline inclusion proofs (c2sp.org/tlog-proof@v1), over the
 * Merkle tree of RFC 9162 §2.1. An entry is the exact bytes of a signed release manifest.
 */
import { type Bytes, fromBase64, fromUtf8, toBase64, utf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { type InclusionProof, MAX_LEAVES } from '../protocol/merkle.js'
import { type Note, parseNote } from './note.js'

export interface Checkpoint {
  /** The log's name. */
  readonly origin: string
  readonly size: number
  /** 32 bytes; of an empty log, SHA-256 of nothing. */
  readonly root: Bytes
  readonly note: Note
}

export interface TlogProof {
  readonly inclusion: InclusionProof
  readonly checkpoint: Checkpoint
}

const PROOF_HEADER = 'c2sp.org/tlog-proof@v1'
const MAX_PROOF_BYTES = 64 * 1024
const MAX_PATH = 16
const DECIMAL = /^(0|[1-9][0-9]{0,9})$/

/** @throws FormatError on anything but one signed checkpoint of at most 65,536 entries. */
export function parseCheckpoint(bytes: Uint8Array): Checkpoint {
  const note = parseNote(bytes)
  const [origin = '', size = '', root = '', ...extensions] = note.text.split('\n')
  if (origin === '' || !DECIMAL.test(size) || extensions.at(-1) !== '' || extensions.slice(0, -1).includes('')) {
    throw malformed('checkpoint: expected origin, size and root')
  }
  const hash = fromBase64(root)
  if (hash.length !== 32) throw malformed('checkpoint: a root has 32 bytes')
  if (Number(size) > MAX_LEAVES) throw malformed(`checkpoint: ${size} entries, at most ${MAX_LEAVES}`)
  return { origin, size: Number(size), root: hash, note }
}

export function encodeCheckpoint({ origin, size, root }: Pick<Checkpoint, 'origin' | 'size' | 'root'>): string {
  return `${origin}\n${size}\n${toBase64(root)}\n`
}

/** @throws FormatError on anything but one proof. An `extra` line is read and means nothing here. */
export function parseTlogProof(bytes: Uint8Array): TlogProof {
  if (bytes.length > MAX_PROOF_BYTES) throw malformed(`${bytes.length} bytes, at most ${MAX_PROOF_BYTES}`)
  const text = fromUtf8(bytes)
  const blank = text.indexOf('\n\n')
  if (blank < 0) throw malformed('expected a proof, a blank line and a checkpoint')
  const [header, ...lines] = text.slice(0, blank).split('\n')
  if (header !== PROOF_HEADER) throw malformed(`expected ${PROOF_HEADER}`)
  if (lines[0]?.startsWith('extra ') === true) fromBase64(lines.shift()?.slice('extra '.length) ?? '')
  const index = /^index (\S+)$/.exec(lines.shift() ?? '')?.[1] ?? ''
  if (!DECIMAL.test(index)) throw malformed('expected the entry’s index')
  if (lines.length > MAX_PATH) throw malformed(`${lines.length} hashes, at most ${MAX_PATH}`)
  const path = lines.map((line) => fromBase64(line))
  const checkpoint = parseCheckpoint(utf8(text.slice(blank + 2)))
  return { inclusion: { index: Number(index), size: checkpoint.size, path }, checkpoint }
}

export function encodeTlogProof(
  { index, path }: Pick<InclusionProof, 'index' | 'path'>,
  checkpoint: Uint8Array,
): Bytes {
  const hashes = path.map((hash) => `${toBase64(hash)}\n`).join('')
  return utf8(`${PROOF_HEADER}\nindex ${index}\n${hashes}\n${fromUtf8(checkpoint)}`)
}

function malformed(what: string): FormatError {
  return new FormatError('release.log', `log: ${what}`)
}

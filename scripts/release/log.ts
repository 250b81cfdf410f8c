/**
 * The writer of a release log (c2sp.org/tlog-tiles) in a folder that any web server can serve: tiles of 256 hashes, bundles of
 * entries, and a signed checkpoint. It only ever appends to a log it has checked: whole entries, their root, and its own
 * signature on the checkpoint. A folder that was altered is refused, so that mending it cannot become a fork.
 */
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Bytes, concat, equalBytes, toBytes, utf8 } from '../../verifier/protocol/bytes.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { inclusionProof, leafHash, merkleRoot } from '../../verifier/protocol/merkle.js'
import { encodeCheckpoint, encodeTlogProof, parseCheckpoint } from '../../verifier/release/log.js'
import { isNoteSignedBy, type NoteKey } from '../../verifier/release/note.js'
import { type SigningKey, signNote } from './keys.js'

const TILE = 256
const MAX_ENTRY_BYTES = 0xffff

/** @throws Error when there is a log already. */
export async function createLog(folder: string, key: SigningKey): Promise<void> {
  await mkdir(folder, { recursive: true })
  const text = signNote(encodeCheckpoint({ origin: key.public.name, size: 0, root: sha256(new Uint8Array()) }), key)
  await writeFile(join(folder, 'checkpoint'), text, { flag: 'wx' })
}

/** Every entry, after checking that the folder is whole. @throws Error naming what is wrong. */
export async function readLog(folder: string, key: NoteKey): Promise<readonly Bytes[]> {
  const checkpoint = parseCheckpoint(await readFile(join(folder, 'checkpoint')))
  if (checkpoint.origin !== key.name || !(await isNoteSignedBy(checkpoint.note, key))) {
    throw new Error(`${folder}: the checkpoint is not signed by ${key.name}`)
  }
  const entries: Bytes[] = []
  for (let tile = 0; tile * TILE < checkpoint.size; tile++) {
    const width = Math.min(TILE, checkpoint.size - tile * TILE)
    entries.push(
      ...splitEntries(toBytes(new Uint8Array(await readFile(join(folder, tilePath('entries', tile, width)))))),
    )
  }
  const root = entries.length === 0 ? sha256(new Uint8Array()) : merkleRoot(entries)
  if (entries.length !== checkpoint.size || !equalBytes(root, checkpoint.root)) {
    throw new Error(`${folder}: the entries are not those of the checkpoint`)
  }
  return entries
}

/** Appends one entry and returns its index; an entry that is there already is not added again. */
export async function appendEntry(folder: string, entry: Bytes, key: SigningKey): Promise<number> {
  if (entry.length === 0 || entry.length > MAX_ENTRY_BYTES)
    throw new Error(`an entry has 1 to ${MAX_ENTRY_BYTES} bytes`)
  return alone(folder, async () => {
    const before = await readLog(folder, key.public)
    const known = before.findIndex((one) => equalBytes(one, entry))
    if (known >= 0) return known
    const entries = [...before, entry]
    await writeTiles(folder, entries)
    const { name } = key.public
    const text = signNote(encodeCheckpoint({ origin: name, size: entries.length, root: merkleRoot(entries) }), key)
    // Last, and whole: until then readers see the log as it was.
    await writeWhole(join(folder, 'checkpoint'), utf8(text))
    return before.length
  })
}

/** Two writers at once would each sign a different tree of one size, which is a fork. @throws Error when there is another. */
async function alone<T>(folder: string, write: () => Promise<T>): Promise<T> {
  const lock = join(folder, '.writing')
  try {
    await writeFile(lock, '', { flag: 'wx' })
  } catch (cause) {
    throw new Error(`${lock} is there: somebody is writing, or stopped halfway; take it away when nobody is`, { cause })
  }
  try {
    return await write()
  } finally {
    await rm(lock)
  }
}

/** An offline proof for the entry, under the log's checkpoint as it stands, cosignatures included. */
export async function proveEntry(folder: string, entry: Bytes, key: NoteKey): Promise<Bytes> {
  const entries = await readLog(folder, key)
  const index = entries.findIndex((one) => equalBytes(one, entry))
  if (index < 0) throw new Error(`${folder}: the log has no such entry`)
  return encodeTlogProof(inclusionProof(entries, index), await readFile(join(folder, 'checkpoint')))
}

async function writeTiles(folder: string, entries: readonly Bytes[]): Promise<void> {
  const last = Math.floor((entries.length - 1) / TILE)
  const bundled = entries.slice(last * TILE).map((entry) => concat(u16(entry.length), entry))
  await writeWhole(join(folder, tilePath('entries', last, bundled.length)), concat(...bundled))
  let hashes: readonly Bytes[] = entries.map(leafHash)
  for (let level = 0; hashes.length > 0; level++) {
    const tile = Math.floor((hashes.length - 1) / TILE)
    const part = hashes.slice(tile * TILE)
    await writeWhole(join(folder, tilePath(String(level), tile, part.length)), concat(...part))
    // A tile of the next level has the root of each full tile of this one.
    const full = Math.floor(entries.length / TILE ** (level + 1))
    hashes = Array.from({ length: full }, (_, i) => {
      const width = TILE ** (level + 1)
      return merkleRoot(entries.slice(i * width, (i + 1) * width))
    })
  }
}

/** `tile/<level>/x001/x234/067`, and `.p/<width>` behind a tile that is not full. */
export function tilePath(level: string, index: number, width: number): string {
  const groups = [String(index % 1000).padStart(3, '0')]
  for (let rest = Math.floor(index / 1000); rest > 0; rest = Math.floor(rest / 1000)) {
    groups.unshift(`x${String(rest % 1000).padStart(3, '0')}`)
  }
  return `tile/${level}/${groups.join('/')}${width === TILE ? '' : `.p/${width}`}`
}

function splitEntries(bundle: Bytes): readonly Bytes[] {
  const entries: Bytes[] = []
  for (let at = 0; at < bundle.length; ) {
    const size = ((bundle[at] ?? 0) << 8) | (bundle[at + 1] ?? 0)
    entries.push(bundle.slice(at + 2, at + 2 + size))
    at += 2 + size
  }
  return entries
}

function u16(value: number): Bytes {
  return new Uint8Array([value >> 8, value & 0xff])
}

async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(`${path}.new`, bytes)
  await rename(`${path}.new`, path)
}

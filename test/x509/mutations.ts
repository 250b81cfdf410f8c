/** Certificates and CRLs changed in small ways: in their bytes, or in their structure with every length made to fit. */
import fc from 'fast-check'
import { constructed, type DerNode, placesIn, primitive, readTree, writeTree } from './der-tree.js'

/** Elements with something unusual about them, to be put in place of others or beside them. */
const ELEMENTS: readonly (() => DerNode)[] = [
  ...[[0x00], [0xff], [0x01], []].map((content) => () => primitive(0x01, content)),
  ...[[1], [0x7f, 1, 2, 3], [0xff], [0, 1], []].map((content) => () => primitive(0x02, content)),
  ...[[], [0], [1, 6], [7, 0x80], [0, 6, 0x80, 1], [8, 0]].map((content) => () => primitive(0x03, content)),
  ...[[], [0x30, 0x00]].map((content) => () => primitive(0x04, content)),
  ...[[], [0]].map((content) => () => primitive(0x05, content)),
  ...[[0x55, 4, 3], [], [0x80, 1], [0x55, 0x84]].map((content) => () => primitive(0x06, content)),
  ...['Name', '', '\xc3\xa9', '\xc3\x28'].flatMap((text) => [
    () => primitive(0x0c, text),
    () => primitive(0x13, text),
    () => primitive(0x14, text),
    () => primitive(0x16, text),
    () => primitive(0x1c, text),
    () => primitive(0x1e, text),
  ]),
  ...['250101000000Z', '2501010000Z', '251301000000Z'].map((text) => () => primitive(0x17, text)),
  ...['20250101000000Z', '20250101000000.5Z', '2025'].map((text) => () => primitive(0x18, text)),
  ...[0x30, 0x31, 0x24, 0x23, 0x2c, 0xa0, 0xa1].map((tag) => () => constructed(tag)),
  ...[0x00, 0x08, 0x09, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x19, 0x1b].map((tag) => () => primitive(tag, [1])),
  ...[[0, 1], [], [9, 1]].flatMap((content) => [() => primitive(0x81, content), () => primitive(0x82, content)]),
  () => constructed(0xa0, primitive(0x02, [2])),
  () => constructed(0xa3, constructed(0x30)),
]

const TAGS = [
  ...new Set(ELEMENTS.map((element) => element().tag)),
  0x12,
  0x1a,
  0x22,
  0x80,
  0x83,
  0xa2,
  0x40,
  0xc0,
  0x1f,
]

/** One of the items, changed in one to three places of its bytes or of its structure, or cut short. */
export function mutationOf(items: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const item = fc.constantFrom(...items)
  const place = fc.nat({ max: 2 ** 31 - 1 })
  const edit = fc.record({
    at: place,
    other: place,
    change: fc.constantFrom(...CHANGES),
    element: fc.constantFrom(...ELEMENTS),
    tag: fc.constantFrom(...TAGS),
    byte: fc.nat(255),
  })
  return fc.oneof(
    fc
      .tuple(item, fc.array(fc.record({ at: place, byte: fc.nat(255) }), { minLength: 1, maxLength: 3 }))
      .map(flipBytes),
    fc.tuple(item, place).map(([bytes, at]) => bytes.subarray(0, at % bytes.length)),
    { weight: 4, arbitrary: fc.tuple(item, fc.array(edit, { minLength: 1, maxLength: 2 })).map(rearrange) },
  )
}

function flipBytes([item, edits]: [Uint8Array, readonly { at: number; byte: number }[]]): Uint8Array {
  const out = new Uint8Array(item)
  for (const { at, byte } of edits) out[at % out.length] = byte
  return out
}

interface Edit {
  readonly at: number
  readonly other: number
  readonly change: (place: { siblings: DerNode[]; index: number }, edit: Edit) => void
  readonly element: () => DerNode
  readonly tag: number
  readonly byte: number
}

const CHANGES: readonly Edit['change'][] = [
  ({ siblings, index }, { tag }) => {
    const node = siblings[index]
    if (node !== undefined) siblings[index] = { ...node, tag }
  },
  ({ siblings, index }) => siblings.splice(index, 1),
  ({ siblings, index }, { element }) => siblings.splice(index, 0, element()),
  ({ siblings, index }, { element }) => siblings.splice(index + 1, 0, element()),
  ({ siblings, index }, { element }) => siblings.splice(index, 1, element()),
  ({ siblings, index }) => siblings.splice(index, 0, structuredClone(siblings[index]) as DerNode),
  ({ siblings, index }, { other }) =>
    siblings.push(...siblings.splice(index, 1), ...siblings.splice(other % siblings.length)),
  ({ siblings, index }, { other, byte }) => {
    const content = [...(siblings[index]?.content ?? [])]
    content.splice(other % (content.length + 1), byte % 2, byte)
    siblings[index] = primitive(siblings[index]?.tag ?? 0, content)
  },
  ({ siblings, index }, { other, byte }) => {
    const node = siblings[index]
    if (node === undefined || node.content.length === 0) return
    const content = new Uint8Array(node.content)
    content[other % content.length] = byte
    siblings[index] = { ...node, content, children: node.children && readTree(content) }
  },
]

function rearrange([item, edits]: [Uint8Array, readonly Edit[]]): Uint8Array {
  const [root] = readTree(item) ?? []
  if (root === undefined) throw new Error('an item is not DER')
  for (const edit of edits) {
    const places = placesIn(root)
    const place = places[edit.at % places.length]
    if (place !== undefined) edit.change(place, edit)
  }
  return writeTree(root)
}

/** DER taken apart to be put together otherwise: a mutation changes one element and every length around it follows. */

export interface DerNode {
  tag: number
  content: Uint8Array
  /** Set for constructed elements; then `content` is what they encode to. */
  children: DerNode[] | undefined
}

const MAX_LENGTH_OCTETS = 3

/** The elements in these bytes, all the way down; undefined where they are not whole elements. */
export function readTree(bytes: Uint8Array): DerNode[] | undefined {
  const nodes: DerNode[] = []
  for (let offset = 0; offset < bytes.length; ) {
    const [tag = 0, first] = bytes.subarray(offset, offset + 2)
    if (first === undefined) return undefined
    const octets = first < 0x80 ? 0 : first - 0x80
    if (octets > MAX_LENGTH_OCTETS) return undefined
    const start = offset + 2 + octets
    const length = octets === 0 ? first : bytes.subarray(offset + 2, start).reduce((sum, byte) => sum * 256 + byte, 0)
    const content = bytes.subarray(start, start + length)
    if (content.length !== length) return undefined
    const children = (tag & 0x20) === 0 ? undefined : readTree(content)
    nodes.push({ tag, content, children })
    offset = start + length
  }
  return nodes
}

export function writeTree({ tag, content, children }: DerNode): Uint8Array {
  const body = children === undefined ? content : Buffer.concat(children.map(writeTree))
  const length: number[] = []
  for (let rest = body.length; rest > 0; rest = Math.floor(rest / 256)) length.unshift(rest % 256)
  const header = body.length < 0x80 ? [body.length] : [0x80 + length.length, ...length]
  return new Uint8Array(Buffer.concat([Buffer.of(tag, ...header), body]))
}

export function primitive(tag: number, content: Uint8Array | readonly number[] | string): DerNode {
  const bytes = typeof content === 'string' ? Buffer.from(content, 'latin1') : Uint8Array.from(content)
  return { tag, content: new Uint8Array(bytes), children: undefined }
}

export function constructed(tag: number, ...children: DerNode[]): DerNode {
  return { tag, content: new Uint8Array(), children }
}

/** Every element below this one, with where it stands. */
export function placesIn(parent: DerNode): { readonly siblings: DerNode[]; readonly index: number }[] {
  const siblings = parent.children ?? []
  return siblings.flatMap((node, index) => [{ siblings, index }, ...placesIn(node)])
}

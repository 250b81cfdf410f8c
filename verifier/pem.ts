/**
 * PEM blocks (RFC 7468): the lax parser of §3 with the explanatory text before each block kept, because a trust anchor
 * file declares there which vendor's root it is.
 *
 * Refused: a BEGIN without its END, a label that changes, anything but base64 between them, an empty block. Headers in
 * the old RFC 1421 style are refused with the rest: nothing we read carries them.
 */
import { type Bytes, fromBase64, toCharacters } from './protocol/bytes.js'
import { FormatError } from './protocol/errors.js'

export interface PemBlock {
  /** `CERTIFICATE`, `X509 CRL` … */
  readonly label: string
  readonly der: Bytes
  /** The lines between the previous block (or the start) and this one, without their line ends. */
  readonly explanatory: readonly string[]
}

const MAX_BLOCKS = 256

/** Whether the bytes contain a PEM boundary at all. */
export function looksLikePem(bytes: Uint8Array): boolean {
  return toCharacters(bytes.subarray(0, 64 * 1024)).includes('-----BEGIN ')
}

/**
 * Every block in order of appearance; none when there is none. NUL padding after the last block is ignored, as guest
 * certificate tables carry it.
 * @throws FormatError on a damaged block or more than 256 of them.
 */
export function readPem(bytes: Uint8Array): readonly PemBlock[] {
  const out: PemBlock[] = []
  let explanatory: string[] = []
  let open: { readonly label: string; readonly lines: string[] } | undefined
  // One character a byte: boundaries and base64 are ASCII, and explanatory text only has to survive being looked at.
  for (const line of toCharacters(bytes).split(/\r\n|\n|\r/)) {
    const begin = /^-----BEGIN ([A-Z0-9][A-Z0-9 ]*)-----\s*$/.exec(line)
    const end = /^-----END ([A-Z0-9][A-Z0-9 ]*)-----[\s\0]*$/.exec(line)
    if (open === undefined) {
      if (end !== null) throw new FormatError('pem.end', 'PEM block ends before it begins')
      if (begin === null) explanatory.push(line)
      else open = { label: begin[1] ?? '', lines: [] }
    } else if (begin !== null) {
      throw new FormatError('pem.begin', `PEM block ${open.label} has no end`)
    } else if (end === null) {
      open.lines.push(line)
    } else {
      if (end[1] !== open.label) throw new FormatError('pem.label', `PEM block ${open.label} ends as ${end[1]}`)
      const der = fromBase64(open.lines.join('').replace(/\s/g, ''))
      if (der.length === 0) throw new FormatError('pem.empty', `PEM block ${open.label} is empty`)
      if (out.length === MAX_BLOCKS) throw new FormatError('pem.blocks', `more than ${MAX_BLOCKS} PEM blocks`)
      out.push({ label: open.label, der, explanatory })
      explanatory = []
      open = undefined
    }
  }
  if (open !== undefined) throw new FormatError('pem.begin', `PEM block ${open.label} has no end`)
  return out
}

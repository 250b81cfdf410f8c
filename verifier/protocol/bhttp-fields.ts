/**
 * Field sections of Binary HTTP (RFC 9292 §3.6): header and trailer field lines, both framings.
 *
 * Names are lower-case tokens (RFC 9110 §5.1), values are visible bytes, spaces and tabs with none at either end
 * (§5.5), one character a byte. Refused: pseudo-fields (their colon is no token character), upper case, NUL, CR, LF and
 * other control characters, sections above the limits.
 */
import { type Bytes, concat, toCharacters } from './bytes.js'
import { FormatError } from './errors.js'
import { StreamReader, streamOf } from './streams.js'
import { encodeVarint } from './varint.js'

/** Name in lower case, value as it goes on the wire. A repeated name is a repeated line. */
export type FieldLine = readonly [name: string, value: string]

export interface FieldLimits {
  /** Most bytes of names and values in one section. */
  readonly maxFieldBytes: number
  /** Most lines in one section. */
  readonly maxFieldLines: number
}

const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/
const VALUE = /^(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?$/

/** Connection-specific fields (RFC 9110 §7.6.1) mean nothing inside an encapsulation and should not be written. */
const CONNECTION_FIELDS: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade',
])

/** The lines of a Headers object without the connection-specific ones, which RFC 9292 §3.6 says to remove. */
export function fieldLinesOf(headers: Iterable<readonly [string, string]>): FieldLine[] {
  return [...headers]
    .filter(([name]) => !CONNECTION_FIELDS.has(name.toLowerCase()))
    .map(([n, v]) => [n.toLowerCase(), v])
}

/** Known-length: varint(total) ‖ lines. @throws FormatError on a line HTTP does not allow. */
export function encodeKnownFields(lines: readonly FieldLine[]): Bytes {
  const body = concat(...lines.map(encodeLine))
  return concat(encodeVarint(body.length), body)
}

/** Indeterminate-length: lines ‖ varint(0). @throws FormatError on a line HTTP does not allow. */
export function encodeIndeterminateFields(lines: readonly FieldLine[]): Bytes {
  return concat(...lines.map(encodeLine), encodeVarint(0))
}

/** Reads a section; one that was cut away (RFC 9292 §3.8) is empty. @throws FormatError */
export async function readFields(reader: StreamReader, known: boolean, limits: FieldLimits): Promise<FieldLine[]> {
  if (await reader.ended()) return []
  if (!known) return readLines(reader, false, limits)
  const length = await reader.varint()
  // The length bytes of each line are in the total: at most 16 a line on top of the names and values.
  if (length > limits.maxFieldBytes + 16 * limits.maxFieldLines) throw tooLarge(limits)
  return readLines(new StreamReader(streamOf(await reader.take(length)), 'field section'), true, limits)
}

/** Text to bytes, one a character. @throws FormatError on a character above U+00FF. */
export function latin1(text: string): Bytes {
  const out = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 0xff) throw new FormatError('bhttp.field-value', 'expected one byte a character')
    out[i] = code
  }
  return out
}

function encodeLine([name, value]: FieldLine): Bytes {
  checkLine(name, value)
  const valueBytes = latin1(value)
  return concat(encodeVarint(name.length), latin1(name), encodeVarint(valueBytes.length), valueBytes)
}

async function readLines(reader: StreamReader, known: boolean, limits: FieldLimits): Promise<FieldLine[]> {
  const lines: FieldLine[] = []
  let budget = limits.maxFieldBytes
  const readText = async (length: number): Promise<string> => {
    budget -= length
    if (budget < 0) throw tooLarge(limits)
    return toCharacters(await reader.take(length))
  }
  while (!(known && (await reader.ended()))) {
    const nameLength = await reader.varint()
    if (nameLength === 0 && !known) return lines
    if (lines.length === limits.maxFieldLines) throw tooLarge(limits)
    const name = await readText(nameLength)
    const value = await readText(await reader.varint())
    checkLine(name, value)
    lines.push([name, value])
  }
  return lines
}

function checkLine(name: string, value: string): void {
  if (!NAME.test(name)) throw new FormatError('bhttp.field-name', 'field name: expected a lower-case token')
  if (!VALUE.test(value)) throw new FormatError('bhttp.field-value', `field value: forbidden character in ${name}`)
}

function tooLarge({ maxFieldBytes, maxFieldLines }: FieldLimits): FormatError {
  return new FormatError(
    'bhttp.fields-too-large',
    `more than ${maxFieldLines} fields or ${maxFieldBytes} bytes of them`,
  )
}

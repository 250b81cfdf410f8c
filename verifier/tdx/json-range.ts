/**
 * Where one member of a JSON object begins and ends, in bytes (RFC 8259). Intel signs the inner object of a collateral
 * response exactly as served, so what is verified, and then read, must be those very bytes and never a re-serialisation.
 *
 * Refused: a member name that appears twice in any object (two readers could then pick different values), nesting beyond
 * 32 levels, anything after the object but white space, ill-formed JSON or UTF-8, more than 1 MiB.
 */
import { type Bytes, fromUtf8, utf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'

export interface JsonMember {
  /** From the first to the last byte of the member's value, as received. */
  readonly bytes: Bytes
  readonly value: unknown
}

const MAX_BYTES = 1024 * 1024
const MAX_DEPTH = 32

/** The members of the one object these bytes are, each with its exact bytes. @throws FormatError as said above. */
export function readJsonMembers(bytes: Bytes, what: string): ReadonlyMap<string, JsonMember> {
  if (bytes.length > MAX_BYTES) throw malformed(what, `${bytes.length} bytes, at most ${MAX_BYTES}`)
  const text = fromUtf8(bytes)
  const ranges = new Scanner(text, what).object()
  // The scanner knows structure; JSON.parse holds every token to the grammar.
  const parsed = parse(text, what)
  const ascii = text.length === bytes.length
  return new Map(
    [...ranges].map(([name, [start, end]]) => {
      const slice = text.slice(start, end)
      const member = { bytes: ascii ? new Uint8Array(bytes.subarray(start, end)) : utf8(slice), value: parsed[name] }
      return [name, member]
    }),
  )
}

class Scanner {
  readonly #text: string
  readonly #what: string
  #at = 0

  constructor(text: string, what: string) {
    this.#text = text
    this.#what = what
  }

  /** Ranges of the outer object's member values; everything below is only checked. */
  object(): ReadonlyMap<string, readonly [start: number, end: number]> {
    this.#space()
    const out = this.#members(1)
    this.#space()
    if (this.#at !== this.#text.length) throw malformed(this.#what, `unexpected bytes at offset ${this.#at}`)
    return out
  }

  #members(depth: number): ReadonlyMap<string, readonly [start: number, end: number]> {
    if (depth > MAX_DEPTH) throw malformed(this.#what, 'nested too deeply')
    this.#expect('{')
    const out = new Map<string, readonly [number, number]>()
    if (this.#take('}')) return out
    do {
      this.#space()
      const name = String(parse(this.#string(), this.#what))
      if (out.has(name)) throw malformed(this.#what, `member "${name.slice(0, 40)}" appears twice`)
      this.#space()
      this.#expect(':')
      this.#space()
      const start = this.#at
      this.#value(depth)
      out.set(name, [start, this.#at])
    } while (this.#take(','))
    this.#expect('}')
    return out
  }

  #value(depth: number): void {
    const first = this.#text[this.#at]
    if (first === '{') this.#members(depth + 1)
    else if (first === '[') this.#array(depth + 1)
    else if (first === '"') this.#string()
    else {
      const start = this.#at
      while (/[-+.\w]/.test(this.#text[this.#at] ?? '')) this.#at++
      if (this.#at === start) throw malformed(this.#what, `unexpected character at offset ${start}`)
    }
  }

  #array(depth: number): void {
    if (depth > MAX_DEPTH) throw malformed(this.#what, 'nested too deeply')
    this.#expect('[')
    if (this.#take(']')) return
    do {
      this.#space()
      this.#value(depth)
    } while (this.#take(','))
    this.#expect(']')
  }

  /** The token with its quotes. An escape is two characters here; which escapes exist is JSON.parse's business. */
  #string(): string {
    const start = this.#at
    this.#expect('"')
    for (;;) {
      const character = this.#text[this.#at]
      if (character === undefined) throw malformed(this.#what, 'unterminated string')
      this.#at += character === '\\' ? 2 : 1
      if (character === '"') return this.#text.slice(start, this.#at)
    }
  }

  #space(): void {
    while (' \t\n\r'.includes(this.#text[this.#at] ?? 'x')) this.#at++
  }

  #take(character: string): boolean {
    this.#space()
    if (this.#text[this.#at] !== character) return false
    this.#at++
    return true
  }

  #expect(character: string): void {
    if (!this.#take(character)) throw malformed(this.#what, `expected ${character} at offset ${this.#at}`)
  }
}

function parse(text: string, what: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch (cause) {
    throw new FormatError('json.invalid', `${what}: not well-formed JSON`, { cause })
  }
}

function malformed(what: string, reason: string): FormatError {
  return new FormatError('json.malformed', `${what}: ${reason}`)
}

/**
 * The root of every error this package throws, and the one error that hostile bytes may raise.
 *
 * Match on `code`, never on message text. Messages are lower case, say what was expected and what came, and never
 * contain a prompt, an answer, a key or a body.
 */
export class SubrosaError extends Error {
  /** Stable, dotted, lower case. */
  readonly code: string

  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = new.target.name
    this.code = code
  }
}

/**
 * Bytes from the other side do not have the format they must have. Parsers throw this and nothing else.
 * What to do: treat the input as malformed; retrying with the same bytes cannot help.
 */
export class FormatError extends SubrosaError {}

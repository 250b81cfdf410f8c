/** Errors a caller of the verifier can cause or meet. Hostile evidence never throws: it becomes failed checks. */
import { SubrosaError } from './protocol/errors.js'

export { FormatError, SubrosaError } from './protocol/errors.js'

/** The policy document cannot be used. What to do: mend the named line; nothing was verified and nothing was sent. */
export class PolicyError extends SubrosaError {
  /** Where in the document, from the outside in; undefined when the whole of it is meant. */
  readonly path: readonly (string | number)[] | undefined

  constructor(code: string, message: string, options: { cause?: unknown; path?: readonly (string | number)[] } = {}) {
    super(code, message, options)
    this.path = options.path
  }
}

/** An option or argument cannot be used. What to do: fix the call; nothing was verified and nothing was sent. */
export class UsageError extends SubrosaError {}

/** Something outside did not answer in time or at all. What to do: retry later; this is neither success nor rejection. */
export class UnavailableError extends SubrosaError {}

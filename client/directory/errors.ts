/** Errors of workers that verified and are not used all the same. */
import type { Check } from '../../verifier/checks.js'
import { printable } from '../../verifier/text.js'
import { SubrosaError } from '../errors.js'

/**
 * The worker is not what its provider lists: `directory.listing`. Nothing was sent.
 * What to do: use another; whoever lists it is mistaken or lies.
 */
export class ListingError extends SubrosaError {
  /** Ids of the checks that failed. */
  readonly checks: readonly string[]

  constructor(checks: readonly Check[]) {
    const failed = checks.filter(({ status }) => status === 'fail')
    super('directory.listing', printable(`not as listed: ${failed[0]?.reason} (${failed[0]?.id})`))
    this.checks = failed.map(({ id }) => id)
  }
}

/** Its evidence took longer than the intent allows, or than others that verified: `directory.slow`. What to do: allow more, or use another. */
export class TooSlowError extends SubrosaError {
  constructor(reason: string) {
    super('directory.slow', reason)
  }
}

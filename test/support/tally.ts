/** Counts the cases of one suite and prints one line of JSON about them, for whoever adds suites up. */
import { afterAll } from 'vitest'
import { withoutVectors } from './vectors.js'

/** Wraps a test's body so that it is counted. */
export type Counted = <A extends readonly unknown[]>(
  run: (...args: A) => Promise<void>,
) => (...args: A) => Promise<void>

/**
 * For a `describe` block over captured evidence. Prints `{suite, cases, passed, skipped, failed}` when it is over, or at once
 * where the evidence is absent and nothing will run. A case that is never run counts as skipped.
 */
export function tally(suite: string, cases: number): Counted {
  const counts = { passed: 0, failed: 0 }
  const print = (): void => {
    const { passed, failed } = counts
    console.log(JSON.stringify({ suite, cases, passed, skipped: cases - passed - failed, failed }))
  }
  if (withoutVectors) print()
  else afterAll(print)
  return (run) =>
    async (...args) => {
      try {
        await run(...args)
        counts.passed++
      } catch (error) {
        counts.failed++
        throw error
      }
    }
}

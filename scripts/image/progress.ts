/** Progress of long work on standard error: a bar that is redrawn on a terminal, a line now and then elsewhere. */
const BAR_CHARACTERS = 30
const LINE_EVERY_MS = 30_000

export interface Progress {
  step(): void
  end(): void
}

/** `expected` steps fill the bar; more of them leave it full but for its last character until `end`. */
export function createProgress(
  label: string,
  expected: number,
  output: Pick<NodeJS.WriteStream, 'write' | 'isTTY'> = process.stderr,
  now: () => number = () => performance.now(),
): Progress {
  const started = now()
  let steps = 0
  let shownAt = started
  const seconds = (): string => `${Math.round((now() - started) / 1000)} s`
  const bar = (): string => {
    const full = Math.min(BAR_CHARACTERS - 1, Math.floor((BAR_CHARACTERS * steps) / expected))
    return `${'#'.repeat(full)}${'.'.repeat(BAR_CHARACTERS - full)}`
  }
  output.write(`image: ${label}\n`)
  return {
    step() {
      steps++
      if (output.isTTY) output.write(`\r  [${bar()}] ${steps} steps, ${seconds()} `)
      else if (now() - shownAt >= LINE_EVERY_MS) {
        shownAt = now()
        output.write(`image: ${label}: ${steps} of about ${expected} steps, ${seconds()}\n`)
      }
    },
    end() {
      output.write(`${output.isTTY ? '\n' : ''}image: ${label}: ${seconds()}\n`)
    },
  }
}

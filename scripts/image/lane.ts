/** A lane of checks on real machines: each is run, named, and printed with what was seen; the last line is for machines. */
export interface Lane {
  /**
   * What `work` returns is printed beside the name; what it throws makes the check fail. Where the emulator itself broke down, which
   * says nothing of the guest, it is run once more, and a line says so.
   */
  check(name: string, work: () => Promise<string>): Promise<boolean>
  skip(name: string, reason: string): void
  /** Prints the tally; the exit status. */
  finish(): number
}

/** QEMU's words when it ends by an assertion of its own. */
const EMULATOR_BROKE_DOWN = /qemu-system-\S+: \S+:\d+: \S+ Assertion [^\n]+ failed\./

export function createLane(
  suite: string,
  write: (line: string) => void = (line) => void process.stdout.write(line),
): Lane {
  const started = performance.now()
  const tally = { suite, cases: 0, passed: 0, skipped: 0, failed: 0 }
  const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(1)} s`
  return {
    async check(name, work) {
      const begun = performance.now()
      tally.cases++
      try {
        const seen = await work().catch((error: unknown) => {
          if (!EMULATOR_BROKE_DOWN.test(String(error))) throw error
          write(`again ${name}: ${String(error)}\n`)
          return work()
        })
        tally.passed++
        write(`pass  ${name} (${seconds(begun)})${seen === '' ? '' : `: ${seen}`}\n`)
        return true
      } catch (error) {
        tally.failed++
        write(`FAIL  ${name} (${seconds(begun)}): ${error instanceof Error ? error.message : String(error)}\n`)
        return false
      }
    },
    skip(name, reason) {
      tally.cases++
      tally.skipped++
      write(`skip  ${name}: ${reason}\n`)
    },
    finish() {
      write(`${suite}: ${seconds(started)}\n${JSON.stringify(tally)}\n`)
      // A lane that asked nothing has shown nothing.
      return tally.failed === 0 && tally.cases > 0 ? 0 : 1
    },
  }
}

/**
 * The names that a lane was given, in the lane's order; all of them where none was given. Undefined, with a line that says which
 * was expected, when one of them is not known.
 */
export function namesGiven<Name extends string>(
  lane: string,
  all: readonly Name[],
  wanted: readonly string[],
  write: (line: string) => void = (line) => void process.stderr.write(line),
): readonly Name[] | undefined {
  const unknown = wanted.find((name) => !all.some((other) => other === name))
  if (unknown === undefined) return all.filter((name) => wanted.length === 0 || wanted.includes(name))
  write(`${lane}: expected ${all.join(', ')} or nothing, got ${unknown}\n`)
  return undefined
}

/** @throws Error saying what was expected and what came. */
export function expect(holds: boolean, expected: string, got: string): void {
  if (!holds) throw new Error(`expected ${expected}, got ${got}`)
}

/**
 * Every shared case through the command line: the exit status, the verdict and the first check that stands in the way are
 * the recorded ones, as they are for the library. Skipped, by name, without the evidence.
 */
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Check, EXIT_CODES, type Verdict } from '../../verifier/checks.js'
import { readCases as nvidiaCases } from '../gpu/cases.js'
import { readCases as snpCases } from '../snp/cases.js'
import { verifyAttestation } from '../support/command.js'
import { tally } from '../support/tally.js'
import { vectorPath, vectorsFolder, withoutVectors } from '../support/vectors.js'
import { readCases as tdxCases } from '../tdx/cases.js'
import { nvidiaCommand, type Place, snpCommand, tdxCommand } from './conformance.js'

interface Expected {
  readonly verdict: Verdict
  readonly firstFailing: string | null
}

interface Printed {
  readonly verdict: Verdict
  readonly exitCode: number
  readonly checks: readonly Check[]
}

let root = ''
/** Every check list printed, by command line. */
const lists = new Map<string, string>()
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'subrosa-conformance-'))
})
afterAll(() => {
  rmSync(root, { recursive: true, force: true })
  // The same on every version of Node, and so in this one line.
  const digest = createHash('sha256')
    .update(JSON.stringify([...lists].sort()))
    .digest('hex')
  if (!withoutVectors) console.log(JSON.stringify({ suite: 'cli.check-lists', cases: lists.size, digest }))
})

/** A folder of its own for every case. */
function placeOf(name: string): Place {
  return { vectors: vectorsFolder ?? '', folder: join(root, name.replaceAll('/', '_')) }
}

/** Failures before missing inputs; what was waived, or only waits for another check, is not in the way itself. */
function firstInTheWay(checks: readonly Check[]): string | null {
  const missing = ({ status, reason = '' }: Check) => status === 'skip' && !/^(waived: |needs )/.test(reason)
  return (checks.find(({ status }) => status === 'fail') ?? checks.find(missing))?.id ?? null
}

async function expectOutcome(argv: readonly string[], { verdict, firstFailing }: Expected): Promise<void> {
  const { status, stdout, stderr } = await verifyAttestation(...argv)
  const printed = stdout === '' ? undefined : (JSON.parse(stdout) as Printed)
  lists.set(
    argv.map((word) => word.replace(root, '')).join(' '),
    JSON.stringify(printed?.checks ?? null).replaceAll(root, ''),
  )
  expect({
    status,
    stderr,
    exitCode: printed?.exitCode,
    verdict: printed?.verdict,
    firstFailing: firstInTheWay(printed?.checks ?? []),
  }).toEqual({ status: EXIT_CODES[verdict], stderr: '', exitCode: EXIT_CODES[verdict], verdict, firstFailing })
}

describe.skipIf(withoutVectors)('captured SNP evidence on the command line (skipped without SUBROSA_VECTORS)', () => {
  const cases = snpCases()
  const counted = tally('snp.cli', cases.length)

  it.each(cases)(
    '%s',
    counted(async (name, c) => expectOutcome(snpCommand(placeOf(name), c), c)),
  )
})

describe.skipIf(withoutVectors)('captured TDX evidence on the command line (skipped without SUBROSA_VECTORS)', () => {
  const cases = tdxCases()
  const counted = tally('tdx.cli', cases.length)

  it.each(cases)(
    '%s',
    counted(async (name, c) => expectOutcome(tdxCommand(placeOf(name), c), c)),
  )

  it('a raw TDREPORT is called one, not a bad SNP report', async () => {
    const { status, stdout } = await verifyAttestation(vectorPath('tdx', 'tdreport-1024.bin'), '--offline')
    expect(status).toBe(3)
    expect(stdout.replace(/\s+/g, ' ')).toContain('raw TDREPORT, which nobody signed')
    expect(stdout).not.toMatch(/SNP|1184/)
  })
})

describe.skipIf(withoutVectors)(
  'captured NVIDIA evidence on the command line (skipped without SUBROSA_VECTORS)',
  () => {
    const cases = nvidiaCases()
    const counted = tally('nvidia.cli', cases.length)

    it.each(cases)(
      '%s',
      counted(async (name, c) => expectOutcome(nvidiaCommand(placeOf(name), c), c)),
    )
  },
)

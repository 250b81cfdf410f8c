/** A cold process, from the command line to a printed verdict. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { projectRoot, snpSample } from './inputs.js'
import { type Benchmark, type Contest, MissingInput } from './measure.js'

export const COLD_BENCHMARKS: readonly Benchmark[] = [
  {
    name: 'cli.cold',
    against:
      '`node -e 0`; ours is `verify-attestation` on a report with its chain and CRL, offline, both whole processes',
    target: 5,
    rounds: 21,
    prepare: againstNode,
  },
]

async function againstNode(): Promise<Contest> {
  const cli = join(projectRoot, 'dist', 'verifier', 'cli.js')
  if (!existsSync(cli)) throw new MissingInput('the command line tool is not built; npm run build')
  const { report, endorsements, at, rootsPem } = await snpSample()
  const folder = mkdtempSync(join(tmpdir(), 'subrosa-bench-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const put = (name: string, contents: Uint8Array | string): string => {
    const path = join(folder, basename(name))
    writeFileSync(path, contents)
    return path
  }
  const flags = ['--offline', '--any-measurement', '--tcb-floor', 'none', '--at', at.toISOString()]
  const anchor = rootsPem === undefined ? [] : ['--trust-anchor', put('root.pem', rootsPem)]
  const files = endorsements.map(({ name, bytes }) => put(name, bytes))
  const line = [cli, put('report.bin', report), ...flags, ...anchor, '--endorsements', ...files]
  return { ours: () => run(line), theirs: () => run(['-e', '0']) }
}

function run(line: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync(process.execPath, line, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`node ${line[0]} ended with status ${status}: ${stderr || stdout}`)
}

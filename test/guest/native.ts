/** Compiles the stand-ins for a guest's kernel and GPU library, and runs the worker's own compiled code against them. */
import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** Why the tests that need a compiler are skipped; undefined where they run. */
export const withoutCompiler: boolean = spawnSync('gcc', ['--version']).status !== 0

let folder: string | undefined

/** A shared library made of a file of this folder. */
export function compile(source: 'fake-guest.c' | 'fake-nvml.c'): string {
  return compiled(join(import.meta.dirname, source), source.replace(/\.c$/, '.so'), ['-shared', '-fPIC'])
}

/** A program made of a file of the image's guest. */
export function compileProgram(source: 'gpu-ready.c'): string {
  const file = join(import.meta.dirname, '../../scripts/image/guest', source)
  return compiled(file, source.replace(/\.c$/, ''), [])
}

function compiled(source: string, name: string, more: readonly string[]): string {
  folder ??= mkdtempSync(join(tmpdir(), 'subrosa-native-'))
  const out = join(folder, name)
  const flags = ['-std=gnu11', ...more, '-O1', '-Wall', '-Wextra', '-Werror', '-o', out]
  const { status, stderr } = spawnSync('gcc', [...flags, source, '-ldl'])
  if (status !== 0) throw new Error(`expected ${source} to compile, got ${stderr.toString()}`)
  return out
}

const dist = join(import.meta.dirname, '../../dist')

/**
 * Runs the body of an async function in a process of its own, with `load(path)` for modules of `dist`, and returns what it
 * returned; byte arrays come back as hex. Errors come back as `{ error: code, message }`.
 */
export async function inGuest<T>(body: string, environment: Readonly<Record<string, string>>): Promise<T> {
  const program = `
    const load = (path) => import(${JSON.stringify(`${dist}/`)} + path)
    const work = async () => { ${body} }
    const out = await work().catch((error) => ({ error: error.code, message: error.message }))
    const plain = (_, value) => value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value
    process.stdout.write(JSON.stringify(out ?? null, plain))`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], {
    env: { ...process.env, ...environment },
    maxBuffer: 64 * 1024 * 1024,
  })
  return JSON.parse(stdout) as T
}

